//! What the application of a simulated device is made of, as options say it.

use core::time::Duration;
use spark_sim::{Answer, Content, Program, ProgramError, Publication, Sender};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shorter periods are of no use: a device publishes four times in a second at the most.
const SHORTEST_PERIOD: f64 = 0.05;
/// Longer ones are for nobody.
const LONGEST_PERIOD: f64 = 1e6;

/// A function: `NAME`, or `NAME=RESULT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionOption {
    name: String,
    answer: Answer,
}

/// A variable: `NAME=TYPE:VALUE` or `NAME=VALUE`.
#[derive(Clone, PartialEq, Debug)]
pub struct VariableOption {
    name: String,
    content: Content,
}

/// An event that is published again and again: `NAME[=DATA]@SECONDS`.
#[derive(Clone, PartialEq, Debug)]
pub struct Periodic {
    /// Its name.
    pub name: String,
    /// Its data, where `{n}` stands for a counter from 1 and `{t}` for the time in microseconds since 1970.
    pub data: Option<String>,
    /// From one to the next.
    pub every: Duration,
    /// Everybody may see it.
    pub public: bool,
    /// The server is to acknowledge it.
    pub acknowledged: bool,
}

impl Periodic {
    /// A private event without acknowledgement.
    #[must_use]
    pub fn new(name: &str, data: &str, every: Duration) -> Self {
        let data = Some(data.to_owned());
        Self { name: name.to_owned(), data, every, public: false, acknowledged: false }
    }

    /// The data of the `n`-th one.
    #[must_use]
    pub fn data(&self, n: u64) -> Option<String> {
        let data = self.data.as_ref()?;
        let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let data = data.replace("{n}", &n.to_string());
        Some(if data.contains("{t}") { data.replace("{t}", &since().to_string()) } else { data })
    }

    pub(super) fn publication<'a>(&'a self, data: Option<&'a str>) -> Publication<'a> {
        Publication {
            data: data.map(str::as_bytes),
            public: self.public,
            acknowledged: self.acknowledged,
            ..Publication::new(&self.name, &[])
        }
    }
}

/// Reads `NAME`, which gives the length of the argument, `NAME=echo`, or `NAME=INTEGER`.
pub(super) fn function(text: &str) -> Result<FunctionOption, String> {
    let (name, answer) = match text.split_once('=') {
        None | Some((_, "length")) => (text.split('=').next().unwrap_or(text), Answer::Length),
        Some((name, "echo")) => (name, Answer::Echo),
        Some((name, number)) => {
            let number = number
                .parse()
                .map_err(|_| format!("{number:?} is no result: an integer, `length` or `echo`"))?;
            (name, Answer::Constant(number))
        }
    };
    Ok(FunctionOption { name: name.to_owned(), answer })
}

/// Reads `NAME=TYPE:VALUE`; without a type, the first that fits of bool, int, double and string.
pub(super) fn variable(text: &str) -> Result<VariableOption, String> {
    let (name, value) =
        text.split_once('=').ok_or("a variable needs a value: NAME=VALUE or NAME=TYPE:VALUE")?;
    let wrong = |kind: &str, value: &str| format!("{value:?} is no {kind}");
    let content = match value.split_once(':') {
        Some(("bool", value)) => {
            Content::Bool(value.parse().map_err(|_| wrong("bool (true, false)", value))?)
        }
        Some(("int", value)) => Content::Int(value.parse().map_err(|_| wrong("int of 32 bits", value))?),
        Some(("double", value)) => Content::Double(value.parse().map_err(|_| wrong("double", value))?),
        Some(("string", value)) => Content::String(value.to_owned()),
        _ => value
            .parse()
            .map(Content::Bool)
            .or_else(|_| value.parse().map(Content::Int))
            .or_else(|_| value.parse().map(Content::Double))
            .unwrap_or_else(|_| Content::String(value.to_owned())),
    };
    Ok(VariableOption { name: name.to_owned(), content })
}

/// Reads `NAME[=DATA]@SECONDS`.
pub(super) fn event(text: &str) -> Result<Periodic, String> {
    let (event, seconds) = text.rsplit_once('@').ok_or("an event needs a period: NAME@SECONDS")?;
    let every: f64 = seconds.parse().map_err(|_| format!("{seconds:?} is no number of seconds"))?;
    if !(SHORTEST_PERIOD..=LONGEST_PERIOD).contains(&every) {
        return Err(format!("a period is {SHORTEST_PERIOD} s to {LONGEST_PERIOD} s"));
    }
    let (name, data) = match event.split_once('=') {
        Some((name, data)) => (name, Some(data.to_owned())),
        None => (event, None),
    };
    if name.is_empty() {
        return Err("an event needs a name".to_owned());
    }
    let every = Duration::from_secs_f64(every);
    Ok(Periodic { name: name.to_owned(), data, every, public: false, acknowledged: false })
}

/// Tinker and what the options add to it.
///
/// # Errors
/// [`ProgramError`].
pub fn program(
    functions: &[FunctionOption],
    variables: &[VariableOption],
    subscriptions: &[String],
) -> Result<Program, ProgramError> {
    let mut program = Program::default();
    for FunctionOption { name, answer } in functions {
        program.add_function(name, *answer)?;
    }
    for VariableOption { name, content } in variables {
        program.add_variable(name, content.clone())?;
    }
    for prefix in subscriptions {
        program.add_subscription(prefix, Sender::MyDevices)?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_read_with_their_results() {
        let answer = |text| function(text).map(|function| (function.name, function.answer));
        assert_eq!(answer("brew"), Ok(("brew".to_owned(), Answer::Length)));
        assert_eq!(answer("brew=length"), Ok(("brew".to_owned(), Answer::Length)));
        assert_eq!(answer("brew=echo"), Ok(("brew".to_owned(), Answer::Echo)));
        assert_eq!(answer("brew=-3"), Ok(("brew".to_owned(), Answer::Constant(-3))));
        assert!(answer("brew=coffee").unwrap_err().contains("coffee"));
    }

    #[test]
    fn types_of_variables_are_told_or_guessed() {
        let content = |text| variable(text).map(|variable| variable.content);
        for (text, expected) in [
            ("v=bool:true", Content::Bool(true)),
            ("v=int:-5", Content::Int(-5)),
            ("v=double:1e3", Content::Double(1000.0)),
            ("v=string:7", Content::String("7".to_owned())),
            ("v=true", Content::Bool(true)),
            ("v=7", Content::Int(7)),
            ("v=21.5", Content::Double(21.5)),
            ("v=3000000000", Content::Double(3e9)),
            ("v=a:b", Content::String("a:b".to_owned())),
            ("v=", Content::String(String::new())),
        ] {
            assert_eq!(content(text), Ok(expected), "{text}");
        }
        for text in ["v", "v=int:x", "v=bool:1", "v=double:", "v=int:3000000000"] {
            assert!(content(text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_have_a_name_a_period_and_perhaps_data() {
        let read = event("temp/room=n{n}@home@1.5").unwrap();
        assert_eq!((read.name.as_str(), read.every), ("temp/room", Duration::from_millis(1500)));
        assert_eq!(read.data(3).unwrap(), "n3@home");
        assert_eq!(event("ping@10").unwrap().data(1), None);
        let stamped = event("t={t}@1").unwrap().data(1).unwrap();
        assert!(stamped.parse::<u128>().unwrap() > 1_600_000_000_000_000);
        for text in ["temp", "temp@", "temp@0", "temp@-1", "temp@nan", "temp@1e9", "=1@1", "@1"] {
            assert!(event(text).is_err(), "{text}");
        }
    }
}
