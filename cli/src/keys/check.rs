//! `spark keys check`: everything that is wrong with the keys in a device, or with a key file.

use super::check_file::{Candidates, of_file};
use super::protocol::Protocol;
use super::read_key;
use super::secret::{Finding, Secret, describe};
use super::server::{Region, Shown, VENDORS_ADDRESS, disagreements, host_text, leads_anywhere};
use crate::cloud::folder::Folder;
use crate::dct::value::oddities_of;
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::particle::{self, Particle};
use crate::ui;
use core::fmt;
use serde::Serialize;
use serde_json::Value;
use spark_dct::segment::{Platform, Segment};
use spark_dct::server_address::{AddressError, Deviation};
use spark_dct::{Field, ServerAddress};
use spark_keys::check::{Knowledge, Report, check_ec_with, check_with};
use spark_keys::{KeyForm, is_interrupted_write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Say what is wrong with the keys in the device, or with a key file, what it means, and what to do next.
///
/// Exit code 0: the device can use them, and they fit the cloud if one is given. 65: not so.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A key file instead of the device: a private or public key of a device or server, or the bytes of a key's place in a
    /// device; - is standard input.
    file: Option<PathBuf>,
    /// The public key that the cloud has for the device. FILE may be the device's private or public key.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Data folder of the local cloud, to compare with its record of the device and with its own key.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["public_key", "file"])]
    cloud: Option<PathBuf>,
    /// A key that the device may have had or was to get, for instance a backup; given twice, it tells whether a write was
    /// interrupted by a power cut.
    #[arg(long, value_name = "FILE")]
    candidate: Vec<PathBuf>,
    /// Which of the device's keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    device: DeviceOptions,
}

/// One key that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Examined {
    pub(super) what: &'static str,
    /// Whether it can be used as what it is, by a device unless it is a server's private key.
    pub(super) works: bool,
    pub(super) fingerprint: Option<String>,
    /// Which of the vendor's own server keys it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bundled: Option<&'static str>,
    pub(super) findings: Vec<Finding>,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Checked {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) form: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<Value>,
    pub(super) ok: bool,
    pub(super) keys: Vec<Examined>,
}

impl Examined {
    pub(super) fn of(what: &'static str, report: &Report) -> Self {
        Self {
            what,
            works: report.device_works(),
            fingerprint: report.fingerprint().map(|fingerprint| fingerprint.to_string()),
            bundled: report.bundled().map(spark_keys::bundled::BundledKey::name),
            findings: report.findings().map(describe).collect(),
        }
    }

    /// Whether it can be used and agrees with the cloud.
    pub(super) fn ok(&self) -> bool {
        let disagrees = |finding: &Finding| finding.code.starts_with("cloud-");
        self.works && !self.findings.iter().any(disagrees)
    }
}

impl fmt::Display for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, if self.works { "works" } else { "DOES NOT WORK" })?;
        if let Some(fingerprint) = &self.fingerprint {
            write!(f, ", fingerprint {}", fingerprint.get(..16).unwrap_or_default())?;
        }
        if let Some(name) = self.bundled {
            write!(f, " ({name}, the vendor's own)")?;
        }
        self.findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let candidates =
        args.candidate.iter().map(|path| Candidate::read(path)).collect::<Result<Vec<_>, _>>()?;
    let candidates = match <[Candidate; 2]>::try_from(candidates) {
        Ok(both) => Some(both),
        Err(none) if none.is_empty() => None,
        Err(_) => {
            return Err(Failure::new(
                Code::Usage,
                "an interrupted write is between two keys",
                "give --candidate twice: the key before and the key that was to be written",
            ));
        }
    };
    let candidates = candidates.as_ref();
    let copy = args.public_key.as_ref().map(|path| read_key(path)).transpose()?;
    let copy = copy.as_ref().map(|copy| copy.as_slice());
    let checked = match &args.file {
        Some(file) => of_file(file, args.protocol, candidates, copy)?,
        None => particle::open(&args.device, |device| {
            of_device(device, args, candidates, copy.map(<[u8]>::to_vec))
        })?,
    };
    if args.device.json() {
        ui::print(serde_json::to_string(&checked).unwrap_or_default())?;
    } else {
        for key in &checked.keys {
            ui::print(key)?;
        }
    }
    Ok(if checked.ok { ExitCode::SUCCESS } else { ExitCode::from(Code::Data as u8) })
}

/// A key that was, or was to be, in the device, in all the bytes that may have been written there.
pub(super) struct Candidate {
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl Candidate {
    fn read(path: &Path) -> Result<Self, Failure> {
        let content = read_key(path)?;
        // What a device held need not be a key.
        let secret = Secret::load(path, &content).ok();
        let mut forms = vec![content];
        if let Some(secret) = secret {
            let zeros = |len: usize| {
                let mut padded = secret.der().to_vec();
                padded.resize(len.max(padded.len()), 0);
                Zeroizing::new(padded)
            };
            // As it is written here, as old tools did with one 00 after an odd length, and with 00 to the end.
            forms.push(Zeroizing::new(secret.field().to_vec()));
            forms.push(zeros(secret.der().len().next_multiple_of(2)));
            forms.push(zeros(secret.field().len()));
        }
        Ok(Self { forms })
    }

    /// The bytes of both keys whose mixture the field is; those of the files if it is none.
    fn forms_of<'a>([a, b]: &'a [Self; 2], field: &[u8]) -> (&'a [u8], &'a [u8]) {
        let pairs = || a.forms.iter().flat_map(|a| b.forms.iter().map(move |b| (a.as_slice(), b.as_slice())));
        pairs()
            .find(|(a, b)| is_interrupted_write(field, a, b))
            .or_else(|| pairs().next())
            .unwrap_or_default()
    }
}

pub(super) fn report(
    protocol: Protocol,
    field: &[u8],
    cache: Option<&[u8]>,
    candidates: Candidates<'_>,
    copy: Option<&[u8]>,
) -> Report {
    let mut knowledge = Knowledge::new();
    if let Some(cache) = cache {
        knowledge = knowledge.public_cache(cache);
    }
    if let Some(both) = candidates {
        let (a, b) = Candidate::forms_of(both, field);
        knowledge = knowledge.candidates(a, b);
    }
    if let Some(copy) = copy {
        knowledge = knowledge.cloud_copy(copy);
    }
    match protocol {
        Protocol::Tcp => check_with(field, &knowledge),
        Protocol::Udp => check_ec_with(field, &knowledge),
    }
}

/// What is wrong with a device's private key, and whether the device can use it as it is.
pub(super) fn judge(protocol: Protocol, field: &[u8], copy: Option<&[u8]>) -> (Vec<Finding>, bool) {
    let report = report(protocol, field, None, None, copy);
    (report.findings().map(describe).collect(), report.device_works())
}

fn of_device(
    device: &mut Particle<'_, '_>,
    args: &Args,
    candidates: Candidates<'_>,
    mut copy: Option<Vec<u8>>,
) -> Result<Checked, Failure> {
    let protocol = Protocol::of(device, args.protocol)?;
    let (mut next, mut server_spki) = (None, None);
    if let Some(cloud) = &args.cloud {
        let id = device.id().ok_or_else(|| {
            let next = "give the cloud's record with --public-key";
            Failure::new(Code::Usage, "the device does not tell its id", next)
        })?;
        let folder = Folder::open_existing(cloud)?;
        copy = Some(folder.device_key(id)?.map(|(_, spki)| spki).ok_or_else(|| {
            Failure::new(
                Code::Data,
                format_args!("{} knows no device {id}", cloud.display()),
                "`spark keys send-ready --cloud` makes it known",
            )
        })?);
        next = folder.next_key(id)?.map(|(_, spki)| spki);
        server_spki = Some(folder.server_spki()?);
    }
    let place = device.segment(protocol.private_key())?;
    let field = private_field(device, &place, protocol)?;
    let cache = cache(device, protocol)?;
    let unfinished = next.filter(|next| {
        Secret::of_field(protocol, &field).is_some_and(|present| present.public().spki == *next)
    });
    let is_unfinished = unfinished.is_some();
    copy = unfinished.or(copy);
    let report = report(protocol, &field, cache.as_deref(), candidates, copy.as_deref());
    let mut private = Examined::of("device private key", &report);
    if is_unfinished {
        private.findings.push(Finding {
            code: "key-exchange-unfinished".to_owned(),
            what: "device holds the key that the cloud takes beside its record".to_owned(),
            device: "connects with it".to_owned(),
            cloud: "takes it, and makes it the record at the first connection".to_owned(),
            next: "nothing needs to be done; `spark keys doctor` finishes it at once".to_owned(),
        });
    }

    let region = Region::read(device, protocol)?;
    let server = server_in_device(protocol, &region, server_spki.as_ref().map(<[u8; 294]>::as_slice));
    let shown = Shown::of(protocol, region.address_block(), device.id().map(|id| id.0));
    Ok(Checked {
        file: None,
        form: None,
        device_id: device.id().map(|id| id.to_string()),
        address: Some(shown.to_json()),
        ok: private.ok() && server.ok(),
        keys: vec![private, server],
    })
}

/// Key and address of the server in a device, for themselves and beside the key of a cloud.
pub(super) fn server_in_device(protocol: Protocol, region: &Region, wanted: Option<&[u8]>) -> Examined {
    let mut server = Examined::of("server public key", &region.check_key());
    if let Some((finding, connects)) = address_finding(protocol, region.address_block()) {
        server.works &= connects;
        server.findings.push(finding);
    }
    server.findings.extend(odd_address(region.address_block()));
    for finding in disagreements(region, wanted) {
        server.works &= finding.code != VENDORS_ADDRESS;
        server.findings.push(finding);
    }
    server
}

/// What is in the place of the private key: as much as firmware reads, or all of it when that is the start of another form, which may
/// be longer.
pub(super) fn private_field(
    device: &mut Particle<'_, '_>,
    place: &Segment,
    protocol: Protocol,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let field = Zeroizing::new(device.read(place, protocol.private_key_len())?);
    let is_other = KeyForm::of(&field).is_some_and(|form| form != KeyForm::Pkcs1Private);
    if protocol == Protocol::Udp || device.platform() == Platform::Core || !is_other {
        return Ok(field);
    }
    let whole = Field::DEVICE_PRIVATE_KEY;
    device.read_at(place.alternate, place.address, whole.len()).map(Zeroizing::new)
}

/// The device's own copy of its public key. A Core has none.
fn cache(device: &mut Particle<'_, '_>, protocol: Protocol) -> Result<Option<Vec<u8>>, Failure> {
    if device.platform() == Platform::Core {
        return Ok(None);
    }
    let field = match protocol {
        Protocol::Tcp => Field::DEVICE_PUBLIC_KEY,
        Protocol::Udp => Field::ALT_DEVICE_PUBLIC_KEY,
    };
    let place = device.segment(protocol.private_key())?;
    let address = u32::try_from(field.offset()).unwrap_or(u32::MAX);
    device.read_at(place.alternate, address, field.len()).map(Some)
}

/// What is odd about a server's address that a device can read.
pub(super) fn odd_address(block: &[u8; 128]) -> impl Iterator<Item = Finding> {
    oddities_of(block).into_iter().map(|oddity| {
        let device = match oddity {
            Deviation::Ipv4Length { .. } => {
                format!("does not look at the length and connects to {}", host_of(block))
            }
            _ => "connects all the same".to_owned(),
        };
        Finding {
            code: format!("server-address-{}", oddity.code()),
            what: format!("{oddity}; device {device}"),
            device,
            cloud: "is reached if the address is its own".to_owned(),
            next: "compare it with `spark keys address`; `spark keys server KEY --host HOST` writes it anew"
                .to_owned(),
        }
    })
}

fn host_of(block: &[u8; 128]) -> String {
    match ServerAddress::parse(block) {
        Ok(Some(address)) => host_text(&address),
        _ => String::new(),
    }
}

/// What is wrong with the server's address, and whether the device connects to anything all the same.
pub(super) fn address_finding(protocol: Protocol, block: &[u8; 128]) -> Option<(Finding, bool)> {
    let (code, what) = match ServerAddress::parse(block) {
        Ok(Some(address)) if leads_anywhere(&address) => return None,
        Ok(Some(_)) => {
            ("server-address-unusable", "the server address is one of zeros or of erased flash".to_owned())
        }
        Ok(None) if block.iter().all(|byte| *byte == 0xFF) => {
            ("server-address-erased", "no server address is stored; the device logs `type:255`".to_owned())
        }
        Ok(None) => {
            ("server-address-unknown", format!("the server address has the unknown type {}", block[0]))
        }
        // Firmware takes that length for no address.
        Err(error @ AddressError::DomainLengthByte { .. }) => ("server-address-unknown", chain(&error)),
        Err(error) => ("server-address-unusable", chain(&error)),
    };
    let by_default = protocol == Protocol::Tcp && code != "server-address-unusable";
    let device = if by_default {
        "connects to the vendor's default, device.spark.io; if a name was stored once, its neighbours may be lost, too"
    } else {
        "cannot connect"
    };
    let finding = Finding {
        code: code.to_owned(),
        what: format!("{what}; device {device}"),
        device: device.to_owned(),
        cloud: if by_default { "is reached if it is the vendor's" } else { "is not reached" }.to_owned(),
        next: "write key and address with `spark keys server KEY --host HOST`".to_owned(),
    };
    Some((finding, by_default))
}
