//! `spark serial identify`.

use super::PortOptions;
use super::link::{LISTEN, Link};
use super::ports;
use crate::exit::{Code, Failure};
use crate::ui;
use serde::Serialize;
use spark_ota::serial::{BAUD, Claimed, Identity, Mac, Question, ReplyError, Version};

/// What a device tells of itself; what it does not tell is left out.
#[derive(Serialize)]
struct Told<'a> {
    port: &'a str,
    #[serde(flatten)]
    identity: Identity<'a>,
    firmware_version: Option<&'a str>,
    mac_address: Option<String>,
    claimed: Option<bool>,
}

/// An answer that is none.
pub(super) fn unclear(port: &str, error: ReplyError) -> Failure {
    Failure::new(Code::Protocol, format_args!("{port}: {error}"), LISTEN)
}

pub(super) fn run(options: &PortOptions) -> Result<(), Failure> {
    let mut link = Link::open(&ports::one(options.port.as_deref())?, BAUD)?;
    let identity = link.must_tell(Question::Identity)?;
    let mut optional = |question| link.ask(question).map(Result::unwrap_or_default);
    let (version, mac, claimed) =
        (optional(Question::Version)?, optional(Question::Mac)?, optional(Question::Claimed)?);
    let told = Told {
        port: link.name(),
        identity: Identity::parse(&identity).map_err(|error| unclear(link.name(), error))?,
        firmware_version: Version::parse(&version).ok().map(|version| version.0),
        mac_address: Mac::parse(&mac).ok().map(|mac| mac.to_string()),
        claimed: Claimed::parse(&claimed).ok().map(|claimed| claimed.0),
    };
    if options.json {
        return ui::print(serde_json::to_string(&told).unwrap_or_default());
    }
    let claimed = told.claimed.map(|claimed| if claimed { "yes" } else { "no" });
    for (what, value) in [
        ("port", Some(told.port)),
        ("device id", Some(told.identity.device_id)),
        ("IMEI", told.identity.imei),
        ("ICCID", told.identity.iccid),
        ("serial number", told.identity.serial_number),
        ("radio firmware", told.identity.radio_version),
        ("firmware", told.firmware_version),
        ("MAC address", told.mac_address.as_deref()),
        ("claimed", claimed),
    ] {
        if let Some(value) = value {
            ui::print(format_args!("{what:<16}{}", value.escape_debug()))?;
        }
    }
    Ok(())
}
