//! What answers say. Devices may speak of other things before and after it.

use super::end_of;
use core::fmt;

/// An answer that does not say what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[error("the answer has no {what}")]
pub struct ReplyError {
    /// What it should have.
    pub what: &'static str,
}

/// The answer to `i`.
///
/// Newer cellular devices tell a secret, too; it is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Identity<'a> {
    /// The device id, as it was told: usually 24 hex digits.
    pub device_id: &'a str,
    /// The device calls itself a core.
    pub core: bool,
    /// Of a cellular device.
    pub imei: Option<&'a str>,
    /// Of its SIM card.
    pub iccid: Option<&'a str>,
    /// What is printed on it.
    pub serial_number: Option<&'a str>,
    /// Firmware of its cellular radio.
    pub radio_version: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Reads an answer.
    ///
    /// ```
    /// use spark_ota::serial::Identity;
    ///
    /// let identity = Identity::parse(b"Your device id is 3a0027001747343338303599\r\n")?;
    /// assert_eq!(identity.device_id, "3a0027001747343338303599");
    /// # Ok::<(), spark_ota::serial::ReplyError>(())
    /// ```
    ///
    /// # Errors
    /// [`ReplyError`] if there is no id.
    pub fn parse(reply: &'a [u8]) -> Result<Self, ReplyError> {
        let by_sentence = [(&b"Your device id is"[..], false), (b"Your core id is", true)]
            .into_iter()
            .find_map(|(sentence, core)| Some((word_after(reply, sentence)?, core)));
        let (device_id, core) =
            by_sentence.or_else(|| Some((hex_id(reply)?, false))).ok_or(ReplyError { what: "device id" })?;
        Ok(Self {
            device_id,
            core,
            imei: word_on_line_after(reply, b"IMEI:"),
            iccid: word_on_line_after(reply, b"ICCID:"),
            serial_number: word_on_line_after(reply, b"Serial Number:"),
            radio_version: line_after(reply, b"Cell Radio Version:"),
        })
    }
}

/// The answer to `v`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Version<'a>(
    /// Such as `2.2.0` or `0.8.0-rc.9`.
    pub &'a str,
);

impl<'a> Version<'a> {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`ReplyError`] if there is no version.
    pub fn parse(reply: &'a [u8]) -> Result<Self, ReplyError> {
        let end = end_of(reply, b"system firmware version:");
        let rest = end.and_then(|end| reply.get(end..)).unwrap_or_default().trim_ascii_start();
        let version = run(rest, |byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        version.map(Self).ok_or(ReplyError { what: "version" })
    }
}

/// The answer to `m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mac(
    /// The six bytes.
    pub [u8; 6],
);

/// Makers of the radio in these devices: their addresses begin so.
const MAKERS: [[u8; 3]; 2] = [[0x6c, 0x0b, 0x84], [0x44, 0x39, 0xc4]];

impl Mac {
    /// Reads an answer: the first run of hex pairs. Some firmware leaves bytes out at the front; what is left of the
    /// maker's part then tells which it was.
    ///
    /// # Errors
    /// [`ReplyError`] if there is no address.
    pub fn parse(reply: &[u8]) -> Result<Self, ReplyError> {
        let error = ReplyError { what: "MAC address" };
        let mut bytes = [0; 6];
        for start in 0..reply.len() {
            let before = start.checked_sub(1).and_then(|at| reply.get(at)).copied().unwrap_or(b' ');
            if before.is_ascii_alphanumeric() || before == b':' {
                continue;
            }
            let count = pairs(reply.get(start..).unwrap_or_default(), &mut bytes);
            if count >= 2 {
                return Ok(Self(complete(bytes, count)));
            }
        }
        Err(error)
    }
}

/// Reads pairs separated by colons, at most six.
fn pairs(text: &[u8], out: &mut [u8; 6]) -> usize {
    let mut rest = text;
    let mut count = 0;
    for place in out {
        let [high, low, behind @ ..] = rest else { break };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { break };
        *place = high << 4 | low;
        count += 1;
        let [b':', behind @ ..] = behind else { break };
        rest = behind;
    }
    count
}

fn complete(read: [u8; 6], count: usize) -> [u8; 6] {
    let mut bytes = [0; 6];
    bytes.iter_mut().skip(6 - count).zip(read).for_each(|(place, byte)| *place = byte);
    if count < 6 {
        for maker in MAKERS {
            if bytes.iter().zip(maker).any(|(byte, own)| *byte == own) {
                bytes.iter_mut().zip(maker).for_each(|(byte, own)| *byte = own);
                break;
            }
        }
    }
    bytes
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The answer to `c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Claimed(
    /// The device has an owner.
    pub bool,
);

impl Claimed {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`ReplyError`] if it says neither yes nor no.
    pub fn parse(reply: &[u8]) -> Result<Self, ReplyError> {
        match word_on_line_after(reply, b"Device claimed:") {
            Some("yes") => Ok(Self(true)),
            Some("no") => Ok(Self(false)),
            _ => Err(ReplyError { what: "claim state" }),
        }
    }
}

/// The bytes at the front for which this holds; `None` if there are none.
fn run(text: &[u8], holds: impl Fn(u8) -> bool) -> Option<&str> {
    let end = text.iter().position(|byte| !holds(*byte)).unwrap_or(text.len());
    text.get(..end).filter(|run| !run.is_empty()).and_then(|run| core::str::from_utf8(run).ok())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    run(text.get(end_of(text, mark)?..)?.trim_ascii_start(), is_word)
}

/// The same without going on to the next line: what has no value is followed by one.
fn word_on_line_after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    let rest = text.get(end_of(text, mark)?..)?;
    let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    run(rest.get(start..)?, is_word)
}

fn line_after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    let rest = text.get(end_of(text, mark)?..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    core::str::from_utf8(rest.get(..end)?.trim_ascii()).ok().filter(|line| !line.is_empty())
}

/// The first word of exactly 24 hex digits.
fn hex_id(text: &[u8]) -> Option<&str> {
    let words = text.split(|byte| byte.is_ascii_whitespace());
    let mut ids = words.filter(|word| word.len() == 24 && word.iter().all(u8::is_ascii_hexdigit));
    ids.next().and_then(|id| core::str::from_utf8(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const ID: &str = "3a0027001747343338303599";

    #[test]
    fn identities_of_all_generations_are_read() {
        let plain = Identity {
            device_id: ID,
            core: false,
            imei: None,
            iccid: None,
            serial_number: None,
            radio_version: None,
        };
        let cellular = Identity { imei: Some("353162075"), iccid: Some("8934076500"), ..plain };
        let newest =
            Identity { serial_number: Some("P0123"), radio_version: Some("L0.0.00 A.02"), ..cellular };
        let cases = [
            (format!("Your device id is {ID}\r\n"), plain),
            (format!("noise\r\nYour core id is   {ID}\r\nmore"), Identity { core: true, ..plain }),
            (format!("Device ID: {ID}\r\nIMEI: 353162075\r\nICCID: 8934076500\r\n"), cellular),
            (
                format!(
                    "Device ID: {ID}\r\nIMEI: 353162075\r\nICCID: 8934076500\r\nSerial Number: P0123\r\n\
                     Device Secret: 7654321\r\nCell Radio Version: L0.0.00 A.02\r\n"
                ),
                newest,
            ),
        ];
        for (reply, expected) in &cases {
            assert_eq!(Identity::parse(reply.as_bytes()), Ok(*expected));
            assert!(!format!("{expected:?}").contains("7654321"));
        }
        for reply in ["", "Your device id is", "Your device id is \r\n", "3a00270017473433383035991"] {
            assert_eq!(Identity::parse(reply.as_bytes()), Err(ReplyError { what: "device id" }), "{reply}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(Version::parse(b"system firmware version: 2.2.0\n\r\n"), Ok(Version("2.2.0")));
        assert_eq!(Version::parse(b"x system firmware version:0.8.0-rc.9 y"), Ok(Version("0.8.0-rc.9")));
        assert!(Version::parse(b"system firmware version: \r\n").is_err());
        assert!(Version::parse(b"2.2.0").is_err());
    }

    #[test]
    fn addresses_are_read_and_completed() {
        for (reply, expected) in [
            ("Your device MAC address is\r\n6c:0b:84:12:34:56\r\n", "6c:0b:84:12:34:56"),
            ("6C:0B:84:AB:CD:EF", "6c:0b:84:ab:cd:ef"),
            ("b:12", "error"),
            ("0b:84:12:34:56\r\n", "6c:0b:84:12:34:56"),
            ("84:12:34:56\r\n", "6c:0b:84:12:34:56"),
            ("c4:12:34:56", "44:39:c4:12:34:56"),
            ("39:c4:12:34:56", "44:39:c4:12:34:56"),
            ("12:34:56", "00:00:00:12:34:56"),
            ("de:ad:00:00:00:00:00", "de:ad:00:00:00:00"),
            ("", "error"),
            ("face", "error"),
        ] {
            let mac = Mac::parse(reply.as_bytes());
            assert_eq!(mac.map_or_else(|_| "error".to_string(), |mac| mac.to_string()), expected, "{reply}");
        }
    }

    #[test]
    fn claim_states_are_read() {
        assert_eq!(Claimed::parse(b"Device claimed: yes\r\n"), Ok(Claimed(true)));
        assert_eq!(Claimed::parse(b"Device claimed: no\r\n"), Ok(Claimed(false)));
        assert!(Claimed::parse(b"Device claimed: \r\n").is_err());
    }

    #[test]
    fn every_prefix_of_an_answer_is_read_or_refused() {
        let reply = format!(
            "Device ID: {ID}\r\nIMEI: 1\r\nsystem firmware version: 1\r\n6c:0b:84:12:34:56\r\nDevice claimed: no"
        );
        for end in 0..reply.len() {
            let part = &reply.as_bytes()[..end];
            let _ = (Identity::parse(part), Version::parse(part), Mac::parse(part), Claimed::parse(part));
        }
    }
}
