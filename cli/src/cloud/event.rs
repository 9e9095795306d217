//! What happens in the cloud, for logs, reports and tests.

use super::plan::{Plan, StepState};
use coap_spark::handshake::DeviceId;
use core::fmt;
use core::time::Duration;
use serde::Serialize;
use spark_ota::transfer::Progress;
use std::net::SocketAddr;

/// An event on its way from one device to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relayed {
    /// The device that published it; `None` for the owner.
    pub device: Option<DeviceId>,
    /// Its name.
    pub name: String,
    /// Its data, as it came.
    pub data: Option<Vec<u8>>,
    /// Its ttl, as it came.
    pub max_age: Option<u32>,
    /// Anyone may see it.
    pub public: bool,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The cloud takes connections.
    Started {
        /// Where devices connect to.
        listen: SocketAddr,
        /// Where the HTTP interface is, if there is one.
        api: Option<SocketAddr>,
    },
    /// A connection ended before the device was known, or was refused.
    Refused {
        /// The id that was claimed, if it came that far.
        #[serde(serialize_with = "optional_text")]
        device: Option<DeviceId>,
        /// Where it came from.
        address: Option<SocketAddr>,
        /// A stable word for the reason: the code of its row in the diagnosis table, if it has one.
        cause: &'static str,
        /// What happened.
        reason: String,
        /// What to do about it.
        advice: String,
    },
    /// A device said Hello.
    Online {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Platform id, 6 for a Photon.
        platform_id: Option<u16>,
        /// Product id; that of the platform for devices that are no product's.
        product_id: Option<u16>,
        /// Version of the product's firmware.
        product_version: Option<u16>,
        /// The update before this connection succeeded.
        update_succeeded: bool,
    },
    /// A device published an event.
    Published {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Name of the event.
        name: String,
        /// Its data; bytes that are no text are replaced here, not where the event is passed on.
        data: Option<String>,
        /// Its ttl in seconds.
        max_age: Option<u32>,
        /// Anyone may see it.
        public: bool,
    },
    /// An event was too long to be passed on.
    EventDropped {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Name of the event.
        name: String,
        /// Bytes that an event may have.
        limit: usize,
    },
    /// A device subscribed to more than it may.
    SubscriptionRefused {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Prefix of the events that it asked for.
        prefix: String,
    },
    /// A device tells the code by which its owner claims it. The code is shown to nobody.
    ClaimCode {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// The code.
        #[serde(skip)]
        code: String,
    },
    /// A device asks for random bytes.
    WantsRandom {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
    },
    /// A device says why it will be gone.
    Goodbye {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Its reason.
        reason: String,
    },
    /// The plan of a device's update moved on.
    PlanChanged {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// The plan as it is now.
        plan: Box<Plan>,
    },
    /// A device described itself.
    Described {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// The document.
        describe: coap_spark::message::describe::Describe,
    },
    /// An update begins.
    UpdateStarted {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// The module file.
        module: String,
        /// Its index within its function.
        index: u8,
        /// The cloud saw by itself that it is missing.
        repair: bool,
        /// Why this module, and why now.
        why: String,
        /// Bytes of the module.
        bytes: usize,
    },
    /// An update goes on.
    UpdateProgress {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// How far it is.
        progress: Progress,
    },
    /// An update ended.
    UpdateFinished {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// The module file.
        module: String,
        /// How far it came.
        progress: Progress,
        /// `None` if the device has the image, else why not.
        failure: Option<String>,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// All modules that the device needs are there.
    UpToDate {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
    },
    /// The device needs what this cloud cannot give.
    CannotUpdate {
        /// Which device.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// Why.
        reason: String,
    },
    /// Something is wrong with the cloud itself.
    Trouble {
        /// What.
        what: String,
    },
    /// A device is gone.
    Offline {
        /// Which.
        #[serde(serialize_with = "text")]
        device: DeviceId,
        /// A stable word for the reason.
        cause: &'static str,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { device: Some(device), reason, advice, .. } => {
                write!(f, "{device}: refused: {reason}\n  next: {advice}")
            }
            Self::Refused { device: None, address, reason, advice, .. } => {
                let from = address.map(|address| format!(" from {address}")).unwrap_or_default();
                write!(f, "a connection{from} ended: {reason}\n  next: {advice}")
            }
            Self::Online { device, platform_id, update_succeeded, .. } => {
                let platform = platform_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
                let updated = if *update_succeeded { ", its update succeeded" } else { "" };
                write!(f, "{device}: online, platform {platform}{updated}")
            }
            Self::Published { device, name, data, .. } => {
                // Devices choose these words, and a terminal must not obey them.
                let (name, data) = (name.escape_debug(), data.as_deref().unwrap_or("").escape_debug());
                write!(f, "{device}: event {name} {data}")
            }
            Self::Started { listen, .. } => write!(f, "listening on {listen}"),
            Self::EventDropped { device, name, limit } => {
                let name = name.escape_debug();
                write!(f, "{device}: event {name} has more than {limit} bytes and was not passed on")
            }
            Self::SubscriptionRefused { device, prefix } => {
                let prefix = prefix.escape_debug();
                write!(f, "{device}: may not subscribe to events that begin with \"{prefix}\"")
            }
            Self::ClaimCode { device, .. } => write!(f, "{device}: tells a claim code"),
            Self::WantsRandom { device } => write!(f, "{device}: asks for random bytes"),
            Self::Goodbye { device, reason } => write!(f, "{device}: says goodbye: {reason}"),
            Self::PlanChanged { device, plan } => {
                let done = plan.steps.iter().filter(|step| step.state == StepState::Installed).count();
                write!(f, "{device}: update {}: {done} of {} modules", plan.number, plan.steps.len())?;
                match &plan.reason {
                    Some(reason) => write!(f, "; {reason}"),
                    None => Ok(()),
                }
            }
            Self::Described { device, describe } => {
                let modules = describe.modules.as_deref().unwrap_or_default();
                let names: Vec<String> = modules
                    .iter()
                    .map(|module| {
                        let part = |text: &Option<String>| text.clone().unwrap_or_default();
                        let version = module.version.unwrap_or(0);
                        format!("{}{} {version}", part(&module.function), part(&module.index))
                    })
                    .collect();
                write!(f, "{device}: runs {}", names.join(", ").escape_debug())
            }
            Self::UpdateStarted { device, module, why, bytes, .. } => {
                write!(f, "{device}: sending {module}, {bytes} bytes: {why}")
            }
            Self::UpdateProgress { device, progress } => {
                write!(f, "{device}: {} of {} chunks", progress.sent, progress.chunks)
            }
            Self::UpdateFinished { device, module, progress, failure: None, took } => write!(
                f,
                "{device}: {module} arrived, {} chunks, {} sent again, {:.1} s",
                progress.chunks,
                progress.resent,
                took.as_secs_f64()
            ),
            Self::UpdateFinished { device, module, failure: Some(failure), .. } => {
                write!(f, "{device}: {module} did not arrive: {failure}")
            }
            Self::UpToDate { device } => write!(f, "{device}: has every module it needs"),
            Self::CannotUpdate { device, reason } => write!(f, "{device}: cannot be updated: {reason}"),
            Self::Trouble { what } => write!(f, "trouble: {what}"),
            Self::Offline { device, reason, .. } => write!(f, "{device}: offline: {reason}"),
        }
    }
}

fn text<S: serde::Serializer>(id: &DeviceId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn optional_text<S: serde::Serializer>(id: &Option<DeviceId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
