//! The application on the simulated Photon: what the vendor ships, Tinker, or what the caller makes up.
//!
//! A real module cannot run here. Whatever application is installed, this stands for it while it would run.

use coap_spark::connection::Limits;
use coap_spark::handshake::DeviceId;
use coap_spark::message::{Scope, Value, VariableType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Room that firmware has.
const MAX_FUNCTIONS: usize = 15;
const MAX_VARIABLES: usize = 20;
const MAX_SUBSCRIPTIONS: usize = 4;
/// Longest string that a variable is sent with: what is left of a frame.
const MAX_STRING: usize = 777;

/// Why an application cannot have one more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// As many as firmware has room for.
    #[error("an application has at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The room.
        limit: usize,
    },
    /// There is one of this name.
    #[error("there is already a {what} {name:?}")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A name has 1 to 64 bytes.
    #[error("{name:?} is no name of a {what}: 1 to {limit} bytes")]
    Name {
        /// What it is.
        what: &'static str,
        /// The name.
        name: String,
        /// Most bytes.
        limit: usize,
    },
}

/// What a function gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Always the same.
    Constant(i32),
    /// The number of bytes in its argument.
    Length,
    /// Its argument, a decimal integer; -1 for anything else.
    Echo,
}

impl Answer {
    fn of(self, argument: &[u8]) -> i32 {
        match self {
            Self::Constant(value) => value,
            Self::Length => i32::try_from(argument.len()).unwrap_or(i32::MAX),
            Self::Echo => {
                core::str::from_utf8(argument).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(-1)
            }
        }
    }
}

/// Value of a variable.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Content {
    /// A bool.
    Bool(bool),
    /// An int.
    Int(i32),
    /// A string, sent up to what fits a frame.
    String(String),
    /// A double.
    Double(f64),
}

impl Content {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> VariableType {
        self.value().kind()
    }

    /// As it is sent.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Double(value) => Value::Double(*value),
            Self::String(text) => Value::String(&text.as_bytes()[..text.len().min(MAX_STRING)]),
        }
    }
}

/// Whose events an application wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Sender {
    /// Everybody's public events.
    All,
    /// The owner's devices.
    MyDevices,
    /// One device.
    Device(DeviceId),
}

impl Sender {
    pub(crate) const fn scope(self) -> Scope<'static> {
        match self {
            Self::All => Scope::All,
            Self::MyDevices => Scope::MyDevices,
            Self::Device(id) => Scope::Device(id),
        }
    }
}

/// A subscription of the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Begins the names of the events.
    pub prefix: String,
    /// Whose.
    pub sender: Sender,
}

/// What an application is made of; many devices can have the same.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    has_tinker: bool,
    functions: Vec<(String, Answer)>,
    variables: Vec<(String, Content)>,
    subscriptions: Vec<Subscription>,
}

impl Default for Program {
    /// Tinker.
    fn default() -> Self {
        Self { has_tinker: true, ..Self::empty() }
    }
}

impl Program {
    /// An application that does nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self { has_tinker: false, functions: Vec::new(), variables: Vec::new(), subscriptions: Vec::new() }
    }

    /// Adds a function.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn add_function(&mut self, name: &str, answer: Answer) -> Result<(), ProgramError> {
        let (what, limit) = ("function", usize::from(Limits::V0_8_0.function_name));
        let taken = self.functions().any(|taken| taken == name);
        check(what, name, limit, taken)?;
        room("functions", self.functions().count(), MAX_FUNCTIONS)?;
        self.functions.push((name.to_owned(), answer));
        Ok(())
    }

    /// Adds a variable.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn add_variable(&mut self, name: &str, content: Content) -> Result<(), ProgramError> {
        let (what, limit) = ("variable", usize::from(Limits::V0_8_0.variable_name));
        check(what, name, limit, self.variables.iter().any(|(taken, _)| taken == name))?;
        room("variables", self.variables.len(), MAX_VARIABLES)?;
        self.variables.push((name.to_owned(), content));
        Ok(())
    }

    /// Adds a subscription. An empty prefix is taken for the owner's devices only.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn add_subscription(&mut self, prefix: &str, sender: Sender) -> Result<(), ProgramError> {
        let (what, limit) = ("subscription", usize::from(Limits::V0_8_0.subscription));
        let subscription = Subscription { prefix: prefix.to_owned(), sender };
        if !(prefix.is_empty() && sender == Sender::MyDevices) {
            check(what, prefix, limit, self.subscriptions.contains(&subscription))?;
        }
        room("subscriptions", self.subscriptions.len(), MAX_SUBSCRIPTIONS)?;
        self.subscriptions.push(subscription);
        Ok(())
    }

    /// Names of its functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        let tinker = if self.has_tinker { Application::FUNCTIONS } else { &[] };
        tinker.iter().copied().chain(self.functions.iter().map(|(name, _)| name.as_str()))
    }

    /// Its variables.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.variables.iter().map(|(name, content)| (name.as_str(), content))
    }

    /// Its subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }
}

fn check(what: &'static str, name: &str, limit: usize, taken: bool) -> Result<(), ProgramError> {
    if name.is_empty() || name.len() > limit {
        return Err(ProgramError::Name { what, name: name.to_owned(), limit });
    }
    if taken { Err(ProgramError::Twice { what, name: name.to_owned() }) } else { Ok(()) }
}

const fn room(what: &'static str, count: usize, limit: usize) -> Result<(), ProgramError> {
    if count < limit { Ok(()) } else { Err(ProgramError::TooMany { what, limit }) }
}

/// A name as firmware keeps it: cut to its limit.
pub(crate) fn cut(name: &str, limit: u16) -> &[u8] {
    let bytes = name.as_bytes();
    &bytes[..bytes.len().min(usize::from(limit))]
}

/// A program that runs, with what it remembers until the next reset: four functions over pins as in the vendor's
/// default application, or what the [`Program`] says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Application {
    program: Arc<Program>,
    pins: BTreeMap<String, i32>,
}

impl Application {
    /// Names of Tinker's functions.
    pub const FUNCTIONS: &'static [&'static str] =
        &["digitalread", "digitalwrite", "analogread", "analogwrite"];

    /// Starts a program.
    #[must_use]
    pub const fn new(program: Arc<Program>) -> Self {
        Self { program, pins: BTreeMap::new() }
    }

    /// What it is made of.
    #[must_use]
    pub const fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Calls a function; -1 for what it does not understand, as Tinker does.
    ///
    /// ```
    /// use spark_sim::Application;
    ///
    /// let mut tinker = Application::default();
    /// assert_eq!(tinker.call(b"digitalwrite", b"D7,HIGH"), 1);
    /// assert_eq!(tinker.call(b"digitalread", b"D7"), 1);
    /// assert_eq!(tinker.call(b"digitalread", b"Q9"), -1);
    /// ```
    pub fn call(&mut self, name: &[u8], argument: &[u8]) -> i32 {
        self.call_cut(name, argument, u16::MAX)
    }

    /// The same, by names as firmware has cut them.
    pub(crate) fn call_cut(&mut self, name: &[u8], argument: &[u8], limit: u16) -> i32 {
        let is_it = |own: &str| cut(own, limit) == name;
        if let Some((_, answer)) = self.program.functions.iter().find(|(own, _)| is_it(own)) {
            return answer.of(argument);
        }
        if self.program.has_tinker { self.tinker(name, argument) } else { -1 }
    }

    /// The value of a variable, by its name as firmware has cut it.
    pub(crate) fn variable(&self, name: &[u8], limit: u16) -> Option<&Content> {
        // What the server asks for is cut as well.
        let name = &name[..name.len().min(usize::from(limit))];
        self.program.variables().find(|(own, _)| cut(own, limit) == name).map(|(_, content)| content)
    }

    fn tinker(&mut self, name: &[u8], argument: &[u8]) -> i32 {
        let Ok(argument) = core::str::from_utf8(argument) else { return -1 };
        let (pin, value) = match argument.split_once([',', ' ']) {
            Some((pin, value)) => (pin, Some(value)),
            None => (argument, None),
        };
        let is_pin = matches!(pin.as_bytes(), [b'D' | b'A', b'0'..=b'7']);
        let value = value.map(|value| match value {
            "HIGH" => Ok(1),
            "LOW" => Ok(0),
            number => number.parse(),
        });
        match (name, is_pin, value) {
            (b"digitalwrite", true, Some(Ok(level @ (0 | 1)))) => self.write(pin, level),
            (b"analogwrite", true, Some(Ok(level @ 0..=255))) => self.write(pin, level),
            (b"digitalread", true, None) => i32::from(self.read(pin) != 0),
            (b"analogread", true, None) => self.read(pin),
            _ => -1,
        }
    }

    fn write(&mut self, pin: &str, level: i32) -> i32 {
        self.pins.insert(pin.to_owned(), level);
        1
    }

    fn read(&self, pin: &str) -> i32 {
        self.pins.get(pin).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_answer_as_they_are_told() {
        let mut program = Program::default();
        program.add_function("brew", Answer::Constant(42)).unwrap();
        program.add_function("length", Answer::Length).unwrap();
        program.add_function("echoes-its-argument", Answer::Echo).unwrap();
        let mut application = Application::new(Arc::new(program));
        assert_eq!(application.call(b"brew", b""), 42);
        assert_eq!(application.call(b"length", b"coffee"), 6);
        assert_eq!(application.call(b"echoes-its-argument", b" -7 "), -7);
        assert_eq!(application.call(b"echoes-its-argument", b"7a"), -1);
        assert_eq!(application.call(b"echoes-its-a", b"7"), -1);
        assert_eq!(application.call_cut(b"echoes-its-a", b"7", 12), 7);
        assert_eq!(application.call(b"nothing", b""), -1);
        assert_eq!(application.program().functions().count(), 7);
    }

    #[test]
    fn programs_keep_to_the_room_of_firmware() {
        let mut program = Program::empty();
        for at in 0..MAX_VARIABLES {
            program.add_variable(&format!("v{at}"), Content::Bool(true)).unwrap();
        }
        let full = ProgramError::TooMany { what: "variables", limit: MAX_VARIABLES };
        assert_eq!(program.add_variable("more", Content::Int(1)), Err(full));
        program.add_function("f", Answer::Length).unwrap();
        assert!(matches!(program.add_function("f", Answer::Echo), Err(ProgramError::Twice { .. })));
        assert!(matches!(program.add_function("", Answer::Echo), Err(ProgramError::Name { .. })));
        assert!(matches!(
            program.add_function(&"n".repeat(65), Answer::Echo),
            Err(ProgramError::Name { .. })
        ));
        assert!(matches!(program.add_subscription("", Sender::All), Err(ProgramError::Name { .. })));
        program.add_subscription("", Sender::MyDevices).unwrap();
        for at in 1..MAX_SUBSCRIPTIONS {
            program.add_subscription(&format!("s{at}"), Sender::All).unwrap();
        }
        assert!(matches!(program.add_subscription("more", Sender::All), Err(ProgramError::TooMany { .. })));
    }
}
