//! The serial port of a device in listening mode (it blinks blue): its commands and answers, both ends.
//!
//! A command is one letter, at any speed and without a line end:
//!
//! | letter | what | host's side | answer |
//! |---|---|---|---|
//! | `i` | identity | [`Ask`], [`Identity`] | `Your device id is ` and 24 hex digits; cellular devices also IMEI, ICCID |
//! | `m` | MAC address | [`Ask`], [`Mac`] | `Your device MAC address is`, next line six pairs |
//! | `v` | version | [`Ask`], [`Version`] | `system firmware version: 2.2.0` |
//! | `s` | modules | [`Ask`], `Inspection` | the system's part of the Describe document |
//! | `c` | claim state | [`Ask`], [`Claimed`] | `Device claimed: yes` or `no` |
//! | `d` | diagnostics | [`Ask`] | JSON, newer firmware only |
//! | `w` | Wi-Fi | [`WifiSetup`] | a dialogue |
//! | `C` | claim code | | prompts for a code of 63 characters |
//! | `f` | firmware | [`Flash`] | a text, then [`ymodem`](crate::ymodem) |
//! | `x`, `L` | leave; restart into listening mode | | nothing |
//!
//! [`Listening`] is the device's side of all of it. Outside of listening mode two speeds of the port are commands, see
//! [`BaudTrigger`].
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_setup.cpp`, `system/src/system_ymodem.cpp`; particle-cli@v2.16.0:
//! `src/cmd/serial.js`. What devices say around the texts given above (line ends, echo, the prompt of `C`) has not been
//! compared with hardware; the host's side does not depend on it.

mod ask;
mod device;
mod flash;
#[cfg(feature = "describe")]
mod inspection;
mod reply;
mod wifi;

pub use ask::{Ask, AskError, Question};
pub use device::{Facts, Listening, Output as ListeningOutput, Profile};
pub use flash::{Flash, FlashFailure, Flashed, Told};
#[cfg(feature = "describe")]
pub use inspection::{Check, Inspected, Inspection, InspectionError};
pub use reply::{Claimed, Identity, Mac, ReplyError, Version};
pub use wifi::{Cipher, Credentials, CredentialsError, Prompt, Security, WifiFailure, WifiSetup};

use core::time::Duration;

/// Speed that the vendor's program opens the port with; in listening mode any other will do.
pub const BAUD: u32 = 9600;

/// An answer is complete when nothing has come for this long.
pub const QUIET: Duration = Duration::from_millis(250);

/// Speeds that are commands to a device outside of listening mode, as soon as a host sets them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BaudTrigger {
    /// 14400: restart into DFU mode (it blinks yellow).
    Dfu,
    /// 28800: wait for a file over YMODEM (it blinks magenta).
    Ymodem,
}

impl BaudTrigger {
    /// The speed.
    #[must_use]
    pub const fn baud(self) -> u32 {
        match self {
            Self::Dfu => 14_400,
            Self::Ymodem => 28_800,
        }
    }

    /// What a speed means; `None` if nothing.
    ///
    /// ```
    /// use spark_ota::serial::{BAUD, BaudTrigger};
    ///
    /// assert_eq!(BaudTrigger::from_baud(14_400), Some(BaudTrigger::Dfu));
    /// assert_eq!(BaudTrigger::from_baud(BAUD), None);
    /// ```
    #[must_use]
    pub const fn from_baud(baud: u32) -> Option<Self> {
        match baud {
            14_400 => Some(Self::Dfu),
            28_800 => Some(Self::Ymodem),
            _ => None,
        }
    }
}

/// Texts of the device.
mod text {
    pub(super) const WAITING: &str = "Waiting for the binary file to be sent ... (press 'a' to abort)\r\n";
    /// What is enough of it for a host.
    pub(super) const WAITING_MARK: &[u8] = b"Waiting for the binary file";
    pub(super) const DOWNLOADED: &str = "Downloaded file successfully!";
    pub(super) const RESTARTING: &str = "Restarting system to apply firmware update...";
    pub(super) const VALIDATION: &str = "Validation failed: ";
    pub(super) const TOO_LONG: &str = "The file size is higher than the allowed space memory!";
    pub(super) const NOT_SAVED: &str = "Failed to save chunk!";
    pub(super) const ABORTED: &str = "Aborted by user.";
    pub(super) const NOT_RECEIVED: &str = "Failed to receive the file!";
    pub(super) const SSID: &str = "SSID: ";
    pub(super) const SECURITY: &str = "Security 0=unsecured, 1=WEP, 2=WPA, 3=WPA2: ";
    pub(super) const CIPHER: &str = "Security Cipher 1=AES, 2=TKIP, 3=AES+TKIP: ";
    pub(super) const PASSWORD: &str = "Password: ";
    pub(super) const THANKS: &str = "Thanks! Wait while I save those credentials...\r\n\r\n";
    pub(super) const SAVED: &str = "Awesome. Now we'll connect!\r\n\r\n    Particle <3 you!\r\n\r\n";
    pub(super) const CREDENTIALS_LOST: &str = "Derp. Sorry, we couldn't save the credentials.\r\n\r\n";
    pub(super) const CLAIM_CODE: &str = "Enter 63-digit claim code: ";
}

/// Where `needle` ends in `text`.
fn end_of(text: &[u8], needle: &[u8]) -> Option<usize> {
    let at = text.windows(needle.len()).position(|window| window == needle)?;
    Some(at + needle.len())
}
