//! `spark keys check FILE`.

use super::check::{Candidate, Checked, Examined, odd_address, report};
use super::place::{
    has_length_of_field, is_rsa_place, is_text, protocol_of, protocol_of_region, scratch, text_in_field,
    text_in_region,
};
use super::protocol::Protocol;
use super::secret::{Finding, Secret, describe};
use super::{argument, read_key, shown};
use crate::exit::{Code, Failure, chain};
use crate::inspect;
use core::fmt::Display;
use spark_dct::segment::KeyAlgorithm;
use spark_dct::server_key_region::address_block_of_file;
use spark_keys::bundled::BundledKey;
use spark_keys::check::{PublicCopyFinding, Report, ServerKeyKind, check_server_key};
use spark_keys::der::DerError;
use spark_keys::device_view::decrypts;
use spark_keys::load::{self, LoadError, Loaded, Unpacked};
use spark_keys::pem::PemError;
use spark_keys::{DeviceKey, Key, KeyForm, RsaPrivateKeyView, published_by_device};
use std::path::Path;
use zeroize::Zeroizing;

/// Two keys one of which was to replace the other.
pub(super) type Candidates<'a> = Option<&'a [Candidate; 2]>;

pub(super) fn of_file(
    file: &Path,
    protocol: Option<Protocol>,
    candidates: Candidates<'_>,
    copy: Option<&[u8]>,
) -> Result<Checked, Failure> {
    let content = read_key(file)?;
    let look = Look { file, protocol, content: &content, candidates, copy };
    let (form, mut examined) = look.examine()?;
    for finding in &mut examined.findings {
        let with_command = format!("repair the key (`spark keys repair {}`)", argument(file));
        finding.next = finding.next.replacen("repair the key", &with_command, 1);
    }
    Ok(Checked {
        file: Some(file.to_owned()),
        form: form.or_else(|| KeyForm::of(&content)).map(KeyForm::name),
        device_id: None,
        address: None,
        ok: examined.ok(),
        keys: vec![examined],
    })
}

/// Refuses the application section of a device's table, also one with the text of a key in it.
pub(super) fn refuse_table(path: &Path, content: &[u8]) -> Result<(), Failure> {
    match inspect::name_of_other_kind(content).filter(|kind| kind == "dct-app") {
        Some(kind) => Err(of_other_kind(path, &kind)),
        None => Ok(()),
    }
}

fn of_other_kind(path: &Path, kind: &str) -> Failure {
    Failure::new(
        Code::Data,
        format_args!("{} is no key file but of the kind {kind}", shown(path)),
        format_args!(
            "`spark inspect {0}` explains it; of a configuration table `spark dct get NAME --raw KEY -f {0}` takes a key out",
            argument(path)
        ),
    )
}

/// Whether a device can use the private key in a file, and the codes of what there is to say of it, as `spark keys check` says.
pub(crate) fn of_private_key(content: &[u8], loaded: &Loaded<'_>) -> (bool, Vec<String>) {
    let of_key = match &loaded.key {
        Key::EcPrivate(_) => Protocol::Udp,
        // A server's.
        key if key.bits() == 2048 => return (false, Vec::new()),
        _ => Protocol::Tcp,
    };
    let look = Look { file: Path::new(""), protocol: None, content, candidates: None, copy: None };
    let in_place = look.at_text_in_place().or_else(|| look.in_rsa_place(loaded));
    let examined = in_place.map_or_else(|| look.device_key(loaded, of_key), Ok);
    examined.map_or((false, Vec::new()), |examined| {
        (examined.works, examined.findings.into_iter().map(|finding| finding.code).collect())
    })
}

/// What `spark keys check` says of a public key in a file as a key for devices; `None` for a device's own, which is for clouds.
pub(crate) fn of_public_key(content: &[u8], loaded: &Loaded<'_>) -> Option<Report> {
    let look = Look { file: Path::new(""), protocol: None, content, candidates: None, copy: None };
    match &loaded.key {
        key if is_devices_own(key) => None,
        Key::EcPublic(_) => Some(look.server_report(ServerKeyKind::Ec, loaded)),
        _ => Some(look.server_report(ServerKeyKind::Rsa, loaded)),
    }
}

/// Whether it is the public half of a TCP device's key.
fn is_devices_own(key: &Key<'_>) -> bool {
    matches!(key, Key::RsaPublic(key) if key.bits() == 1024 && key.fingerprint().is_some())
}

struct Look<'a> {
    file: &'a Path,
    /// The device's place that the file is for, if the person said so.
    protocol: Option<Protocol>,
    content: &'a [u8],
    candidates: Candidates<'a>,
    copy: Option<&'a [u8]>,
}

impl Look<'_> {
    /// What it is, with the form of the key that it holds.
    fn examine(&self) -> Result<(Option<KeyForm>, Examined), Failure> {
        let mut scratch = scratch(self.content);
        Ok(match (self.at_text_in_place(), load::load(self.content, &mut scratch)) {
            (Some(examined), _) => (None, examined),
            (None, Ok(loaded)) => (Some(loaded.form), self.at_key(&loaded)?),
            (None, Err(error)) => self.at_damage(&error)?,
        })
    }

    /// Text where a device has DER.
    fn at_text_in_place(&self) -> Option<Examined> {
        if let Some(kind) = text_in_region(self.content).filter(|_| self.protocol.is_none()) {
            return Some(server(kind, self.content));
        }
        text_in_field(self.content).map(|algorithm| {
            let protocol = if algorithm == KeyAlgorithm::Ec { Protocol::Udp } else { Protocol::Tcp };
            self.judge(self.protocol.unwrap_or(protocol), self.content)
        })
    }

    /// A key of any kind that stands in the place of a TCP device's key, which has more bytes than the key.
    fn in_rsa_place(&self, loaded: &Loaded<'_>) -> Option<Examined> {
        let is_place = is_rsa_place(self.content.len()) && !loaded.pem && !loaded.trailing.is_empty();
        (is_place && self.protocol.is_none()).then(|| self.judge(Protocol::Tcp, self.content))
    }

    fn at_key(&self, loaded: &Loaded<'_>) -> Result<Examined, Failure> {
        if let Some(examined) = self.in_rsa_place(loaded) {
            return Ok(examined);
        }
        let private = |of_key| self.device_key(loaded, of_key);
        match &loaded.key {
            Key::EcPrivate(_) => private(Protocol::Udp),
            Key::RsaPrivate(key) if key.public_key().bits() == 2048 && self.protocol.is_none() => {
                self.server_private_key(loaded)
            }
            Key::RsaPrivate(_) => private(Protocol::Tcp),
            key if is_devices_own(key) => {
                self.refuse_candidates()?;
                Ok(self.public("device public key", Vec::new(), loaded))
            }
            Key::RsaPublic(_) => {
                self.refuse_candidates()?;
                self.refuse_copy("a server's public key")?;
                Ok(self.server_public_key(ServerKeyKind::Rsa, loaded))
            }
            Key::EcPublic(_) => {
                self.refuse_candidates()?;
                let server = self.server_public_key(ServerKeyKind::Ec, loaded);
                if server.bundled.is_some() {
                    self.refuse_copy("a server's public key")?;
                    return Ok(server);
                }
                let public = self.public("public key of a UDP device or its server", server.findings, loaded);
                Ok(Examined { works: server.works, ..public })
            }
        }
    }

    fn device_key(&self, loaded: &Loaded<'_>, of_key: Protocol) -> Result<Examined, Failure> {
        // Text and PKCS#8 are good forms for a file; in a device's place, with padding behind them, they are not.
        let pkcs8 = matches!(loaded.form, KeyForm::Pkcs8Private | KeyForm::Pkcs8Ec);
        let pkcs8 = pkcs8 && loaded.trailing.is_empty() && !loaded.pem;
        let protocol = self.protocol.unwrap_or(of_key);
        let written = if loaded.pem || pkcs8 { written(loaded, of_key)? } else { Zeroizing::default() };
        let bytes = if written.is_empty() { self.content } else { &written };
        let mut examined = self.judge(protocol, bytes);
        if protocol == of_key {
            if !written.is_empty() {
                // Of what would be written into a device; the file itself has its own remark.
                examined.findings.retain(|finding| finding.code != "not-minimal");
            }
            examined.findings.extend(pkcs8.then(pkcs8_file));
            if let Key::RsaPrivate(key) = &loaded.key
                && !written.is_empty()
                && DeviceKey::from_view(key).is_ok_and(|key| key.is_padded())
            {
                examined.findings.push(short_number_file());
            }
        }
        Ok(examined)
    }

    fn server_private_key(&self, loaded: &Loaded<'_>) -> Result<Examined, Failure> {
        self.refuse_candidates()?;
        self.refuse_copy("a server's private key")?;
        let mut spki = [0; 1024];
        let spki = loaded.key.encode_into(KeyForm::SpkiRsa, &mut spki).unwrap_or_default();
        let mut examined = Examined::of("server private key", &check_server_key(ServerKeyKind::Rsa, spki));
        examined.findings.push(Finding {
            code: "key-of-a-server".to_owned(),
            what: "the key has 2048 bits; device takes only its public half, as its server's key".to_owned(),
            device: "takes only its public half, as its server's key".to_owned(),
            cloud: "is the one that uses it".to_owned(),
            next: "keep it with the server; `spark keys server` writes its public half into devices"
                .to_owned(),
        });
        Ok(examined)
    }

    fn server_report(&self, kind: ServerKeyKind, loaded: &Loaded<'_>) -> Report {
        let form = if kind == ServerKeyKind::Ec { KeyForm::SpkiEc } else { KeyForm::SpkiRsa };
        let mut spki = Zeroizing::new(vec![0; self.content.len() + 64]);
        let bytes = match loaded.key.encode_into(form, &mut spki) {
            Ok(spki) if loaded.pem => spki,
            _ => self.content,
        };
        check_server_key(kind, bytes)
    }

    fn server_public_key(&self, kind: ServerKeyKind, loaded: &Loaded<'_>) -> Examined {
        let mut examined = Examined::of("server public key", &self.server_report(kind, loaded));
        if !loaded.pem {
            let algorithm = if kind == ServerKeyKind::Ec { KeyAlgorithm::Ec } else { KeyAlgorithm::Rsa };
            let block = address_block_of_file(algorithm, self.content, loaded.der_len);
            examined.findings.extend(block.iter().flat_map(odd_address));
        }
        examined
    }

    /// A device's public key: nothing is wrong with it unless the cloud has another one.
    fn public(&self, what: &'static str, mut findings: Vec<Finding>, loaded: &Loaded<'_>) -> Examined {
        let differs = self.copy.and_then(|copy| compare(&loaded.key, copy));
        findings.extend(differs.map(|finding| describe(finding.into())));
        let fingerprint = loaded.key.fingerprint().map(|fingerprint| fingerprint.to_string());
        Examined { what, works: true, fingerprint, bundled: None, findings }
    }

    fn refuse_candidates(&self) -> Result<(), Failure> {
        match self.candidates {
            None => Ok(()),
            Some(_) => Err(self.refuse("--candidate is about the private key of a device")),
        }
    }

    fn refuse_copy(&self, what: &str) -> Result<(), Failure> {
        match self.copy {
            None => Ok(()),
            Some(_) => {
                Err(self.refuse(format_args!("the file holds {what}, --public-key is that of a device")))
            }
        }
    }

    fn refuse(&self, why: impl Display) -> Failure {
        Failure::new(
            Code::Usage,
            format_args!("{}: {why}", shown(self.file)),
            "leave it out, or give the device's private key as FILE",
        )
    }

    fn judge(&self, protocol: Protocol, bytes: &[u8]) -> Examined {
        Examined::of("device private key", &report(protocol, bytes, None, self.candidates, self.copy))
    }

    fn at_damage(&self, error: &LoadError) -> Result<(Option<KeyForm>, Examined), Failure> {
        if let Some(damaged) = damaged_public(self.content).filter(|_| self.protocol.is_none()) {
            return Ok((None, damaged.examine(self.content)));
        }
        if let Some(code) = not_a_key_for_devices(error) {
            return Ok((None, nothing(code, error)));
        }
        // What a device can use is a device's key, whatever its header looks like.
        if self.protocol.is_none() && decrypts(self.content) {
            return Ok((None, self.judge(Protocol::Tcp, self.content)));
        }
        let mut scratch = scratch(self.content);
        let unpacked = load::unpack(self.content, &mut scratch);
        if let Some(unpacked) = &unpacked
            && (self.protocol.is_none() || unpacked.pem || has_wrong_size(unpacked, error))
        {
            let mut examined = self.at_unpacked(unpacked, error);
            if matches!(error, LoadError::Pem(_)) {
                examined.works = false;
                examined.findings.insert(0, unreadable("text-unreadable", error));
            }
            return Ok((Some(unpacked.form), examined));
        }
        if let Some(protocol) = self.protocol {
            return Ok((None, self.judge(protocol, self.content)));
        }
        if let Some(protocol) = protocol_of_region(self.content.len())
            && !is_text(self.content)
        {
            return Ok((None, server(protocol.server_key_kind(), self.content)));
        }
        if let Some(protocol) = protocol_of(self.content) {
            return Ok((None, self.judge(protocol, self.content)));
        }
        match inspect::name_of_other_kind(self.content) {
            Some(kind) => Err(of_other_kind(self.file, &kind)),
            None => Ok((None, nothing("no-key", error))),
        }
    }

    fn at_unpacked(&self, unpacked: &Unpacked<'_>, error: &LoadError) -> Examined {
        match unpacked.form {
            KeyForm::Pkcs1Private | KeyForm::Pkcs8Private => {
                let bits = RsaPrivateKeyView::parse(unpacked.der).map(|key| key.public_key().bits());
                // A damaged top bit is no other size.
                if (2033..=2048).contains(&bits.unwrap_or(0)) {
                    let mut examined = nothing("damaged-key", error);
                    examined.what = "server private key";
                    return examined;
                }
                // Of a wrapper that may stand in a device's place the check says more than of the key inside; but no other
                // form helps a key of another size.
                let inner = unpacked.pem || has_wrong_size(unpacked, error);
                let bytes = if inner { unpacked.der } else { self.content };
                let mut examined = self.judge(self.protocol.unwrap_or(Protocol::Tcp), bytes);
                if unpacked.pem || self.protocol.is_none() && !has_length_of_field(self.content) {
                    examined.findings.retain(|finding| finding.code != "secret-published");
                }
                examined
            }
            KeyForm::Sec1Ec | KeyForm::Pkcs8Ec => {
                self.judge(self.protocol.unwrap_or(Protocol::Udp), unpacked.der)
            }
            KeyForm::SpkiEc => server(ServerKeyKind::Ec, unpacked.der),
            // A device's key is that much shorter than a server's.
            KeyForm::SpkiRsa if unpacked.der.len() > 256 => server(ServerKeyKind::Rsa, unpacked.der),
            _ => {
                let is_other_size = matches!(error, LoadError::Bits { .. });
                let mut examined = nothing(if is_other_size { "wrong-size" } else { "damaged-key" }, error);
                examined.what = "public key";
                examined
            }
        }
    }
}

/// A public key whose header is damaged, so that no reader of DER gets to the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DamagedPublic {
    Server(ServerKeyKind),
    Device,
}

impl DamagedPublic {
    fn examine(self, content: &[u8]) -> Examined {
        match self {
            Self::Server(kind) => server(kind, content),
            Self::Device => {
                let what = "the header of the public key is damaged";
                let finding = Finding {
                    code: "damaged-key".to_owned(),
                    what: what.to_owned(),
                    device: "is not affected, its public key follows from the private one".to_owned(),
                    cloud: "cannot read it".to_owned(),
                    next: "copy it again, or take it from the device with `spark keys send-ready`".to_owned(),
                };
                let findings = vec![finding];
                Examined { what: "public key", works: false, fingerprint: None, bundled: None, findings }
            }
        }
    }
}

/// Bytes that begin like a public key of device or server but for a few bits, and are none for a reader.
pub(crate) fn damaged_public(content: &[u8]) -> Option<DamagedPublic> {
    /// More than a byte of these is no damage to look past.
    const MAX_BITS: u32 = 8;
    let (rsa, ec) = (BundledKey::ParticleRsa.spki(), BundledKey::ParticleEc.spki());
    let device = published_by_device(&[]);
    let is_like = |whole: &[u8], header: usize| {
        let differing = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
        content.len() >= whole.len()
            && content.iter().zip(whole).take(header).map(differing).sum::<u32>() <= MAX_BITS
    };
    let (found, form) = if is_like(rsa, RSA_2048_HEADER) {
        (DamagedPublic::Server(ServerKeyKind::Rsa), KeyForm::SpkiRsa)
    } else if is_like(ec, EC_HEADER) {
        (DamagedPublic::Server(ServerKeyKind::Ec), KeyForm::SpkiEc)
    } else if is_like(&device, RSA_1024_HEADER) {
        (DamagedPublic::Device, KeyForm::SpkiRsa)
    } else {
        return None;
    };
    // Its form is known and the rest of it is explained elsewhere.
    (KeyForm::of(content) != Some(form)).then_some(found)
}

/// Bytes before the modulus, or before the point.
const RSA_2048_HEADER: usize = 33;
const RSA_1024_HEADER: usize = 29;
const EC_HEADER: usize = 27;

/// Whether it is a private key of a size that no device and no server has.
fn has_wrong_size(unpacked: &Unpacked<'_>, error: &LoadError) -> bool {
    matches!(unpacked.form, KeyForm::Pkcs1Private | KeyForm::Pkcs8Private)
        && matches!(error, LoadError::Bits { .. })
}

fn server(kind: ServerKeyKind, bytes: &[u8]) -> Examined {
    Examined::of("server public key", &check_server_key(kind, bytes))
}

/// What `load` would write into the device; the canonical DER if it would refuse the key.
fn written(loaded: &Loaded<'_>, of_key: Protocol) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let form = if of_key == Protocol::Udp { KeyForm::Sec1Ec } else { KeyForm::Pkcs1Private };
    let mut der = Zeroizing::new(vec![0; loaded.der_len + load::MAX_DER]);
    let encoded = loaded.key.encode_into(form, &mut der).map(<[u8]>::to_vec).map(Zeroizing::new);
    let der = encoded.map_err(|error| Failure::new(Code::Data, chain(&error), "give another key"))?;
    Ok(match Secret::of_field(of_key, &der) {
        Some(secret) => Zeroizing::new(secret.der().to_vec()),
        None => der,
    })
}

/// How the cloud's record differs from a device's public key.
fn compare(key: &Key<'_>, copy: &[u8]) -> Option<PublicCopyFinding> {
    let spki = |key: &Key<'_>| {
        let form = if key.algorithm() == "rsa" { KeyForm::SpkiRsa } else { KeyForm::SpkiEc };
        let mut spki = vec![0; key.encoded_len(form).ok()?];
        key.encode_into(form, &mut spki).ok().map(<[u8]>::to_vec)
    };
    let mut scratch = scratch(copy);
    let Ok(record) = load::load(copy, &mut scratch) else { return Some(PublicCopyFinding::CloudUnreadable) };
    if (record.key.algorithm(), record.key.bits()) != (key.algorithm(), key.bits()) {
        return Some(PublicCopyFinding::CloudOtherKind { form: record.form, bits: record.key.bits() });
    }
    (spki(key) != spki(&record.key)).then_some(PublicCopyFinding::CloudMismatch)
}

/// Code for what is no key, or none that any device could have.
pub(crate) const fn not_a_key_for_devices(error: &LoadError) -> Option<&'static str> {
    Some(match error {
        LoadError::Algorithm => "other-algorithm",
        LoadError::Der(DerError::Curve { .. }) => "other-curve",
        LoadError::Encrypted | LoadError::Pem(PemError::Encrypted) => "encrypted-key",
        LoadError::Pem(PemError::Certificate) => "certificate",
        LoadError::Pem(PemError::OpenSsh) => "openssh-key",
        LoadError::Pem(PemError::Utf16) => "text-utf16",
        LoadError::Pem(PemError::TwoPrivateKeys) => "two-private-keys",
        LoadError::Pem(PemError::NoKey) => "no-key",
        _ => return None,
    })
}

fn nothing(code: &str, error: &LoadError) -> Examined {
    let findings = vec![unreadable(code, error)];
    Examined { what: "key file", works: false, fingerprint: None, bundled: None, findings }
}

/// The error of the reader says what to do behind its semicolon.
fn unreadable(code: &str, error: &LoadError) -> Finding {
    let text = chain(error);
    let (what, next) = text.rsplit_once("; ").unwrap_or((&text, "give another file"));
    Finding {
        code: code.to_owned(),
        what: what.to_owned(),
        device: "cannot use it".to_owned(),
        cloud: "is not affected".to_owned(),
        next: next.to_owned(),
    }
}

/// What every other tool writes into a device as it is.
fn pkcs8_file() -> Finding {
    let device = "cannot read these bytes as they are, in PKCS#8, which is what OpenSSL 3 makes";
    Finding {
        code: "pkcs8-file".to_owned(),
        what: format!("device {device}"),
        device: device.to_owned(),
        cloud: "is not affected".to_owned(),
        next: "write it with `spark keys load`, which converts it; for another tool convert it first with `spark keys convert`"
            .to_owned(),
    }
}

fn short_number_file() -> Finding {
    let device = "misreads this key unless its numbers are at full length; one of them is short";
    Finding {
        code: "short-number-file".to_owned(),
        what: format!("device {device}"),
        device: device.to_owned(),
        cloud: "is not affected".to_owned(),
        next: "write it with `spark keys load`, which writes all numbers at full length; other tools do not"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> Vec<u8> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::read(workspace.join("keys/tests/vectors").join(name)).unwrap()
    }

    fn examine(content: &[u8]) -> Examined {
        let look = Look { file: Path::new("file"), protocol: None, content, candidates: None, copy: None };
        look.examine().unwrap().1
    }

    #[test]
    fn file_with_any_flipped_bit_is_judged_as_the_device_judges_it() {
        for file in ["rsa1024_608.der", "devgen_v050.bin"] {
            let key = vector(file);
            for bit in 0..key.len() * 8 {
                let mut damaged = key.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let examined = examine(&damaged);
                let place = format!("{file}, byte {}: {examined}", bit / 8);
                assert_eq!(examined.works, decrypts(&damaged), "{place}");
                let denies = examined.findings.iter().any(|finding| finding.device.contains("cannot"));
                assert_eq!(examined.works, !denies, "{place}");
                assert_eq!(examined.what, "device private key", "{place}");
                assert!(!examined.findings.is_empty(), "{place}");
            }
        }
    }

    #[test]
    fn public_key_with_a_damaged_header_is_no_private_key() {
        let server = vector("server2048.spki.der");
        let mut region = server.clone();
        region.resize(512, 0xFF);
        let ec = vector("particle_server_ec_320.der");
        for (key, header, what) in [
            (server, RSA_2048_HEADER, "server public key"),
            (region, RSA_2048_HEADER, "server public key"),
            (vector("rsa1024_608.spki.der"), RSA_1024_HEADER, "public key"),
            (vector("ec_p256.spki.der"), EC_HEADER, "server public key"),
            (ec, EC_HEADER, "server public key"),
        ] {
            for bit in 0..header * 8 {
                let mut damaged = key.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let examined = examine(&damaged);
                let place = format!("{} bytes, byte {}: {examined}", key.len(), bit / 8);
                assert!(!examined.works && examined.what.ends_with(what), "{place}");
                assert!(!examined.findings.iter().any(|finding| finding.next.contains("repair")), "{place}");
            }
        }
    }
}
