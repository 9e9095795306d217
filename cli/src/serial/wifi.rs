//! `spark serial wifi`.

use super::PortOptions;
use super::link::{LISTEN, Link};
use super::ports;
use crate::exit::{Code, Failure};
use crate::{files, ui};
use serde_json::json;
use spark_ota::serial::{BAUD, Cipher, Credentials, Security, WifiFailure, WifiSetup};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Options of `wifi`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of the network.
    #[arg(long, value_name = "NAME")]
    ssid: String,
    /// How it is protected; without this option WPA2 with a password, and not at all without one.
    #[arg(long, value_name = "KIND")]
    security: Option<Protection>,
    /// Cipher of WPA and WPA2.
    #[arg(long, value_name = "CIPHER", default_value = "aes")]
    cipher: CipherOption,
    /// File with the password in its first line; `-` reads standard input. Others cannot see it there.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The password. Whoever may list the processes of this computer can read it: better use --password-file.
    #[arg(long, value_name = "TEXT", conflicts_with = "password_file")]
    password: Option<String>,
    /// Check everything and show what would be sent, but send nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    port: PortOptions,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Protection {
    /// Not at all.
    Open,
    /// WEP.
    Wep,
    /// WPA.
    Wpa,
    /// WPA2.
    Wpa2,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum CipherOption {
    /// AES.
    Aes,
    /// TKIP.
    Tkip,
    /// Both.
    AesTkip,
}

/// The first line of a file, or of standard input.
pub(crate) fn read_password(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let content = if path == Path::new("-") {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(|error| Failure::reading(path, &error))?;
        Zeroizing::new(line)
    } else {
        let bytes = Zeroizing::new(files::read(path)?);
        Zeroizing::new(core::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| {
            Failure::new(
                Code::Data,
                format_args!("{} is not UTF-8", path.display()),
                "save it as UTF-8; a WPA password has ASCII characters only",
            )
        })?)
    };
    Ok(Zeroizing::new(content.lines().next().unwrap_or_default().to_owned()))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let password = match (&args.password_file, &args.password) {
        (Some(path), _) => read_password(path)?,
        (None, password) => Zeroizing::new(password.clone().unwrap_or_default()),
    };
    let default = if password.is_empty() { Protection::Open } else { Protection::Wpa2 };
    let security = match args.security.unwrap_or(default) {
        Protection::Open => Security::Open,
        Protection::Wep => Security::Wep,
        Protection::Wpa => Security::Wpa,
        Protection::Wpa2 => Security::Wpa2,
    };
    let cipher = match args.cipher {
        CipherOption::Aes => Cipher::Aes,
        CipherOption::Tkip => Cipher::Tkip,
        CipherOption::AesTkip => Cipher::AesTkip,
    };
    let credentials =
        Credentials { ssid: args.ssid.as_bytes(), security, cipher, password: password.as_bytes() };
    credentials.check().map_err(|error| {
        Failure::new(Code::Usage, error, "see --ssid, --security and --password-file; nothing was sent")
    })?;
    let port = ports::one(args.port.port.as_deref())?;
    let told = |sent: bool| {
        if args.port.json {
            let security = format!("{security:?}").to_lowercase();
            return ui::print(
                json!({ "port": port.port, "ssid": args.ssid, "security": security, "sent": sent }),
            );
        }
        let verb = if sent { "has" } else { "would get" };
        ui::print(format_args!(
            "the device at {} {verb} the network {:?} ({security:?})",
            port.port, args.ssid
        ))
    };
    if args.dry_run {
        return told(false);
    }
    let mut link = Link::open(&port, BAUD)?;
    let mut setup = WifiSetup::new(link.now(), credentials)
        .map_err(|error| Failure::new(Code::Usage, error, "nothing was sent"))?;
    link.drive(&mut setup, |_, _| ())?;
    match setup.outcome() {
        Some(Ok(())) => told(true),
        Some(Err(failure)) => {
            let (code, next) = match failure {
                WifiFailure::NotTaken { .. } => (Code::Protocol, "check name, protection and password"),
                WifiFailure::Silent { .. } => (Code::Protocol, LISTEN),
                WifiFailure::NotSaved => (Code::Protocol, "reset the device and repeat the command"),
                WifiFailure::Unconfirmed => {
                    (Code::Protocol, "look whether it connects; if not, repeat the command")
                }
                _ => (Code::Unavailable, LISTEN),
            };
            Err(Failure::new(code, format_args!("{}: {failure}", port.port), next))
        }
        None => Err(Failure::new(Code::Software, "the dialogue has no result", "report this")),
    }
}
