//! The rescue's report: what was wrong, what was written where, how each module arrived.

use coap_spark::message::describe::Describe;
use core::fmt;
use serde::Serialize;
use spark_ota::transfer::Progress;

/// Everything that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The device.
    pub device_id: String,
    /// What was wrong.
    pub damages: Vec<Damage>,
    /// Where the old contents are.
    pub backups: Vec<String>,
    /// What was written over USB.
    pub writes: Vec<Write>,
    /// Fingerprint (SHA-256 of the SubjectPublicKeyInfo) of the new device key.
    pub device_key_fingerprint: String,
    /// Where the cloud listened.
    pub cloud_address: String,
    /// Module transfers in order.
    pub transfers: Vec<Transfer>,
    /// The modules on the device, compared with their files.
    pub modules: Vec<Compared>,
    /// The device's last Describe.
    pub describe: Option<Describe>,
    /// The application runs.
    pub application_runs: bool,
    /// The whole rescue.
    pub seconds: f64,
}

/// A damaged field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Damage {
    /// Which.
    pub field: String,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Stable name in kebab-case.
    pub code: String,
    /// What it is.
    pub what: String,
    /// What it means for the device.
    pub device: String,
    /// What to do.
    pub next: String,
}

/// A field that was written and read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Write {
    /// Which.
    pub field: String,
    /// Alternate setting.
    pub alternate: u8,
    /// DFU address.
    pub address: u32,
    /// Bytes.
    pub bytes: usize,
    /// SHA-256 of what was written.
    pub sha256: String,
    /// Read back and equal.
    pub verified: bool,
}

/// One module over the air.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Transfer {
    /// The file.
    pub module: String,
    /// Why it was needed.
    pub why: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// Mode, chunks, repairs.
    pub progress: Progress,
    /// Seconds from the first message to the last answer.
    pub seconds: f64,
    /// `None` if it arrived.
    pub failure: Option<String>,
}

/// A module on the device beside its file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Compared {
    /// The file.
    pub module: String,
    /// Its SHA-256.
    pub file_sha256: String,
    /// SHA-256 of as many bytes in the device's flash.
    pub device_sha256: String,
    /// Equal.
    pub equal: bool,
}

impl Report {
    /// The device works and has what it should have.
    #[must_use]
    pub fn is_rescued(&self) -> bool {
        self.application_runs
            && self.writes.iter().all(|write| write.verified)
            && self.modules.iter().all(|module| module.equal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Photon {}", self.device_id)?;
        writeln!(f, "\nWhat was wrong")?;
        for damage in &self.damages {
            writeln!(f, "  {}", damage.field)?;
            for finding in &damage.findings {
                writeln!(f, "    {}: {}", finding.code, finding.what)?;
            }
        }
        writeln!(f, "\nWhat was written over USB, read back and equal")?;
        for write in &self.writes {
            let Write { field, alternate, address, bytes, .. } = write;
            writeln!(f, "  {field}: {bytes} bytes at alternate {alternate}, address {address}")?;
        }
        writeln!(f, "  new device key {}", self.device_key_fingerprint)?;
        for backup in &self.backups {
            writeln!(f, "  old contents in {backup}")?;
        }
        writeln!(f, "\nWhat came over the air from {}", self.cloud_address)?;
        for transfer in &self.transfers {
            let progress = &transfer.progress;
            let mode = if progress.fast { "fast" } else { "slow" };
            writeln!(
                f,
                "  {}: {} bytes in {} chunks, {mode}, {} sent again in {} repairs, {:.1} ms",
                transfer.module,
                transfer.bytes,
                progress.chunks,
                progress.resent,
                progress.repairs,
                transfer.seconds * 1000.0
            )?;
        }
        writeln!(f, "\nWhat the device has now")?;
        for module in &self.modules {
            let equal = if module.equal { "equal to the file" } else { "DIFFERS from the file" };
            writeln!(f, "  {}: {} {equal}", module.module, module.device_sha256)?;
        }
        if let Some(describe) = &self.describe {
            writeln!(f, "  Describe: {}", describe.to_json())?;
        }
        let outcome = if self.is_rescued() { "rescued: the application runs" } else { "NOT rescued" };
        write!(f, "\n{outcome}, {:.1} s", self.seconds)
    }
}
