//! `spark keys server` and `spark keys address`.

use super::place::scratch;
use super::protocol::Protocol;
use super::secret::Finding;
use super::{read_key, shown};
use crate::cloud::folder::Folder;
use crate::dct::value::oddities_of;
use crate::dfu::DeviceOptions;
use crate::exit::{Code, Failure, chain};
use crate::particle::{self, Particle, WriteOptions};
use crate::ui;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use serde_json::{Value, json};
use spark_dct::server_address::{AddressError, DEFAULT_DOMAIN_TCP, EXPANDED_CAPACITY, expand_id, raw_value};
use spark_dct::server_key_region::{self, address_block_of_file};
use spark_dct::{Host, ServerAddress, ServerKeyRegion};
use spark_keys::bundled::BundledKey;
use spark_keys::check::{Report, check_server_key};
use spark_keys::{Fingerprint, Key, KeyForm, load};
use std::path::{Path, PathBuf};

/// Write the server's public key and its address into the device.
///
/// The key may be PEM or DER, or a file of 512 or 320 bytes that holds an address as well. Without --host the address stays
/// what it is: that of such a file, or else the one in the device, unless that is the vendor's and the key is not.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The server's public key.
    #[arg(required_unless_present_any = ["particle", "cloud"])]
    key: Option<PathBuf>,
    /// Data folder of a local cloud: its key.
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    cloud: Option<PathBuf>,
    /// The vendor's own cloud: its key, and its address unless another one is given.
    #[arg(long, conflicts_with_all = ["key", "cloud"])]
    particle: bool,
    /// Name or IPv4 address of the server, with or without `:PORT`; `mine` for this computer's only address. `$id` in a name
    /// becomes the device's id.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port of the server, if it is not the protocol's own.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65534))]
    port: Option<u16>,
    /// Which of the device's server keys; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

/// A server's public key for a device, and the address that came with it.
pub(super) struct ServerKey {
    pub(super) spki: Vec<u8>,
    /// The 128 bytes after the key in a file that holds both.
    block: Option<[u8; 128]>,
}

impl ServerKey {
    /// Takes a key file in any form.
    pub(super) fn load(name: &Path, content: &[u8], protocol: Protocol) -> Result<Self, Failure> {
        let refused = |what: &dyn fmt::Display| {
            let next = "give the server's public key: RSA-2048 for TCP devices, EC P-256 for UDP devices";
            Failure::new(Code::Data, format_args!("{}: {what}", shown(name)), next)
        };
        let mut scratch = scratch(content);
        let loaded = load::load(content, &mut scratch).map_err(|error| refused(&chain(&error)))?;
        let form = match (protocol, &loaded.key) {
            (Protocol::Tcp, Key::RsaPublic(_) | Key::RsaPrivate(_)) if loaded.key.bits() == 2048 => {
                KeyForm::SpkiRsa
            }
            (Protocol::Udp, Key::EcPublic(_) | Key::EcPrivate(_)) => KeyForm::SpkiEc,
            (_, key) => {
                let what = format_args!("{} key of {} bits, not for {protocol}", key.algorithm(), key.bits());
                return Err(refused(&what));
            }
        };
        let mut spki = vec![0; content.len() + 64];
        let spki = loaded.key.encode_into(form, &mut spki).map_err(|error| refused(&chain(&error)))?;
        if server_key_region::ServerKey::from_spki(spki).is_none() {
            return Err(refused(&"its exponent is not 65537, the only one that devices know"));
        }
        let block = match loaded.form {
            // Text and other forms have no place for an address.
            KeyForm::SpkiRsa | KeyForm::SpkiEc if !loaded.pem => {
                address_block_of_file(protocol.algorithm(), content, loaded.der_len)
            }
            _ => None,
        };
        if let Some(block) = &block {
            ServerAddress::parse(block).map_err(|error| refused(&error))?;
        }
        Ok(Self { spki: spki.to_vec(), block: block.filter(holds_address) })
    }

    /// The vendor's.
    pub(super) fn bundled(protocol: Protocol) -> Self {
        let key = match protocol {
            Protocol::Tcp => BundledKey::ParticleRsa,
            Protocol::Udp => BundledKey::ParticleEc,
        };
        Self { spki: key.spki().to_vec(), block: None }
    }

    /// One of no vendor.
    #[cfg(test)]
    pub(super) fn own() -> Self {
        Self { spki: vec![0x30; spark_keys::public_key::SPKI_2048_LEN], block: None }
    }

    /// That of a local cloud.
    pub(super) fn of_cloud(folder: &Path, protocol: Protocol) -> Result<Self, Failure> {
        if protocol == Protocol::Udp {
            return Err(Failure::new(
                Code::Usage,
                "the local cloud talks TCP, the device UDP",
                "choose the device's TCP key with --protocol tcp, and `spark keys protocol tcp`",
            ));
        }
        // What the server uses, not what a file says of it.
        let spki = Folder::open_existing(folder)?.server_spki()?;
        Ok(Self { spki: spki.to_vec(), block: None })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.spki)
    }

    /// Key and address as a device has them.
    pub(super) fn region(&self, block: &[u8; 128]) -> Result<Vec<u8>, Failure> {
        let wrong = |what: &dyn fmt::Display| {
            Failure::new(Code::Software, what, "report this as a fault of the program")
        };
        let key = server_key_region::ServerKey::from_spki(&self.spki)
            .ok_or_else(|| wrong(&"the server key is none for devices"))?;
        let mut region = vec![0; key.algorithm().server_region_len()];
        ServerKeyRegion::with_address_block(key, block)
            .encode_into(&mut region)
            .map_err(|error| wrong(&error))?;
        Ok(region)
    }
}

/// The place with key and address in a device, as it is.
pub(super) struct Region {
    protocol: Protocol,
    bytes: Vec<u8>,
}

impl Region {
    pub(super) fn read(device: &mut Particle<'_, '_>, protocol: Protocol) -> Result<Self, Failure> {
        let segment = device.segment(protocol.server_key())?;
        let bytes = device.read(&segment, protocol.algorithm().server_region_len())?;
        Ok(Self { protocol, bytes })
    }

    pub(super) fn check_key(&self) -> Report {
        check_server_key(self.protocol.server_key_kind(), &self.bytes)
    }

    /// What the device did not send counts as erased.
    pub(super) fn address_block(&self) -> &[u8; 128] {
        let region = ServerKeyRegion::parse(self.protocol.algorithm(), &self.bytes);
        region.map_or(&[0xFF; 128], |region| region.address_block())
    }
}

/// Whether a device finds an address here that leads anywhere.
pub(super) fn holds_address(block: &[u8; 128]) -> bool {
    matches!(ServerAddress::parse(block), Ok(Some(address)) if leads_anywhere(&address))
}

/// Not the addresses of zeroed and of erased flash.
pub(super) fn leads_anywhere(address: &ServerAddress<'_>) -> bool {
    !matches!(address.host(), Host::Ipv4(Ipv4Addr::UNSPECIFIED | Ipv4Addr::BROADCAST))
}

/// A host as people write it, perhaps with a port.
pub(super) fn address(host: &str, port: Option<u16>) -> Result<[u8; 128], Failure> {
    let mut block = [0; 128];
    let refused = |what: &dyn fmt::Display| {
        Failure::new(
            Code::Usage,
            format_args!("host {host}: {what}"),
            "give a name of at most 63 characters or an IPv4 address, and a port behind `:` or with --port",
        )
    };
    if host.parse::<core::net::Ipv6Addr>().is_ok() {
        return Err(refused(&"devices know IPv4 only"));
    }
    let found = match host {
        "mine" => ServerAddress::ipv4(own_address()?, port),
        host => ServerAddress::from_text(host).map_err(|error| refused(&error))?,
    };
    let address = match (found.host(), port.or(found.port())) {
        _ if port.is_some() && found.port().is_some() && host != "mine" => {
            return Err(refused(&"it has a port, and --port gives another one"));
        }
        (Host::Ipv4(ip), port) => ServerAddress::ipv4(ip, port),
        (Host::Domain(name), port) => {
            is_name(name).map_err(|what| refused(&what))?;
            ServerAddress::domain(name, port).map_err(|error| refused(&error))?
        }
    };
    if !leads_anywhere(&address) {
        return Err(refused(&"no device can reach that address"));
    }
    address.encode_into(&mut block);
    Ok(block)
}

/// A name that a name server can know, once `$id` is the device's id.
fn is_name(name: &str) -> Result<(), &'static str> {
    let mut buffer = [0; EXPANDED_CAPACITY - 1];
    let expanded = expand_id(name, &[0; 12], &mut buffer).map_err(
        |_| "with the device's id in it the name is longer than the 95 characters of the device's buffer",
    )?;
    let is_label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..64).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = expanded.strip_suffix('.').unwrap_or(expanded);
    if labels.split('.').all(is_label) {
        Ok(())
    } else {
        Err("no host name: it has letters, digits, '-' and '_', with '.' between its parts, and `$id`")
    }
}

fn own_address() -> Result<Ipv4Addr, Failure> {
    let all = if_addrs::get_if_addrs().map_err(|error| {
        Failure::new(Code::Io, format_args!("cannot list this computer's addresses: {error}"), "give --host")
    })?;
    let found: Vec<Ipv4Addr> = all
        .iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    match *found {
        [only] => Ok(only),
        [] => {
            Err(Failure::new(Code::Unavailable, "this computer has no address", "connect it to the network"))
        }
        _ => {
            let names: Vec<_> = found.iter().map(ToString::to_string).collect();
            Err(Failure::new(
                Code::Usage,
                format_args!("this computer has several addresses: {}", names.join(", ")),
                "give the one that the device can reach with --host",
            ))
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let given = args.host.as_ref().map(|host| address(host, args.port)).transpose()?;
    if given.is_none() && args.port.is_some() {
        return Err(Failure::new(Code::Usage, "--port without --host", "give both"));
    }
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        let key = match (&args.key, &args.cloud) {
            (Some(path), _) => ServerKey::load(path, &read_key(path)?, protocol)?,
            (None, Some(folder)) => ServerKey::of_cloud(folder, protocol)?,
            (None, None) => ServerKey::bundled(protocol),
        };
        let block = match given {
            Some(block) => block,
            None => kept_address(device, protocol, &key)?,
        };
        let segment = device.segment(protocol.server_key())?;
        let content = key.region(&block)?;
        let written = device.write(&segment, &content, &args.write)?;
        device.finish(&args.write)?;
        let shown = Shown::of(protocol, &block, device.id().map(|id| id.0));
        if args.device.json() {
            return ui::print(
                json!({ "key_fingerprint": key.fingerprint().to_string(), "address": shown.to_json(), "write": written }),
            );
        }
        ui::print(format_args!("{written}\nserver key {}, address {shown}", key.fingerprint().short()))
    })
}

/// The address that is written when none is given.
pub(super) fn kept_address(
    device: &mut Particle<'_, '_>,
    protocol: Protocol,
    key: &ServerKey,
) -> Result<[u8; 128], Failure> {
    if let Some(block) = key.block {
        return Ok(block);
    }
    match BundledKey::of_spki(&key.spki) {
        Some(BundledKey::ParticleRsa) => return address(DEFAULT_DOMAIN_TCP, None),
        Some(BundledKey::ParticleEc) => return address("$id.udp.particle.io", None),
        _ => {}
    }
    let block = *Region::read(device, protocol)?.address_block();
    let next = "give the server's name or address with --host";
    if !holds_address(&block) {
        return Err(Failure::new(Code::Usage, "the device has no server address, and none was given", next));
    }
    match vendors_host(&block) {
        Some(host) => {
            let what = format_args!("the address in the device, {host}, is the vendor's, and the key is not");
            Err(Failure::new(Code::Usage, what, next))
        }
        None => Ok(block),
    }
}

/// The name of the address, if it is one of the vendor's.
fn vendors_host(block: &[u8; 128]) -> Option<String> {
    let Ok(Some(address)) = ServerAddress::parse(block) else { return None };
    let Host::Domain(name) = address.host() else { return None };
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let of =
        |domain: &str| lower.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    (of("particle.io") || of("spark.io")).then(|| name.to_owned())
}

/// Code of the finding that key and address are of different clouds.
pub(super) const VENDORS_ADDRESS: &str = "server-address-of-vendor";

/// Whether key and address in a device are of one cloud, and of the one whose key is given.
pub(super) fn disagreements(region: &Region, wanted: Option<&[u8]>) -> Vec<Finding> {
    let report = region.check_key();
    let present = report.fingerprint().filter(|_| report.device_works());
    let mut found = Vec::new();
    if let Some(wanted) = wanted.map(Fingerprint::of_spki)
        && present != Some(wanted)
    {
        let present = present.map_or_else(|| "no key".to_owned(), |key| format!("key {}", key.short()));
        let owner =
            report.bundled().map(|key| format!(" (the vendor's own, {})", key.name())).unwrap_or_default();
        let device = "encrypts for another server than this cloud, or goes to another one";
        found.push(Finding {
            code: "cloud-server-key-mismatch".to_owned(),
            what: format!("{present}{owner} where the cloud has {}: device {device}", wanted.short()),
            device: device.to_owned(),
            cloud: "cannot read what the device sends, and closes the connection (handshake -19)".to_owned(),
            next: "write this cloud's key and address with `spark keys server --cloud DIR --host HOST`"
                .to_owned(),
        });
    }
    let block = region.address_block();
    let host = match ServerAddress::parse(block) {
        // Firmware takes that length for no address.
        Ok(None) | Err(AddressError::DomainLengthByte { .. }) if region.protocol == Protocol::Tcp => {
            Some(format!("{DEFAULT_DOMAIN_TCP}, by default"))
        }
        _ => vendors_host(block),
    };
    if let (Some(host), Some(_), None) = (host, present, report.bundled()) {
        let device = "goes to the vendor's cloud with the key of another server and cannot connect";
        found.push(Finding {
            code: VENDORS_ADDRESS.to_owned(),
            what: format!(
                "the server address is {host}, but the server key is not the vendor's: device {device}"
            ),
            device: device.to_owned(),
            cloud: "is not reached; the vendor's cannot read what the device sends".to_owned(),
            next: "write key and address of one cloud with `spark keys server`".to_owned(),
        });
    }
    found
}

/// Show the address of the server that the device connects to.
#[derive(clap::Args, Clone, Debug)]
pub struct Address {
    /// Which of the device's servers; by default the one that the device uses.
    #[arg(long)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    device: DeviceOptions,
}

/// An address as it is shown.
pub(super) struct Shown {
    url: String,
    fields: Value,
    /// What is odd about it, although the device can read it.
    remarks: Vec<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        self.remarks.iter().try_for_each(|remark| write!(f, "\n  remark: {remark}"))
    }
}

/// The host of an address as people write it.
pub(super) fn host_text(address: &ServerAddress<'_>) -> String {
    match address.host() {
        Host::Ipv4(ip) => ip.to_string(),
        Host::Domain(name) => name.to_owned(),
    }
}

impl Shown {
    pub(super) fn of(protocol: Protocol, block: &[u8; 128], id: Option<[u8; 12]>) -> Self {
        let default = protocol.default_port();
        let erased = block.iter().all(|byte| *byte == 0xFF);
        let remarks: Vec<_> = oddities_of(block).iter().map(ToString::to_string).collect();
        match ServerAddress::parse(block) {
            Ok(Some(address)) => {
                let port = address.port_or(default);
                let kind = match address.host() {
                    Host::Ipv4(_) => "ipv4",
                    Host::Domain(_) => "domain",
                };
                let host = host_text(&address);
                let mut buffer = [0; EXPANDED_CAPACITY];
                let expanded = id
                    .and_then(|id| expand_id(&host, &id, &mut buffer).ok())
                    .filter(|expanded| *expanded != host)
                    .map(str::to_owned);
                let url = format!("{protocol}://{host}:{port}");
                let fields = json!({
                    "protocol": protocol, "type": kind, "host": host, "expanded": expanded, "port": port,
                    "default_port": address.port().is_none(), "erased": false, "error": null,
                    "remarks": remarks,
                });
                Self { url, fields, remarks }
            }
            result => {
                let error = result.err().map(|error| error.to_string());
                let (host, url) = match (protocol, &error) {
                    (Protocol::Tcp, None) => (
                        Some(DEFAULT_DOMAIN_TCP),
                        format!("{protocol}://{DEFAULT_DOMAIN_TCP}:{default} (by default, none is stored)"),
                    ),
                    (Protocol::Udp, None) => {
                        (None, format!("{protocol}: none is stored, the device cannot connect"))
                    }
                    (_, Some(error)) => (
                        None,
                        format!(
                            "{protocol}: {error}; it holds {:?}",
                            String::from_utf8_lossy(raw_value(block))
                        ),
                    ),
                };
                let fields = json!({
                    "protocol": protocol, "type": null, "host": host, "expanded": null, "port": default,
                    "default_port": true, "erased": erased, "error": error,
                    "remarks": remarks,
                });
                Self { url, fields, remarks }
            }
        }
    }

    pub(super) fn to_json(&self) -> Value {
        self.fields.clone()
    }
}

pub(super) fn show(args: &Address) -> Result<(), Failure> {
    particle::open(&args.device, |device| {
        let protocol = Protocol::of(device, args.protocol)?;
        let region = Region::read(device, protocol)?;
        let shown = Shown::of(protocol, region.address_block(), device.id().map(|id| id.0));
        if args.device.json() { ui::print(shown.to_json()) } else { ui::print(&shown) }
    })
}
