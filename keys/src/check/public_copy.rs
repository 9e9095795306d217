//! Copies of the public key: the device's cache and the cloud's record.

use super::finding::Texts;
use crate::Key;
use crate::ec::{EcPublicKeyView, SPKI_P256_LEN};
use crate::form::KeyForm;
use crate::load::{MAX_DER, load};
use crate::public_key::{RsaPublicKeyView, SPKI_1024_LEN};

/// What a device's cache of its public key holds: 384 bytes at 1250 for RSA, 128 bytes at 2978 for P-256.
///
/// # Source
/// `device-os@v0.4.0..v2.3.1`: SPKI of 162 bytes then zeros for RSA; for P-256 nothing before v1.0.0, 128 zeros in v1.0.0
/// (the key is written to the right end of a longer buffer), 37 zeros and 91 bytes in v2.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicCache<'a> {
    /// All FF: never written.
    Erased,
    /// All 00: written by a firmware that stores only the zeros before the key.
    Zeroed,
    /// An SPKI.
    Key {
        /// The SPKI, 162 or 91 bytes.
        spki: &'a [u8],
        /// Where it starts: 0, or 37 in a cache of 128 bytes.
        at: usize,
    },
    /// None of these.
    Unknown,
}

impl<'a> PublicCache<'a> {
    /// Looks at the bytes of a cache, of whatever length.
    ///
    /// A key at the start may be followed by FF or 00 only; a key at the end has nothing but zeros before it.
    #[must_use]
    pub fn of(cache: &'a [u8]) -> Self {
        let all = |bytes: &[u8], fill| bytes.iter().all(|byte| *byte == fill);
        if all(cache, 0xFF) {
            return PublicCache::Erased;
        }
        if all(cache, 0x00) {
            return PublicCache::Zeroed;
        }
        for len in [SPKI_P256_LEN, SPKI_1024_LEN] {
            if let Some((spki, rest)) = cache.split_at_checked(len)
                && is_spki(spki)
                && (all(rest, 0xFF) || all(rest, 0x00))
            {
                return PublicCache::Key { spki, at: 0 };
            }
            if let Some((zeros, spki)) =
                cache.len().checked_sub(len).and_then(|at| cache.split_at_checked(at))
                && is_spki(spki)
                && all(zeros, 0x00)
            {
                return PublicCache::Key { spki, at: zeros.len() };
            }
        }
        PublicCache::Unknown
    }
}

fn is_spki(bytes: &[u8]) -> bool {
    match bytes.len() {
        SPKI_P256_LEN => EcPublicKeyView::parse_spki(bytes).is_ok_and(|key| key.spki() == bytes),
        _ => RsaPublicKeyView::parse_spki_strict(bytes).is_ok_and(|key| key.bits() == 1024),
    }
}

/// What is wrong with a copy of the public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PublicCopyFinding {
    /// The device's cache holds another key.
    CacheMismatch,
    /// The device's cache holds none of the forms that firmware leaves there.
    CacheUnknown,
    /// The cloud's record is another key.
    CloudMismatch,
    /// The cloud's record is a key of another algorithm or size.
    CloudOtherKind {
        /// Form of the record.
        form: KeyForm,
        /// Bits of the modulus or curve.
        bits: usize,
    },
    /// The cloud's record cannot be read.
    CloudUnreadable,
}

impl PublicCopyFinding {
    pub(super) const fn texts(&self) -> Texts {
        match self {
            PublicCopyFinding::CacheMismatch => Texts(
                "cache-mismatch",
                "computes its public key from the private one; the cached copy is of an older or damaged key",
                "gets the key that belongs to the private one, unless it was given the cached copy",
                "write the public key computed from the private one to the cache, or erase the cache",
            ),
            PublicCopyFinding::CacheUnknown => Texts(
                "cache-unknown",
                "computes its public key from the private one; the cache is damaged",
                "is not affected",
                "write the public key computed from the private one to the cache, or erase the cache",
            ),
            PublicCopyFinding::CloudMismatch => Texts(
                "cloud-key-mismatch",
                "cannot read what the cloud encrypts or refuses what it signs: no handshake",
                "knows another key for this device",
                "send the public key computed from the device's private key to the cloud",
            ),
            PublicCopyFinding::CloudOtherKind { .. } => Texts(
                "cloud-key-of-other-kind",
                "speaks another protocol than the one that the cloud's key is for: no handshake",
                "knows a key of another algorithm or size for this device",
                "send the public key computed from the device's private key to the cloud, under its own algorithm",
            ),
            PublicCopyFinding::CloudUnreadable => Texts(
                "cloud-key-unreadable",
                "is not affected itself",
                "has a record for this device that is no public key",
                "send the public key computed from the device's private key to the cloud",
            ),
        }
    }
}

/// Compares a cache with the SPKI that it should hold.
pub(super) fn compare_cache(cache: &[u8], expected: &[u8]) -> Option<PublicCopyFinding> {
    match PublicCache::of(cache) {
        PublicCache::Erased | PublicCache::Zeroed => None,
        PublicCache::Key { spki, .. } if spki == expected => None,
        PublicCache::Key { .. } => Some(PublicCopyFinding::CacheMismatch),
        PublicCache::Unknown => Some(PublicCopyFinding::CacheUnknown),
    }
}

/// Compares the cloud's record, a file of any form, with the SPKI that it should hold.
pub(super) fn compare_cloud(record: &[u8], expected: &[u8]) -> Option<PublicCopyFinding> {
    let mut scratch = [0; MAX_DER];
    let found = load(record, &mut scratch).map(|loaded| {
        let mut spki = [0; SPKI_1024_LEN];
        let form = match loaded.key {
            Key::RsaPrivate(_) | Key::RsaPublic(_) => KeyForm::SpkiRsa,
            Key::EcPrivate(_) | Key::EcPublic(_) => KeyForm::SpkiEc,
        };
        let same_kind = loaded.key.encoded_len(form) == Ok(expected.len());
        if !same_kind {
            return Some(PublicCopyFinding::CloudOtherKind { form: loaded.form, bits: loaded.key.bits() });
        }
        let spki = loaded.key.encode_into(form, &mut spki);
        (spki != Ok(expected)).then_some(PublicCopyFinding::CloudMismatch)
    });
    // the record may have been a private key
    zeroize::Zeroize::zeroize(&mut scratch);
    found.unwrap_or(Some(PublicCopyFinding::CloudUnreadable))
}
