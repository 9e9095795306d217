//! The USB part of the rescue: read, judge, write, read back.

use super::report::{Damage, Finding, Write};
use crate::dfu::Access;
use crate::exit::{Code, Failure, chain};
use crate::files;
use spark_dct::ServerKeyRegion;
use spark_dct::segment::KeyAlgorithm;
use spark_dct::segment::{Platform, Segment};
use spark_keys::{DeviceKey, Finding as KeyFinding, Report as KeyReport, check::check_with_candidates};

/// The two fields that a rescue cares about.
#[derive(Clone)]
pub struct Fields {
    /// 612 bytes.
    pub device_key: Vec<u8>,
    /// 512 bytes: server key and address.
    pub server_key: Vec<u8>,
}

impl core::fmt::Debug for Fields {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fields(secret)")
    }
}

/// Where they are.
///
/// # Errors
/// [`Failure`] if the table of segments lacks one, which it does not.
pub fn segment(name: &str) -> Result<Segment, Failure> {
    Platform::Photon.segment(name).ok_or_else(|| {
        Failure::new(Code::Software, format_args!("the Photon has no segment {name}"), "report this")
    })
}

/// Reads both fields.
///
/// # Errors
/// [`Failure`].
pub fn read_fields(usb: &mut Access<'_>) -> Result<Fields, Failure> {
    let mut read = |name| -> Result<Vec<u8>, Failure> {
        let segment = segment(name)?;
        let len = segment.size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        usb.read(segment.alternate, segment.address, len)
    };
    Ok(Fields { device_key: read("tcpPrivateKey")?, server_key: read("tcpServerKey")? })
}

/// Says what is wrong with each field. `candidates`: the two key files that the owner still has.
#[must_use]
pub fn diagnose(fields: &Fields, candidates: (&[u8], &[u8])) -> Vec<Damage> {
    let report: KeyReport = check_with_candidates(&fields.device_key, candidates.0, candidates.1);
    let mut damages = Vec::new();
    if !report.is_clean() {
        damages.push(Damage {
            field: "device private key".to_owned(),
            findings: report.findings().map(|finding| describe(&finding)).collect(),
        });
    }
    let lost = ServerKeyRegion::parse(KeyAlgorithm::Rsa, &fields.server_key);
    if lost.is_ok_and(|region| region.is_lost()) {
        damages.push(Damage {
            field: "server public key and address".to_owned(),
            findings: vec![Finding {
                code: "server-key-region-lost".to_owned(),
                what: "key and address are erased; the device logs `type:255`".to_owned(),
                device: "connects to the default address and is dropped there (error -19)".to_owned(),
                next: "write the server's public key with its address".to_owned(),
            }],
        });
    }
    damages
}

fn describe(finding: &KeyFinding) -> Finding {
    Finding {
        code: finding.code().to_owned(),
        what: finding.to_string(),
        device: finding.device().to_owned(),
        next: finding.next_step().to_owned(),
    }
}

/// Writes both fields and leaves DFU mode. The order matters: the device is of no use to any server until both are
/// there, and it leaves DFU mode only then.
///
/// # Errors
/// [`Failure`]; the old contents are in the backup.
pub fn repair(usb: &mut Access<'_>, key: &DeviceKey, region: &[u8]) -> Result<Vec<Write>, Failure> {
    let mut writes = Vec::new();
    for (name, field, data) in [
        ("tcpPrivateKey", "device private key", &key.as_field()[..]),
        ("tcpServerKey", "server public key and address", region),
    ] {
        let segment = segment(name)?;
        segment
            .check_write(data.len())
            .map_err(|error| Failure::new(Code::Data, chain(&error), "nothing was written; report this"))?;
        usb.write(segment.alternate, segment.address, data)?;
        writes.push(Write {
            field: field.to_owned(),
            alternate: segment.alternate,
            address: segment.address,
            bytes: data.len(),
            written_sha256: files::sha256(data),
            device_sha256: String::new(),
        });
    }
    // Each write was compared as it was made; once more now that both are there, for the second could have harmed the first.
    let fields = read_fields(usb)?;
    for (write, content) in writes.iter_mut().zip([&fields.device_key, &fields.server_key]) {
        write.device_sha256 = files::sha256(content);
    }
    usb.leave()?;
    Ok(writes)
}
