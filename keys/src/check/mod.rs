//! Says what is wrong with the keys on a device: its private key, the copies of its public key, its server's key.

mod as_read;
mod ec_field;
mod finding;
mod leak;
mod public_copy;
mod rsa_field;
mod server_key;

pub use ec_field::EcFinding;
pub use finding::Finding;
pub use leak::{Leak, PUBLISHED, Secret, published_secrets};
pub use public_copy::{PublicCache, PublicCopyFinding};
pub use server_key::{ServerKeyFinding, ServerKeyKind};

use crate::bundled::BundledKey;
use crate::device_view;
use crate::fingerprint::Fingerprint;
use crate::public_key::published_by_device;

/// What is known besides the private key field; each piece allows for further findings.
///
/// ```
/// use spark_keys::check::{Knowledge, check_with};
/// # let field = include_bytes!("../../tests/vectors/field612_ff.bin");
/// # let other_key = include_bytes!("../../tests/vectors/ec_p256.spki.der");
/// let report = check_with(field, &Knowledge::new().cloud_copy(other_key));
/// assert_eq!(report.findings().next().map(|finding| finding.code()), Some("cloud-key-of-other-kind"));
/// ```
#[derive(Clone, Copy, Default)]
pub struct Knowledge<'a> {
    public_cache: Option<&'a [u8]>,
    cloud_copy: Option<&'a [u8]>,
    candidates: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Knowledge<'a> {
    /// Nothing besides the field.
    #[must_use]
    pub const fn new() -> Self {
        Self { public_cache: None, cloud_copy: None, candidates: None }
    }

    /// The device's cache of its public key: 384 bytes at 1250 for RSA, 128 bytes at 2978 for P-256. What counts as a good
    /// one is in [`PublicCache`].
    #[must_use]
    pub const fn public_cache(mut self, cache: &'a [u8]) -> Self {
        self.public_cache = Some(cache);
        self
    }

    /// The public key that the cloud has for the device: a file of any form.
    #[must_use]
    pub const fn cloud_copy(mut self, file: &'a [u8]) -> Self {
        self.cloud_copy = Some(file);
        self
    }

    /// Two private keys, in the bytes that were written, one of which was to replace the other: tells an interrupted
    /// in-place write.
    #[must_use]
    pub const fn candidates(mut self, a: &'a [u8], b: &'a [u8]) -> Self {
        self.candidates = Some((a, b));
        self
    }
}

impl core::fmt::Debug for Knowledge<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the candidates are private keys
        f.debug_struct("Knowledge")
            .field("public_cache", &self.public_cache.is_some())
            .field("cloud_copy", &self.cloud_copy.is_some())
            .field("candidates", &self.candidates.is_some())
            .finish()
    }
}

/// Examines the device's private key field (TCP, RSA), or a key file that is to be written there.
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
/// [`Report::device_works`] is true exactly if no finding says that the device cannot decrypt, connect or read its key.
///
/// The work is bounded: some passes over the bytes, nine integers, some thirty multiplications and divisions of 1024 bits, and, if
/// all relations that the device needs hold, two exponentiations of 512 bits.
#[must_use]
pub fn check(field: &[u8]) -> Report {
    check_with(field, &Knowledge::new())
}

/// As [`check`], and looks at what is known besides.
#[must_use]
pub fn check_with(field: &[u8], knowledge: &Knowledge<'_>) -> Report {
    let mut report = Report::new();
    rsa_field::examine(field, &mut report);
    let no_key = report.findings().any(|finding| {
        matches!(
            finding,
            Finding::Erased
                | Finding::Zeroed
                | Finding::HeadErased { .. }
                | Finding::WrongForm { .. }
                | Finding::WrongSize { .. }
        )
    });
    if !no_key {
        let published = published_by_device(field);
        report.fingerprint = Some(Fingerprint::of_spki(&published));
        report.compare_copies(knowledge, &published);
    }
    if let Some((a, b)) = knowledge.candidates
        && is_interrupted_write(field, a, b)
    {
        report.push(Finding::InterruptedWrite);
    }
    report
}

/// As [`check`], and with two keys one of which was to replace the other: tells an interrupted in-place write.
#[must_use]
pub fn check_with_candidates(field: &[u8], a: &[u8], b: &[u8]) -> Report {
    check_with(field, &Knowledge::new().candidates(a, b))
}

/// Examines the private key field of a UDP device (P-256, 192 bytes at 3106), or a key file that is to be written there.
///
/// [`Report::device_works`] says whether the field holds a SEC1 key with its curve named, a private number in range and no
/// wrong point, which mbedtls, the library on the device, reads with any padding. Other forms are not known to work and
/// count as not working.
///
/// # Source
/// `device-os@v1.0.0` (its mbedtls was run on the canonical form, bare and padded); other forms by the text of RFC 5915.
#[must_use]
pub fn check_ec(field: &[u8]) -> Report {
    check_ec_with(field, &Knowledge::new())
}

/// As [`check_ec`], and looks at what is known besides.
#[must_use]
pub fn check_ec_with(field: &[u8], knowledge: &Knowledge<'_>) -> Report {
    let mut report = Report::new();
    if let Some(key) = ec_field::examine(field, &mut report) {
        let public = key.public_key();
        report.fingerprint = Some(Fingerprint::of_spki(&public));
        report.compare_copies(knowledge, &public);
    }
    if let Some((a, b)) = knowledge.candidates
        && is_interrupted_write(field, a, b)
    {
        report.push(Finding::InterruptedWrite);
    }
    report
}

/// Examines the server's public key on a device: the start of its region (294 bytes at 2082 or 91 bytes at 3298, or the
/// whole region with the address behind the key), or a key file that is to be written there.
///
/// [`Report::bundled`] says whether it is one of the vendor's own keys. The address behind the key is not looked at.
#[must_use]
pub fn check_server_key(kind: ServerKeyKind, field: &[u8]) -> Report {
    let mut report = Report::new();
    server_key::examine(kind, field, &mut report);
    report
}

/// Whether `field` is the bitwise AND of two keys and neither of them: what firmware v0.4.4 to v0.6.4 leaves behind
/// when power fails while it programs a new key over the old one in place. The AND may end anywhere, with one of the keys
/// from there on. Only the bytes of `field` are compared; shorter keys count as followed by FF.
#[must_use]
pub fn is_interrupted_write(field: &[u8], a: &[u8], b: &[u8]) -> bool {
    let at = |bytes: &[u8], i: usize| bytes.get(i).copied().unwrap_or(0xFF);
    let is = |key: &[u8], i: usize| at(field, i) == at(key, i);
    let neither = [a, b].into_iter().all(|key| (0..field.len()).any(|i| !is(key, i)));
    let programmed = (0..field.len()).take_while(|i| at(field, *i) == at(a, *i) & at(b, *i)).count();
    neither && [a, b].into_iter().any(|old| (programmed..field.len()).all(|i| is(old, i)))
}

const MAX_FINDINGS: usize = 32;

/// What an examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    findings: [Option<Finding>; MAX_FINDINGS],
    device_works: bool,
    fingerprint: Option<Fingerprint>,
}

impl Report {
    const fn new() -> Self {
        Self { findings: [None; MAX_FINDINGS], device_works: false, fingerprint: None }
    }

    /// The findings in the order of the examination; none for a perfect key.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.findings.iter().copied().flatten()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings().next().is_none()
    }

    /// Whether the device can use this field. For an RSA private key by a reconstruction of what its code reads and
    /// computes: true for some damaged keys, since the device never looks at d, at the version and at outer lengths.
    #[must_use]
    pub const fn device_works(&self) -> bool {
        self.device_works
    }

    /// Fingerprint of the public key: the one that the device publishes, which need not belong to its private key, or the
    /// server's. `None` when the field holds no such key at all.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Which of the vendor's own server keys it is, if one.
    #[must_use]
    pub fn bundled(&self) -> Option<BundledKey> {
        self.fingerprint.as_ref().and_then(BundledKey::of_fingerprint)
    }

    fn compare_copies(&mut self, knowledge: &Knowledge<'_>, expected: &[u8]) {
        let cache = knowledge.public_cache.and_then(|cache| public_copy::compare_cache(cache, expected));
        let cloud = knowledge.cloud_copy.and_then(|file| public_copy::compare_cloud(file, expected));
        for finding in [cache, cloud].into_iter().flatten() {
            self.push(finding);
        }
    }

    /// The field of a device that takes it for an empty one, although it is not erased.
    fn head_erased(&mut self, field: &[u8]) -> bool {
        let erased = device_view::counts_as_empty(field);
        if erased {
            self.push(Finding::HeadErased { len: field.iter().take_while(|byte| **byte == 0xFF).count() });
        }
        erased
    }

    fn push(&mut self, finding: impl Into<Finding>) {
        let finding = finding.into();
        if let Some(slot) = self.findings.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(finding);
        }
    }
}
