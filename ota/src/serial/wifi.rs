//! The dialogue about Wi-Fi, from the host's side.

use super::text;
use core::fmt;
use core::time::Duration;

/// How a network is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Security {
    /// Not at all.
    Open,
    /// WEP.
    Wep,
    /// WPA.
    Wpa,
    /// WPA2.
    Wpa2,
}

impl Security {
    /// The digit for it.
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Open => b'0',
            Self::Wep => b'1',
            Self::Wpa => b'2',
            Self::Wpa2 => b'3',
        }
    }

    /// By its digit; 4 and 5, WPA and WPA2 for enterprises, are not supported.
    #[must_use]
    pub const fn from_digit(digit: u8) -> Option<Self> {
        match digit {
            b'0' => Some(Self::Open),
            b'1' => Some(Self::Wep),
            b'2' => Some(Self::Wpa),
            b'3' => Some(Self::Wpa2),
            _ => None,
        }
    }

    /// It has a cipher.
    #[must_use]
    pub const fn has_cipher(self) -> bool {
        matches!(self, Self::Wpa | Self::Wpa2)
    }
}

/// The cipher of WPA and WPA2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Cipher {
    /// AES.
    #[default]
    Aes,
    /// TKIP.
    Tkip,
    /// Both.
    AesTkip,
}

impl Cipher {
    /// The digit for it.
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Aes => b'1',
            Self::Tkip => b'2',
            Self::AesTkip => b'3',
        }
    }

    /// By its digit.
    #[must_use]
    pub const fn from_digit(digit: u8) -> Option<Self> {
        match digit {
            b'1' => Some(Self::Aes),
            b'2' => Some(Self::Tkip),
            b'3' => Some(Self::AesTkip),
            _ => None,
        }
    }
}

/// A network and its key. `Debug` leaves out the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Name of the network, 1 to 32 bytes.
    pub ssid: &'a [u8],
    /// Its protection.
    pub security: Security,
    /// Its cipher, if the protection has one.
    pub cipher: Cipher,
    /// Its key. **Secret.**
    pub password: &'a [u8],
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ssid", &self.ssid)
            .field("security", &self.security)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

/// Why credentials cannot be those of a network, or cannot be typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Names have 1 to 32 bytes.
    #[error("the name of a network has 1 to 32 bytes, this one has {length}")]
    Ssid {
        /// Bytes.
        length: usize,
    },
    /// The key does not fit the protection.
    #[error("{rule}, and this password has {length} characters")]
    Password {
        /// Bytes.
        length: usize,
        /// What would fit.
        rule: &'static str,
    },
    /// A line end or another control character would end the answer.
    #[error("{what} has a control character")]
    Control {
        /// Which one.
        what: &'static str,
    },
}

impl Credentials<'_> {
    /// Longest answer of the dialogue.
    pub const MAX_ANSWER: usize = 64;

    /// Checks lengths and characters.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn check(&self) -> Result<(), CredentialsError> {
        let length = self.ssid.len();
        if !(1..=32).contains(&length) {
            return Err(CredentialsError::Ssid { length });
        }
        let length = self.password.len();
        let (fits, rule) = match self.security {
            Security::Open => (length == 0, "an unsecured network has no password"),
            Security::Wep => (
                matches!(length, 5 | 10 | 13 | 26),
                "a WEP password has 5 or 13 characters or 10 or 26 hex digits",
            ),
            Security::Wpa | Security::Wpa2 => {
                ((8..=Self::MAX_ANSWER).contains(&length), "a WPA password has 8 to 64 characters")
            }
        };
        if !fits {
            return Err(CredentialsError::Password { length, rule });
        }
        for (what, bytes) in [("the name of the network", self.ssid), ("the password", self.password)] {
            if bytes.iter().any(u8::is_ascii_control) {
                return Err(CredentialsError::Control { what });
            }
        }
        Ok(())
    }
}

/// A question of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Prompt {
    /// Name of the network.
    Ssid,
    /// Protection.
    Security,
    /// Cipher.
    Cipher,
    /// Key.
    Password,
}

/// Why the device did not take the credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WifiFailure {
    /// It did not ask for anything.
    #[error("the device did not ask for a network")]
    NotAsked,
    /// It stopped in the middle.
    #[error("the device went silent after the answer to {after:?}")]
    Silent {
        /// Behind which answer.
        after: Prompt,
    },
    /// It could not save the network.
    #[error("the device could not save the network")]
    NotSaved,
    /// It took all answers, and did not say whether it could save the network.
    #[error("the device took the network and did not say that it has saved it")]
    Unconfirmed,
    /// It asks the same again and again.
    #[error("the device does not take the answer to {prompt:?}")]
    NotTaken {
        /// Which.
        prompt: Prompt,
    },
}

/// Longest wait for the next question.
const PATIENCE: Duration = Duration::from_secs(5);
/// A prompt is one when nothing follows it for this long.
const SETTLED: Duration = Duration::from_millis(100);
/// Saving takes its time.
const SAVING: Duration = Duration::from_secs(10);
/// The same prompt comes at most so often.
const REPEATS: u8 = 3;
/// End of what the device said: longer than any prompt.
const TAIL: usize = 160;

/// Gives a network to a device in listening mode.
#[derive(Clone)]
pub struct WifiSetup<'a> {
    credentials: Credentials<'a>,
    /// The end of the line that the device is saying.
    tail: [u8; TAIL],
    len: usize,
    /// The line may be the echo of the answer.
    echo: bool,
    /// It has all it asked for.
    thanked: bool,
    answer: [u8; Credentials::MAX_ANSWER + 1],
    answer_len: usize,
    asked: Option<Prompt>,
    repeats: u8,
    settled: Option<Duration>,
    limit: Duration,
    outcome: Option<Result<(), WifiFailure>>,
}

impl<'a> WifiSetup<'a> {
    /// Checks the credentials; then poll the output.
    ///
    /// # Errors
    /// [`CredentialsError`], before anything is sent.
    pub fn new(now: Duration, credentials: Credentials<'a>) -> Result<Self, CredentialsError> {
        credentials.check()?;
        let mut setup = Self {
            credentials,
            tail: [0; TAIL],
            len: 0,
            echo: false,
            thanked: false,
            answer: [0; Credentials::MAX_ANSWER + 1],
            answer_len: 0,
            asked: None,
            repeats: 0,
            settled: None,
            limit: now.saturating_add(PATIENCE),
            outcome: None,
        };
        setup.answer[0] = b'w';
        setup.answer_len = 1;
        Ok(setup)
    }

    /// The result, once there is one. After a success the device leaves listening mode.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<(), WifiFailure>> {
        self.outcome
    }

    /// What to send next. **Secret:** it may be the password.
    pub fn poll_output(&mut self) -> Option<&[u8]> {
        let len = core::mem::take(&mut self.answer_len);
        self.answer.get(..len).filter(|answer| !answer.is_empty())
    }

    /// Takes what the device said and tells how many bytes it has taken: all, unless there is an outcome.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.outcome.is_some() {
                return at;
            }
            if matches!(byte, b'\r' | b'\n') {
                self.whole_line(now);
                continue;
            }
            if self.len == TAIL {
                self.tail.copy_within(1.., 0);
                self.len -= 1;
            }
            if let Some(place) = self.tail.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
        if !bytes.is_empty() {
            self.settled = Some(now.saturating_add(SETTLED));
        }
        bytes.len()
    }

    fn line(&self) -> &[u8] {
        self.tail.get(..self.len).unwrap_or_default().trim_ascii()
    }

    /// What was answered may look like anything that the device says.
    fn is_echo(&self) -> bool {
        let answer = self.answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        self.echo && answer.trim_ascii().starts_with(self.line())
    }

    fn whole_line(&mut self, now: Duration) {
        let line = self.line();
        let begins = |mark: &[u8]| line.starts_with(mark);
        if !self.is_echo() && self.asked.is_some() {
            if begins(b"Awesome") || line.ends_with(b" <3 you!") {
                self.outcome = Some(Ok(()));
            } else if begins(b"Derp") {
                self.outcome = Some(Err(WifiFailure::NotSaved));
            } else if begins(b"Thanks") {
                self.thanked = true;
                self.limit = now.saturating_add(SAVING);
            }
        }
        (self.len, self.echo) = (0, false);
    }

    /// The prompt that the device has said, if it has not said more.
    fn prompt(&self) -> Option<Prompt> {
        let line = Some(self.line()).filter(|line| !self.is_echo() && line.ends_with(b":"))?;
        [
            (text::SSID, Prompt::Ssid),
            ("Security Cipher", Prompt::Cipher),
            ("Security 0=", Prompt::Security),
            (text::PASSWORD, Prompt::Password),
        ]
        .into_iter()
        .find_map(|(mark, prompt)| line.starts_with(mark.trim_ascii_end().as_bytes()).then_some(prompt))
    }

    /// When [`WifiSetup::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.outcome.is_none().then(|| self.settled.map_or(self.limit, |settled| settled.min(self.limit)))
    }

    /// The deadline has come: the device waits for an answer, has taken all, or is gone. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.settled.take().is_some_and(|settled| now >= settled)
            && let Some(prompt) = self.prompt()
        {
            self.answer(now, prompt);
            return;
        }
        if now >= self.limit {
            self.outcome = Some(Err(match self.asked {
                Some(_) if self.thanked => WifiFailure::Unconfirmed,
                Some(after) => WifiFailure::Silent { after },
                None => WifiFailure::NotAsked,
            }));
        }
    }

    fn answer(&mut self, now: Duration, prompt: Prompt) {
        self.repeats = if self.asked == Some(prompt) { self.repeats + 1 } else { 0 };
        if self.repeats == REPEATS {
            self.outcome = Some(Err(WifiFailure::NotTaken { prompt }));
            return;
        }
        self.asked = Some(prompt);
        (self.len, self.echo) = (0, true);
        let Credentials { ssid, security, cipher, password } = self.credentials;
        let (security, cipher) = ([security.digit()], [cipher.digit()]);
        let answer = match prompt {
            Prompt::Ssid => ssid,
            Prompt::Security => &security,
            Prompt::Cipher => &cipher,
            Prompt::Password => password,
        };
        let places = self.answer.iter_mut().zip(answer.iter().chain(b"\n"));
        self.answer_len = places.map(|(place, byte)| *place = *byte).count();
        self.limit = now.saturating_add(PATIENCE);
    }
}

impl fmt::Debug for WifiSetup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WifiSetup")
            .field("asked", &self.asked)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
