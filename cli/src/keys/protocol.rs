//! `spark keys protocol`, and which of a device's two keys a command is about.

use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure};
use crate::particle::{self, Particle, WriteOptions, Written};
use crate::ui;
use core::fmt;
use serde::Serialize;
use serde_json::json;
use spark_dct::segment::{KeyAlgorithm, Platform};
use spark_dct::server_address::{DEFAULT_PORT_TCP, DEFAULT_PORT_UDP};
use spark_keys::check::ServerKeyKind;

/// How a device talks to its cloud; each has a key of its own.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    /// Core, Photon, P1; an Electron that was switched: RSA-1024.
    Tcp,
    /// Electron and third generation: EC P-256.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Protocol {
    /// Where the device's private key is.
    pub(super) const fn private_key(self) -> &'static str {
        match self {
            Self::Tcp => "tcpPrivateKey",
            Self::Udp => "udpPrivateKey",
        }
    }

    /// Where server key and address are.
    pub(super) const fn server_key(self) -> &'static str {
        match self {
            Self::Tcp => "tcpServerKey",
            Self::Udp => "udpServerKey",
        }
    }

    /// Kind of its keys.
    pub(super) const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Tcp => KeyAlgorithm::Rsa,
            Self::Udp => KeyAlgorithm::Ec,
        }
    }

    /// Kind of its server's key.
    pub(super) const fn server_key_kind(self) -> ServerKeyKind {
        match self {
            Self::Tcp => ServerKeyKind::Rsa,
            Self::Udp => ServerKeyKind::Ec,
        }
    }

    pub(super) const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => DEFAULT_PORT_TCP,
            Self::Udp => DEFAULT_PORT_UDP,
        }
    }

    /// Bytes of the private key's place that firmware reads.
    pub(super) const fn private_key_len(self) -> usize {
        match self {
            Self::Tcp => spark_keys::device_key::FIELD_LEN,
            Self::Udp => spark_keys::ec::EC_FIELD_LEN,
        }
    }

    /// The one that the person asked for, or the one that the device uses.
    pub(super) fn of(device: &mut Particle<'_, '_>, asked: Option<Self>) -> Result<Self, Failure> {
        if let Some(asked) = asked {
            device.segment(asked.private_key())?;
            return Ok(asked);
        }
        Ok(match device.platform() {
            Platform::Core | Platform::Photon | Platform::P1 | Platform::Duo => Self::Tcp,
            Platform::Electron if stored(device)? == Self::Tcp => Self::Tcp,
            _ => Self::Udp,
        })
    }
}

/// What an Electron was switched to: FF is UDP, everything else TCP.
fn stored(device: &mut Particle<'_, '_>) -> Result<Protocol, Failure> {
    let segment = device.segment("transport")?;
    Ok(if device.read(&segment, 1)? == [0xFF] { Protocol::Udp } else { Protocol::Tcp })
}

/// Show or set whether an Electron talks TCP or UDP to its cloud.
///
/// Other devices have no choice. Firmware of 2.0.0 and later ignores the setting.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The new protocol; without it the present one is shown.
    protocol: Option<Protocol>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let json = args.device.json();
    particle::open(&args.device, |device| {
        let Some(wanted) = args.protocol else {
            let protocol = Protocol::of(device, None)?;
            let fixed = device.segment("transport").is_err();
            return if json {
                ui::print(json!({ "protocol": protocol, "fixed": fixed }))
            } else {
                ui::print(format_args!("{protocol}{}", if fixed { " (fixed for this device)" } else { "" }))
            };
        };
        let written = set(device, wanted, &args.write)?;
        device.finish(&args.write)?;
        if json {
            return ui::print(json!({ "protocol": wanted, "write": written }));
        }
        ui::print(said(wanted, &written))
    })
}

/// Makes an Electron talk that protocol.
pub(super) fn set(
    device: &mut Particle<'_, '_>,
    wanted: Protocol,
    options: &WriteOptions,
) -> Result<Written, Failure> {
    let segment = device.segment("transport").map_err(|_| {
        Failure::new(
            Code::Usage,
            format_args!("a {:?} has only one protocol", device.platform()),
            "leave the protocol out to see which",
        )
    })?;
    device.write(&segment, &[if wanted == Protocol::Udp { 0xFF } else { 0 }], options)
}

/// What was written, where what was there before is, and what comes of it.
pub(super) fn said(protocol: Protocol, written: &Written) -> String {
    let then = if written.dry_run { "would talk" } else { "talks" };
    format!("{written}\nthe device {then} {protocol} to its cloud")
}
