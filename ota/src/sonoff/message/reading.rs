//! How a device reads JSON.

use super::{MessageError, object};
use crate::sonoff::limits;
use crate::sonoff::secret::Hidden;
use core::fmt;

/// A message as the device's streaming parser sees it: the first occurrence of a name counts, wherever it is.
///
/// ```
/// use spark_ota::sonoff::message::Reading;
///
/// let json = br#"{"config":{"apikey":"inner"},"apikey":"outer","error":0}"#;
/// let reading = Reading::new(json)?;
/// assert_eq!(reading.text("apikey"), Some("inner"));
/// assert_eq!(reading.number("error"), Some(0));
/// # Ok::<(), spark_ota::sonoff::message::MessageError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    json: &'a str,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&Hidden(self.json.as_bytes())).finish()
    }
}

/// Something that devices are known to have trouble with. The vendor's server writes 0 and 1 instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Trouble {
    /// `{}` or `[]`.
    Empty,
    /// `null`, `true` or `false`.
    Word,
    /// An escape in a text.
    Escape,
}

impl Trouble {
    /// In words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Empty => "an empty object or list: say 0",
            Self::Word => "null, true and false: say 0 or 1",
            Self::Escape => "an escape in a text",
        }
    }
}

/// An entry of `binList`, texts of any length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryReading<'a> {
    /// `name`.
    pub name: Option<&'a str>,
    /// `downloadUrl`.
    pub download_url: Option<&'a str>,
    /// `digest`.
    pub digest: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Open,
    Close,
    /// Between quotes, escapes as they are.
    Text(&'a str),
    /// A number or a word.
    Bare(&'a str),
    Colon,
    Comma,
}

#[derive(Clone, Copy)]
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let mut chars = text.chars();
        let first = chars.next()?;
        self.rest = chars.as_str();
        Some(match first {
            '{' | '[' => Token::Open,
            '}' | ']' => Token::Close,
            ':' => Token::Colon,
            ',' => Token::Comma,
            '"' => {
                let mut escaped = false;
                let end = self.rest.bytes().position(|byte| {
                    let ends = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    ends
                })?;
                let (inside, behind) = self.rest.split_at_checked(end)?;
                self.rest = behind.strip_prefix('"')?;
                Token::Text(inside)
            }
            _ => {
                let end = text.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
                let (bare, behind) = text.split_at_checked(end)?;
                self.rest = behind;
                Token::Bare(bare)
            }
        })
    }
}

impl<'a> Reading<'a> {
    /// Takes a JSON object of at most 2044 bytes.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn new(json: &'a [u8]) -> Result<Self, MessageError> {
        object(json, limits::SERVER_MESSAGE)?;
        // JSON is UTF-8.
        core::str::from_utf8(json).map(|json| Self { json }).map_err(|_| MessageError::NotJson { column: 0 })
    }

    fn tokens(self) -> Tokens<'a> {
        Tokens { rest: self.json }
    }

    /// What follows the first occurrence of a name.
    fn first(self, name: &str) -> Option<Tokens<'a>> {
        let mut tokens = self.tokens();
        while let Some(token) = tokens.next() {
            let mut behind = tokens;
            if token == Token::Text(name) && behind.next() == Some(Token::Colon) {
                return Some(behind);
            }
        }
        None
    }

    /// The name is there, with whatever value.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The text of that name.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        match self.first(name)?.next()? {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of that name, not one in quotes.
    #[must_use]
    pub fn number(self, name: &str) -> Option<i64> {
        match self.first(name)?.next()? {
            Token::Bare(number) => number.parse().ok(),
            _ => None,
        }
    }

    /// What is behind the bracket of the list of that name.
    fn inside(self, list: &str) -> Option<Tokens<'a>> {
        let mut tokens = self.first(list)?;
        (tokens.next()? == Token::Open).then_some(tokens)
    }

    /// The texts in the list of that name.
    pub fn list(self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let tokens = self.inside(name).into_iter().flatten();
        tokens.take_while(|token| *token != Token::Close).filter_map(|token| match token {
            Token::Text(text) => Some(text),
            _ => None,
        })
    }

    /// The objects in the list of that name.
    pub fn objects(self, name: &str) -> impl Iterator<Item = Self> + use<'a> {
        let mut tokens = self.inside(name);
        core::iter::from_fn(move || {
            let tokens = tokens.as_mut()?;
            // A comma, or the end.
            while tokens.next()? != Token::Open {}
            let start = tokens.rest;
            let mut depth = 1_usize;
            while depth > 0 {
                match tokens.next()? {
                    Token::Open => depth += 1,
                    Token::Close => depth -= 1,
                    _ => {}
                }
            }
            start.get(..start.len() - tokens.rest.len()).map(|json| Self { json })
        })
    }

    /// The entries of `binList` in their order.
    pub fn entries(self) -> impl Iterator<Item = EntryReading<'a>> + use<'a> {
        self.objects("binList").map(|object| EntryReading {
            name: object.text("name"),
            download_url: object.text("downloadUrl"),
            digest: object.text("digest"),
        })
    }

    /// The first thing that devices are known to have trouble with.
    #[must_use]
    pub fn trouble(self) -> Option<Trouble> {
        let mut last = None;
        for token in self.tokens() {
            match token {
                Token::Close if last == Some(Token::Open) => return Some(Trouble::Empty),
                Token::Bare("null" | "true" | "false") => return Some(Trouble::Word),
                Token::Text(text) if text.contains('\\') => return Some(Trouble::Escape),
                _ => {}
            }
            last = Some(token);
        }
        None
    }

    /// A name that the device looks for at the top and that is there more than once, so that the wrong one may count.
    #[must_use]
    pub fn repeated(self) -> Option<&'static str> {
        RESERVED.into_iter().find(|name| {
            let Some(behind) = self.first(name) else { return false };
            // The name is gone from what is behind it, so a first occurrence there is a second one.
            Self { json: behind.rest }.first(name).is_some()
        })
    }
}

/// Names that must not be used at deeper levels.
pub(super) const RESERVED: [&str; 9] =
    ["apikey", "deviceid", "action", "error", "params", "date", "sequence", "IP", "port"];
