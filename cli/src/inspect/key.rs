//! Kinds `private-key`, `public-key` and `server-key-region`.

use super::Scan;
use super::report::{Fields, Problem};
use crate::dct::value::oddities_of;
use crate::exit::chain;
use crate::keys::check_file::{
    DamagedPublic, damaged_public, not_a_key_for_devices, of_private_key, of_public_key,
};
use crate::keys::from_utf16;
use crate::keys::place::{has_length_of_field, may_be_of_a_device, text_in_field, text_in_region};
use core::fmt;
use serde::Serialize;
use spark_dct::segment::KeyAlgorithm;
use spark_dct::{Field, Host};
use spark_keys::bundled::BundledKey;
use spark_keys::check::{Report, ServerKeyKind, check_ec, check_server_key};
use spark_keys::der::{INTEGER, Reader, SEQUENCE};
use spark_keys::device_view::counts_as_empty;
use spark_keys::load;
use spark_keys::{Key, KeyForm, RsaPrivateKeyView, check, pem, repair, repair_ec};
use zeroize::Zeroizing;

/// Longest file that is looked at as a key.
const MAX_FILE: usize = 16 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct PrivateKey {
    pub(super) algorithm: Option<&'static str>,
    pub(super) bits: Option<usize>,
    pub(super) form: Option<&'static str>,
    pub(super) pem: bool,
    pub(super) der_len: Option<usize>,
    /// Bytes behind the key.
    pub(super) trailing_len: Option<usize>,
    /// Whether a device can use it, as `spark keys check` says.
    pub(super) device_compatible: bool,
    pub(super) fingerprint: Option<String>,
    /// What is noteworthy without being wrong: codes of findings.
    pub(super) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct PublicKey {
    pub(super) algorithm: Option<&'static str>,
    pub(super) bits: Option<usize>,
    pub(super) form: Option<&'static str>,
    pub(super) pem: bool,
    pub(super) der_len: Option<usize>,
    pub(super) trailing_len: Option<usize>,
    /// Whether devices can have it as their server's key.
    pub(super) server_key: bool,
    /// Which of the vendor's own server keys it is.
    pub(super) bundled: Option<&'static str>,
    pub(super) fingerprint: Option<String>,
    /// What is noteworthy without being wrong: codes.
    pub(super) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ServerKeyRegion {
    pub(super) algorithm: &'static str,
    pub(super) fingerprint: Option<String>,
    pub(super) bundled: Option<&'static str>,
    pub(super) address: Option<Address>,
    /// What is odd about the address without making it unreadable.
    pub(super) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Address {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) host: String,
    /// `null`: the protocol's own.
    pub(super) port: Option<u16>,
}

/// What the first bytes say, for files that may be a key.
pub(super) enum Look {
    Private,
    Public,
    Region,
}

/// Whether the file looks like a key.
pub(super) fn look(scan: &Scan) -> Option<Look> {
    if scan.len() > MAX_FILE as u64 {
        return None;
    }
    if let Some(damaged) = damaged_public(&scan.head) {
        return Some(match damaged {
            DamagedPublic::Server(ServerKeyKind::Rsa) if may_be_region(scan, KeyAlgorithm::Rsa) => {
                Look::Region
            }
            DamagedPublic::Server(ServerKeyKind::Ec) if may_be_region(scan, KeyAlgorithm::Ec) => Look::Region,
            _ => Look::Public,
        });
    }
    let form = match KeyForm::of(&scan.head) {
        Some(form) if form != KeyForm::Pem => form,
        _ if hidden_key(&scan.head).is_some() => return Some(Look::Private),
        // Other text may stand before the key.
        _ => return look_at_text(&scan.head).or_else(|| look_at_other_der(&scan.head)),
    };
    match form {
        form if !is_public(form) => Some(Look::Private),
        KeyForm::SpkiRsa if may_be_region(scan, KeyAlgorithm::Rsa) && !is_longer_key(&scan.head) => {
            Some(Look::Region)
        }
        KeyForm::SpkiEc if may_be_region(scan, KeyAlgorithm::Ec) => Some(Look::Region),
        _ => Some(Look::Public),
    }
}

/// Whether the file ends within the address, or behind it where the device has more.
fn may_be_region(scan: &Scan, algorithm: KeyAlgorithm) -> bool {
    let len = usize::try_from(scan.len()).unwrap_or(usize::MAX);
    // Type and length of the address are its first two bytes.
    (algorithm.server_address_at() + 2..=algorithm.server_field_len()).contains(&len)
}

/// Whether it is a public key that would reach over the address of its server.
fn is_longer_key(head: &[u8]) -> bool {
    matches!(load::load(head, &mut scratch(head)), Err(load::LoadError::Bits { bits }) if bits > 2048)
}

/// Keys under a passphrase and of other algorithms.
fn look_at_other_der(head: &[u8]) -> Option<Look> {
    let mut scratch = scratch(head);
    match load::load(head, &mut scratch).err()? {
        load::LoadError::Encrypted => Some(Look::Private),
        load::LoadError::Algorithm => {
            // A private key begins with the version of its form.
            let has_version = Reader::new(head)
                .element(SEQUENCE)
                .is_ok_and(|content| Reader::inside(&content).rest().first() == Some(&INTEGER));
            Some(if has_version { Look::Private } else { Look::Public })
        }
        _ => None,
    }
}

/// Algorithm of the private key in bytes that do not begin like one: its header is damaged, or erased, so that a device takes its
/// place for an empty one.
fn hidden_key(head: &[u8]) -> Option<&'static str> {
    if !(counts_as_empty(head) || may_be_of_a_device(head)) || head.len() > Field::DEVICE_PRIVATE_KEY.len() {
        return None;
    }
    // What can be rebuilt is proven to be a key.
    if repair_ec(head, None).is_ok() {
        return Some("ec-p256");
    }
    repair(head).is_ok().then_some("rsa")
}

fn look_at_text(text: &[u8]) -> Option<Look> {
    if let Some(plain) = plain_text(text) {
        return look_at_text(&plain);
    }
    if !has(text, b"-----BEGIN ") {
        return None;
    }
    let mut der = scratch(text);
    match pem::decode(text, &mut der) {
        Ok((form, _)) if is_public(form) => Some(Look::Public),
        Ok(_) => Some(Look::Private),
        // Damaged text is explained as what its first line says.
        Err(_) if has(text, b" PRIVATE KEY-----") => Some(Look::Private),
        Err(_) => has(text, b" PUBLIC KEY-----").then_some(Look::Public),
    }
}

/// Key text in UTF-16 of either order, with and without its mark, as plain text.
fn plain_text(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let marked = |mark: &[u8]| from_utf16(&Zeroizing::new([mark, text].concat()));
    from_utf16(text).or_else(|| marked(&[0xFF, 0xFE])).or_else(|| marked(&[0xFE, 0xFF]))
}

/// What is said of key text in UTF-16 before all else; devices and most programs know nothing of it. With its mark it is read by
/// all of `spark keys`, and only remarkable.
fn of_text(scan: &Scan, explain: impl FnOnce(&[u8]) -> (Vec<Problem>, Fields)) -> (Vec<Problem>, Fields) {
    const CODE: &str = "text-utf16";
    let Some(plain) = plain_text(&scan.head) else { return explain(&scan.head) };
    let (mut found, mut fields) = explain(&plain);
    if from_utf16(&scan.head).is_none() {
        found.insert(0, Problem::new(CODE, pem::PemError::Utf16, None));
    } else if let Fields::PrivateKey(PrivateKey { remarks, .. })
    | Fields::PublicKey(PublicKey { remarks, .. }) = &mut fields
    {
        remarks.push(CODE.to_owned());
    }
    (found, fields)
}

const fn is_public(form: KeyForm) -> bool {
    matches!(form, KeyForm::SpkiRsa | KeyForm::SpkiEc | KeyForm::Pkcs1Public)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn problems(report: &Report) -> Vec<Problem> {
    report
        .findings()
        .map(|finding| {
            Problem::new(finding.code(), finding, finding.offset().and_then(|at| u64::try_from(at).ok()))
        })
        .collect()
}

fn fingerprint(key: &Key<'_>) -> Option<String> {
    key.fingerprint().map(|fingerprint| fingerprint.to_string())
}

/// Room for whatever text the file holds.
fn scratch(head: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; head.len().max(load::MAX_DER)])
}

pub(super) fn private(scan: &Scan) -> (Vec<Problem>, Fields) {
    of_text(scan, private_key)
}

fn private_key(head: &[u8]) -> (Vec<Problem>, Fields) {
    let mut scratch = scratch(head);
    let pem = KeyForm::of(head).is_none_or(|form| form == KeyForm::Pem) && has(head, b"-----BEGIN ");
    let mut fields = PrivateKey {
        algorithm: None,
        bits: None,
        form: KeyForm::of(head).map(KeyForm::name),
        pem,
        der_len: None,
        trailing_len: None,
        device_compatible: false,
        fingerprint: None,
        remarks: Vec::new(),
    };
    let found = match load::load(head, &mut scratch) {
        Ok(loaded) if loaded.key.is_private() => {
            let (device_compatible, remarks) = of_private_key(head, &loaded);
            fields = PrivateKey {
                algorithm: Some(loaded.key.algorithm()),
                bits: Some(loaded.key.bits()),
                form: Some(loaded.form.name()),
                pem: loaded.pem,
                der_len: Some(loaded.der_len),
                trailing_len: Some(loaded.trailing.len()),
                device_compatible,
                fingerprint: fingerprint(&loaded.key),
                remarks,
            };
            Vec::new()
        }
        Ok(loaded) => {
            let what = format_args!("the file holds a public key ({})", loaded.form.name());
            vec![Problem::new("public-key", what, None)]
        }
        Err(error) => damaged(head, &error, &mut fields),
    };
    (found, Fields::PrivateKey(fields))
}

/// All that is wrong with a private key that does not load, and what can be said of it all the same.
fn damaged(head: &[u8], error: &load::LoadError, fields: &mut PrivateKey) -> Vec<Problem> {
    if text_in_field(head).is_none()
        && let Some(code) = not_a_key_for_devices(error)
    {
        return vec![Problem::new(code, chain(error), None)];
    }
    let mut der = scratch(head);
    let (form, bytes) = match load::unpack(head, &mut der) {
        Some(unpacked) => (Some(unpacked.form), unpacked.der),
        None => (None, head),
    };
    let hidden = hidden_key(head);
    let in_field = text_in_field(head);
    let (algorithm, report) = match form {
        _ if in_field == Some(KeyAlgorithm::Ec) => ("ec-p256", check_ec(head)),
        _ if in_field.is_some() => ("rsa", check(head)),
        Some(KeyForm::Sec1Ec) => ("ec-p256", check_ec(bytes)),
        Some(KeyForm::Pkcs1Private | KeyForm::Pkcs8Private) => ("rsa", check(bytes)),
        None if hidden == Some("ec-p256") => ("ec-p256", check_ec(bytes)),
        None if !fields.pem => ("rsa", check(bytes)),
        _ => return vec![Problem::new("unreadable", chain(error), None)],
    };
    fields.algorithm = form.map(|_| algorithm).or(hidden);
    fields.form = form.map(KeyForm::name);
    fields.device_compatible = report.device_works();
    fields.fingerprint = report.fingerprint().map(|fingerprint| fingerprint.to_string());
    if let Ok(key) = RsaPrivateKeyView::parse(bytes) {
        fields.bits = Some(key.public_key().bits());
        (fields.der_len, fields.trailing_len) = (Some(key.der_len()), Some(key.trailing().len()));
    }
    let mut found = problems(&report);
    if fields.pem || !has_length_of_field(head) {
        // No device had these bytes in its place of a key.
        found.retain(|problem| problem.code != "secret-published");
    }
    if found.is_empty() || matches!(error, load::LoadError::Pem(_)) {
        found.push(Problem::new("unreadable", chain(error), None));
    }
    found
}

pub(super) fn public(scan: &Scan) -> (Vec<Problem>, Fields) {
    of_text(scan, public_key)
}

fn public_key(head: &[u8]) -> (Vec<Problem>, Fields) {
    let mut scratch = scratch(head);
    let pem = KeyForm::of(head).is_none_or(|form| form == KeyForm::Pem) && has(head, b"-----BEGIN ");
    let form = KeyForm::of(head).map(KeyForm::name);
    let unread = |problem: Problem| {
        let fields = PublicKey {
            algorithm: None,
            bits: None,
            form,
            pem,
            der_len: None,
            trailing_len: None,
            server_key: false,
            bundled: None,
            fingerprint: None,
            remarks: Vec::new(),
        };
        (vec![problem], Fields::PublicKey(fields))
    };
    if let Some(kind) = text_in_region(head)
        && let Some(problem) = problems(&check_server_key(kind, head)).into_iter().next()
    {
        return unread(problem);
    }
    if damaged_public(head).is_some() {
        return unread(Problem::new(
            "damaged-key",
            "the header of the public key is damaged; copy it again",
            None,
        ));
    }
    match load::load(head, &mut scratch) {
        Ok(loaded) if !loaded.key.is_private() => {
            let server_key = match &loaded.key {
                Key::RsaPublic(key) => key.is_server_key(),
                // Text becomes canonical on its way into a device.
                _ => loaded.pem || check_server_key(ServerKeyKind::Ec, head).device_works(),
            };
            let fields = PublicKey {
                algorithm: Some(loaded.key.algorithm()),
                bits: Some(loaded.key.bits()),
                form: Some(loaded.form.name()),
                pem: loaded.pem,
                der_len: Some(loaded.der_len),
                trailing_len: Some(loaded.trailing.len()),
                server_key,
                bundled: loaded.key.fingerprint().and_then(|of| bundled(&of)),
                fingerprint: fingerprint(&loaded.key),
                remarks: Vec::new(),
            };
            let report = of_public_key(head, &loaded).filter(|report| !report.device_works());
            let found = report.map(|report| problems(&report)).unwrap_or_default();
            (found, Fields::PublicKey(fields))
        }
        Ok(_) => unread(Problem::new("private-key", "the file holds a private key", None)),
        Err(error) => {
            let code = match error {
                load::LoadError::Bits { .. } => "wrong-size",
                _ => not_a_key_for_devices(&error).unwrap_or("unreadable"),
            };
            unread(Problem::new(code, chain(&error), None))
        }
    }
}

fn bundled(fingerprint: &spark_keys::Fingerprint) -> Option<&'static str> {
    BundledKey::of_fingerprint(fingerprint).map(BundledKey::name)
}

/// Key and address of a server, as in a device. What is missing at the end counts as erased.
pub(super) fn region(scan: &Scan) -> (Vec<Problem>, Fields) {
    let ec = match KeyForm::of(&scan.head) {
        Some(KeyForm::SpkiEc) => true,
        Some(_) => false,
        // Only the length is left to tell.
        None => scan.len() <= KeyAlgorithm::Ec.server_region_len() as u64,
    };
    let (algorithm, kind, name) = if ec {
        (KeyAlgorithm::Ec, ServerKeyKind::Ec, "ec-p256")
    } else {
        (KeyAlgorithm::Rsa, ServerKeyKind::Rsa, "rsa")
    };
    let mut bytes = scan.head.clone();
    bytes.resize(algorithm.server_region_len(), 0xFF);
    let report = check_server_key(kind, &bytes);
    let mut found = problems(&report);
    let max = KeyAlgorithm::Rsa.server_field_len();
    if scan.len() > max as u64 {
        let message = format_args!("a server key region has at most {max} bytes");
        found.push(Problem::new("too-long", message, Some(max as u64)));
    }
    // It has the length of a region.
    let region = spark_dct::ServerKeyRegion::parse(algorithm, &bytes).ok();
    let address = match region.map_or(Ok(None), |region| region.address()) {
        Ok(address) => address,
        Err(error) => {
            let at = u64::try_from(algorithm.server_address_at()).ok();
            found.push(Problem::new("bad-address", error, at));
            None
        }
    };
    let address = address.map(|address| {
        let (kind, host) = match address.host() {
            Host::Ipv4(ip) => ("ipv4", ip.to_string()),
            Host::Domain(name) => ("domain", name.to_owned()),
        };
        Address { kind, host, port: address.port() }
    });
    let fields = ServerKeyRegion {
        algorithm: name,
        fingerprint: report.fingerprint().map(|fingerprint| fingerprint.to_string()),
        bundled: report.bundled().map(BundledKey::name),
        address,
        remarks: region
            .iter()
            .flat_map(|region| oddities_of(region.address_block()))
            .map(|oddity| oddity.to_string())
            .collect(),
    };
    (found, Fields::ServerKeyRegion(fields))
}

/// Algorithm and size, form, lengths and fingerprint: what both kinds of keys show.
fn common(
    f: &mut fmt::Formatter<'_>,
    (algorithm, bits): (Option<&str>, Option<usize>),
    (form, pem): (Option<&str>, bool),
    (der_len, trailing_len): (Option<usize>, Option<usize>),
    fingerprint: Option<&str>,
) -> fmt::Result {
    write!(f, "  form      {}{}", form.unwrap_or("unknown"), if pem { " as PEM" } else { "" })?;
    if let (Some(algorithm), Some(bits)) = (algorithm, bits) {
        write!(f, "\n  algorithm {algorithm}, {bits} bits")?;
    }
    if let (Some(der_len), Some(trailing)) = (der_len, trailing_len) {
        write!(f, "\n  length    {der_len} bytes of DER, {trailing} behind them")?;
    }
    match fingerprint {
        Some(fingerprint) => write!(f, "\n  key       {fingerprint}"),
        None => Ok(()),
    }
}

impl fmt::Display for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = (self.der_len, self.trailing_len);
        common(f, (self.algorithm, self.bits), (self.form, self.pem), lengths, self.fingerprint.as_deref())?;
        write!(f, "\n  device    {}", if self.device_compatible { "can use it" } else { "cannot use it" })?;
        match &*self.remarks {
            [] => Ok(()),
            remarks => write!(f, "\n  remarks   {}", remarks.join(", ")),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = (self.der_len, self.trailing_len);
        common(f, (self.algorithm, self.bits), (self.form, self.pem), lengths, self.fingerprint.as_deref())?;
        match self.bundled {
            Some(name) => write!(f, "\n  owner     the vendor's cloud ({name})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ServerKeyRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  algorithm {}\n  key       {}",
            self.algorithm,
            self.fingerprint.as_deref().unwrap_or("none")
        )?;
        if let Some(name) = self.bundled {
            write!(f, " ({name}, the vendor's cloud)")?;
        }
        match &self.address {
            Some(Address { host, port: Some(port), .. }) => write!(f, "\n  address   {host}:{port}"),
            Some(Address { host, port: None, .. }) => write!(f, "\n  address   {host}, default port"),
            None => write!(f, "\n  address   none"),
        }?;
        self.remarks.iter().try_for_each(|remark| write!(f, "\n  remark    {remark}"))
    }
}
