//! Says what is wrong with a device's private key field.

mod finding;
mod rsa_field;

pub use finding::Finding;

use crate::device_view;
use crate::fingerprint::Fingerprint;
use crate::public_key::published_by_device;

/// Examines the device's private key field, or a key file that is to be written there.
///
/// `field` is what was read: 612 bytes from a device, or a DER file of any length. Never fails; everything that is
/// found becomes a [`Finding`].
///
/// ```
/// use spark_keys::{Finding, check};
/// let report = check(&[0xFF; 612]);
/// assert_eq!(report.findings().next(), Some(Finding::Erased));
/// assert!(!report.device_works());
/// ```
///
/// The work is bounded: one pass over the bytes, nine integers, and some ten multiplications and divisions of 1024 bits.
#[must_use]
pub fn check(field: &[u8]) -> Report {
    let mut report = Report {
        findings: [None; MAX_FINDINGS],
        device_works: device_view::decrypts(field),
        fingerprint: None,
    };
    rsa_field::examine(field, &mut report);
    if !report
        .findings()
        .any(|finding| matches!(finding, Finding::Erased | Finding::Zeroed | Finding::WrongForm { .. }))
    {
        report.fingerprint = Some(Fingerprint::of_spki(&published_by_device(field)));
    }
    report
}

/// As [`check`], and with two keys one of which was to replace the other: tells an interrupted in-place write.
#[must_use]
pub fn check_with_candidates(field: &[u8], a: &[u8], b: &[u8]) -> Report {
    let mut report = check(field);
    if is_interrupted_write(field, a, b) {
        report.push(Finding::InterruptedWrite);
    }
    report
}

/// Whether `field` is the bitwise AND of two keys and neither of them: what firmware v0.4.4 to v0.6.4 leaves behind
/// when power fails while it programs a new key over the old one in place. Only the bytes of `field` are compared; shorter keys count as followed by FF.
#[must_use]
pub fn is_interrupted_write(field: &[u8], a: &[u8], b: &[u8]) -> bool {
    let at = |bytes: &[u8], i: usize| bytes.get(i).copied().unwrap_or(0xFF);
    let all = |test: &dyn Fn(usize) -> bool| (0..field.len()).all(test);
    all(&|i| at(field, i) == at(a, i) & at(b, i))
        && !all(&|i| at(field, i) == at(a, i))
        && !all(&|i| at(field, i) == at(b, i))
}

const MAX_FINDINGS: usize = 24;

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    findings: [Option<Finding>; MAX_FINDINGS],
    device_works: bool,
    fingerprint: Option<Fingerprint>,
}

impl Report {
    /// The findings in the order of the examination; none for a perfect key.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.findings.iter().copied().flatten()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings().next().is_none()
    }

    /// Whether the device can decrypt with this field, by a reconstruction of what its code reads and computes. True
    /// for some damaged keys: the device never looks at d, at the version and at outer lengths.
    #[must_use]
    pub const fn device_works(&self) -> bool {
        self.device_works
    }

    /// Fingerprint of the public key that the device publishes, `None` when the field holds no RSA key at all.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    fn push(&mut self, finding: Finding) {
        if let Some(slot) = self.findings.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(finding);
        }
    }
}
