//! What the key library says of the fields that hold keys.

use crate::exit::{Code, Failure, chain};
use core::net::Ipv4Addr;
use spark_dct::app::{CloudTransport, DEVICE_PRIVATE_KEY_READ};
use spark_dct::recovery::{Dump, Judgement, Options, Plan, PlanError, Target};
use spark_dct::segment::KeyAlgorithm;
use spark_dct::server_address::{AddressError, DEFAULT_DOMAIN_TCP, Host};
use spark_dct::{App, AppMut, Entry, Field, ServerAddress, ServerKeyRegion};
use spark_keys::check;
use spark_keys::check::{PublicCache, Report, ServerKeyKind, check_ec, check_server_key};
use spark_keys::{BundledKey, Fingerprint};

/// The address that the vendor's tool stores with the vendor's RSA key.
const VENDORS_HOST: Host<'_> = Host::Domain(DEFAULT_DOMAIN_TCP);

/// What a field's bytes alone prove.
///
/// Good is what computes: a private key, and a P-256 key, whose point would not be on the curve if a bit of it were
/// wrong; and what is known: the vendor's server key with its address. An RSA public key or an address can only be read, and the AND of
/// two of them reads as well, so nothing is claimed of it.
pub(crate) fn judge(field: Field, bytes: &[u8]) -> Judgement {
    let all = |fill| bytes.iter().all(|byte| *byte == fill);
    // Places that this device does not use are zero in images that were compiled.
    let unused = matches!(
        field,
        Field::ALT_DEVICE_PUBLIC_KEY
            | Field::ALT_DEVICE_PRIVATE_KEY
            | Field::ALT_SERVER_PUBLIC_KEY
            | Field::ALT_SERVER_ADDRESS
    );
    if all(0xFF) || unused && all(0x00) {
        return Judgement::Unknown;
    }
    match report(field, bytes) {
        Some(report) if !report.device_works() => Judgement::Invalid,
        Some(report) if field == Field::SERVER_PUBLIC_KEY => match address(field, bytes) {
            Some(Err(_)) => Judgement::Invalid,
            Some(Ok(Some(address)))
                if report.bundled() == Some(BundledKey::ParticleRsa)
                    && address.host() == VENDORS_HOST
                    && address.port().is_none() =>
            {
                Judgement::Valid
            }
            _ => Judgement::Unknown,
        },
        Some(_) => Judgement::Valid,
        None => judge_rest(field, bytes),
    }
}

fn judge_rest(field: Field, bytes: &[u8]) -> Judgement {
    match field {
        Field::DEVICE_PUBLIC_KEY | Field::ALT_DEVICE_PUBLIC_KEY => match PublicCache::of(bytes) {
            PublicCache::Unknown => Judgement::Invalid,
            _ => Judgement::Unknown,
        },
        Field::ALT_SERVER_ADDRESS => match address(field, bytes) {
            Some(Err(_)) => Judgement::Invalid,
            _ => Judgement::Unknown,
        },
        Field::CLAIMED if bytes == b"1" => Judgement::Valid,
        _ => Judgement::Unknown,
    }
}

/// What shows that a device has worked over TCP: what it needed for that may be lost, but it was not missing from the start.
#[derive(Clone, Copy)]
pub(crate) struct Past {
    has_key: bool,
    is_claimed: bool,
}

impl Past {
    const NONE: Past = Past { has_key: false, is_claimed: false };

    fn of(app: App<'_>) -> Self {
        let field = Field::DEVICE_PRIVATE_KEY;
        let has_key = report(field, app.bytes(field)).is_some_and(|report| report.device_works());
        Past { has_key, is_claimed: app.claimed() }
    }

    /// By an application section alone, which does not tell its platform: a device with an EC key that works uses it, unless
    /// its transport is TCP.
    pub(crate) fn of_app(app: App<'_>) -> Self {
        let field = Field::ALT_DEVICE_PRIVATE_KEY;
        let has_ec_key = report(field, app.bytes(field)).is_some_and(|report| report.device_works());
        if has_ec_key && app.cloud_transport() == CloudTransport::Udp { Self::NONE } else { Self::of(app) }
    }

    /// By both sectors, as either may show what the other one lost. An Electron uses UDP unless its table says otherwise.
    pub(crate) fn of_dump(dump: &Dump<'_>, target: Target) -> Self {
        let apps = dump.candidates().into_iter().filter_map(|candidate| App::new(candidate.app).ok());
        let over_tcp = apps.filter(|app| match target {
            Target::Dcd(_) => app.cloud_transport() == CloudTransport::Tcp,
            _ => true,
        });
        over_tcp.map(Self::of).fold(Self::NONE, |one, two| Past {
            has_key: one.has_key || two.has_key,
            is_claimed: one.is_claimed || two.is_claimed,
        })
    }

    /// As [`judge`], but what a device that has worked cannot do without is not merely unset.
    pub(crate) fn judge(self, field: Field, bytes: &[u8]) -> Judgement {
        if self.is_lost(field, bytes) { Judgement::Invalid } else { judge(field, bytes) }
    }

    /// Whether an erased field was lost. The region of the server's key goes as a whole, with the address in it.
    pub(crate) fn is_lost(self, field: Field, bytes: &[u8]) -> bool {
        match field {
            Field::DEVICE_PRIVATE_KEY => self.is_claimed && bytes.iter().all(|byte| *byte == 0xFF),
            Field::SERVER_PUBLIC_KEY => {
                (self.has_key || self.is_claimed)
                    && ServerKeyRegion::parse(KeyAlgorithm::Rsa, bytes).is_ok_and(|region| region.is_lost())
            }
            _ => false,
        }
    }
}

/// A plan whose judge knows the private keys of the resulting table as well: they confirm the caches of their public keys.
pub(crate) fn plan<'a>(dump: Dump<'a>, target: Target, options: Options<'a>) -> Result<Plan<'a>, PlanError> {
    let past = Past::of_dump(&dump, target);
    let first = Plan::new(dump, target, options, |field, bytes| past.judge(field, bytes))?;
    let keys = PrivateKeys::of(&first, past);
    let second = Plan::new(dump, target, options, |field, bytes| keys.judge(field, bytes))?;
    // A cache says nothing about which private key is taken.
    Ok(if PrivateKeys::of(&second, past) == keys { second } else { first })
}

/// Fingerprints of the public keys, computed from the private keys of a plan that work.
struct PrivateKeys {
    past: Past,
    rsa: Option<Fingerprint>,
    ec: Option<Fingerprint>,
}

impl PartialEq for PrivateKeys {
    fn eq(&self, other: &Self) -> bool {
        (self.rsa, self.ec) == (other.rsa, other.ec)
    }
}

impl PrivateKeys {
    fn of(plan: &Plan<'_>, past: Past) -> Self {
        let fingerprint = |field| {
            let report = report(field, plan.bytes(&plan.decision(field)))?;
            report.fingerprint().filter(|_| report.device_works())
        };
        let [rsa, ec] = [Field::DEVICE_PRIVATE_KEY, Field::ALT_DEVICE_PRIVATE_KEY].map(fingerprint);
        Self { past, rsa, ec }
    }

    fn judge(&self, field: Field, bytes: &[u8]) -> Judgement {
        let expected = match field {
            Field::DEVICE_PUBLIC_KEY => self.rsa,
            Field::ALT_DEVICE_PUBLIC_KEY => self.ec,
            _ => None,
        };
        match PublicCache::of(bytes) {
            PublicCache::Key { spki, .. } if expected == Some(Fingerprint::of_spki(spki)) => Judgement::Valid,
            _ => self.past.judge(field, bytes),
        }
    }
}

/// What is wrong with a key.
pub(crate) fn report(field: Field, bytes: &[u8]) -> Option<Report> {
    match field {
        Field::DEVICE_PRIVATE_KEY => Some(check(bytes.get(..DEVICE_PRIVATE_KEY_READ).unwrap_or(bytes))),
        Field::ALT_DEVICE_PRIVATE_KEY => Some(check_ec(bytes)),
        Field::SERVER_PUBLIC_KEY => Some(check_server_key(
            ServerKeyKind::Rsa,
            bytes.get(..KeyAlgorithm::Rsa.server_region_len()).unwrap_or(bytes),
        )),
        Field::ALT_SERVER_PUBLIC_KEY => Some(check_server_key(ServerKeyKind::Ec, bytes)),
        _ => None,
    }
}

/// The address in a field: beside the server's key, or on its own.
pub(crate) fn address(field: Field, bytes: &[u8]) -> Option<Result<Option<ServerAddress<'_>>, AddressError>> {
    match field {
        Field::SERVER_PUBLIC_KEY => {
            ServerKeyRegion::parse(KeyAlgorithm::Rsa, bytes).ok().map(|region| region.address())
        }
        Field::ALT_SERVER_ADDRESS => bytes.first_chunk().map(ServerAddress::parse),
        _ => None,
    }
}

/// What a server's key that came without an address needs: the one that is there, or the vendor's for the vendor's key.
pub(super) fn complete_address(image: &mut [u8], force: bool) -> Result<(), Failure> {
    let wrong = |error: &dyn core::error::Error| Failure::new(Code::Software, chain(error), "report this");
    let app = App::new(image).map_err(|error| wrong(&error))?;
    let leads_anywhere = |host| !matches!(host, Host::Ipv4(Ipv4Addr::UNSPECIFIED | Ipv4Addr::BROADCAST));
    match app.server_address() {
        Ok(Some(address)) if leads_anywhere(address.host()) => return Ok(()),
        // What cannot be read is refused with its reason.
        Err(_) => return Ok(()),
        Ok(_) => {}
    }
    let key = app.server_public_key().and_then(|key| BundledKey::of_spki(key));
    if key == Some(BundledKey::ParticleRsa) {
        let address = ServerAddress::domain(DEFAULT_DOMAIN_TCP, None).map_err(|error| wrong(&error))?;
        let mut edit = AppMut::new(image).map_err(|error| wrong(&error))?;
        return edit.set_server_address(&address).map_err(|error| wrong(&error));
    }
    if force {
        return Ok(());
    }
    Err(Failure::new(
        Code::Usage,
        "server_public_key: the file has no server address, and the table has none either",
        "give the server's name or address with server_public_key.address=HOST",
    ))
}

/// Refuses a key that the device could not use. An address beside a key is another matter.
pub(super) fn must_work(entry: Entry, app: App<'_>) -> Result<(), Failure> {
    if matches!(entry.part_name(), Some(part) if part != "key") {
        return Ok(());
    }
    let (field, bytes) = (entry.field(), app.bytes(entry.field()));
    if judge(field, bytes) != Judgement::Invalid {
        return Ok(());
    }
    let why = match report(field, bytes).and_then(|report| report.findings().next()) {
        Some(finding) => finding.to_string(),
        None => match address(field, bytes) {
            Some(Err(error)) => chain(&error),
            _ => "it is damaged".to_owned(),
        },
    };
    Err(Failure::new(
        Code::Data,
        format_args!("{entry}: {why}"),
        "`spark keys` makes, converts and repairs keys; --force writes it all the same",
    ))
}
