//! The server's public key on the device.

use super::finding::Texts;
use super::{Finding, Report};
use crate::der::DerError;
use crate::ec::{EcPublicKeyView, SPKI_P256_LEN};
use crate::fingerprint::Fingerprint;
use crate::form::KeyForm;
use crate::public_key::{RsaPublicKeyView, SPKI_2048_LEN, spki_2048};

/// Which of the two server keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "devices have these two")]
pub enum ServerKeyKind {
    /// RSA-2048, of TCP devices: SPKI of 294 bytes, followed by FF up to byte 384.
    Rsa,
    /// P-256, of UDP devices: SPKI of 91 bytes, followed by FF up to byte 192.
    Ec,
}

impl ServerKeyKind {
    /// Length of the SPKI.
    const fn len(self) -> usize {
        match self {
            ServerKeyKind::Rsa => SPKI_2048_LEN,
            ServerKeyKind::Ec => SPKI_P256_LEN,
        }
    }

    /// Room for the key in the region; the server's address follows.
    const fn room(self) -> usize {
        match self {
            ServerKeyKind::Rsa => 384,
            ServerKeyKind::Ec => 192,
        }
    }
}

/// One thing that is wrong with the server's public key on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ServerKeyFinding {
    /// All FF.
    Erased,
    /// All 00.
    Zeroed,
    /// FF from this byte to the end of the key.
    TailErased {
        /// First erased byte.
        from: usize,
    },
    /// Another form of key.
    WrongForm {
        /// The form.
        form: KeyForm,
    },
    /// A private key: whoever reads the device can play the server.
    PrivateKey,
    /// RSA, but not 2048 bits.
    WrongSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The exponent is not 65537, which devices take for granted.
    WrongExponent,
    /// The modulus is even.
    EvenModulus,
    /// The DER is longer than what there is.
    Truncated {
        /// Length of the DER as declared.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The structure cannot be read, or the point is not on the curve.
    Unreadable {
        /// Why.
        error: DerError,
    },
    /// A readable key, but not in the canonical bytes: the device, which takes bytes 33 to 289 for the modulus, misreads it.
    NotCanonical,
    /// A readable P-256 key in another encoding than the 91 bytes of its tools, for instance with a compressed point.
    EcNotCanonical,
}

const RESTORE: &str = "write the server's public key again, in the form of SPKI DER, with its address";
const UNKNOWN: &str = "cannot decrypt what the device encrypts and closes the connection";

impl ServerKeyFinding {
    pub(super) const fn texts(&self) -> Texts {
        match self {
            ServerKeyFinding::Erased => Texts(
                "server-key-erased",
                "encrypts for a key of FF and finds no server address either",
                UNKNOWN,
                RESTORE,
            ),
            ServerKeyFinding::Zeroed => {
                Texts("server-key-zeroed", "encrypts for a key of zeros", UNKNOWN, RESTORE)
            }
            ServerKeyFinding::TailErased { .. } => {
                Texts("server-key-tail-erased", "encrypts for a key whose end is lost", UNKNOWN, RESTORE)
            }
            ServerKeyFinding::WrongForm { form: KeyForm::Pkcs1Public } => Texts(
                "server-key-pkcs1",
                "takes bytes at SPKI positions for the modulus and encrypts for no key",
                UNKNOWN,
                "convert the key to SPKI and write it again with its address",
            ),
            ServerKeyFinding::WrongForm { form: KeyForm::Pem } => Texts(
                "server-key-pem",
                "takes text for the modulus and encrypts for no key",
                UNKNOWN,
                "convert the key to SPKI DER and write it again with its address",
            ),
            ServerKeyFinding::WrongForm { .. } => Texts(
                "server-key-wrong-form",
                "has a key of another algorithm and encrypts for no key",
                UNKNOWN,
                "write the key for the device's protocol: RSA-2048 for TCP, P-256 for UDP",
            ),
            ServerKeyFinding::PrivateKey => Texts(
                "server-private-key",
                "holds a private key where the server's public key belongs and encrypts for no key",
                "has lost the secrecy of this key to whoever can read the device",
                "replace the server's key if this is it; write the public key to the device",
            ),
            ServerKeyFinding::WrongSize { .. } => Texts(
                "server-key-wrong-size",
                "reads 2048-bit positions in a key of another size and encrypts for no key",
                UNKNOWN,
                "write an RSA-2048 key; a device key may have been written by mistake",
            ),
            ServerKeyFinding::WrongExponent => Texts(
                "server-key-wrong-exponent",
                "encrypts with 65537 whatever the key says",
                UNKNOWN,
                "generate a server key with exponent 65537 and write its public half",
            ),
            ServerKeyFinding::EvenModulus => {
                Texts("server-key-even-modulus", "encrypts for a damaged key", UNKNOWN, RESTORE)
            }
            ServerKeyFinding::Truncated { .. } => {
                Texts("server-key-truncated", "lacks the end of the server's key", UNKNOWN, RESTORE)
            }
            ServerKeyFinding::Unreadable { .. } => Texts(
                "server-key-unreadable",
                "may encrypt for a damaged key; its modulus is at a fixed place whatever stands before it",
                "cannot decrypt unless the modulus is intact",
                RESTORE,
            ),
            ServerKeyFinding::NotCanonical => Texts(
                "server-key-not-canonical",
                "looks for the modulus at a fixed place, where this encoding does not have it",
                UNKNOWN,
                "convert the key to canonical SPKI and write it again with its address",
            ),
            ServerKeyFinding::EcNotCanonical => Texts(
                "server-key-not-canonical",
                "is not known to read this form as its server's key; its tools write 91 bytes with the whole point",
                "is not affected",
                "convert the key to canonical SPKI and write it again with its address",
            ),
        }
    }
}

pub(super) fn examine(kind: ServerKeyKind, field: &[u8], report: &mut Report) {
    // an address may follow
    let room = field.get(..kind.room()).unwrap_or(field);
    if room.is_empty() {
        return report.push(ServerKeyFinding::Truncated { needed: kind.len(), available: 0 });
    }
    for (fill, finding) in [(0xFF, ServerKeyFinding::Erased), (0x00, ServerKeyFinding::Zeroed)] {
        if room.iter().all(|byte| *byte == fill) {
            return report.push(finding);
        }
    }
    match (KeyForm::of(room), kind) {
        (Some(KeyForm::SpkiRsa), ServerKeyKind::Rsa)
        | (Some(KeyForm::SpkiEc), ServerKeyKind::Ec)
        | (None, _) => {}
        (Some(form), _) if form.is_private() => return report.push(ServerKeyFinding::PrivateKey),
        (Some(KeyForm::Pem), _) if crate::pem::private_block(field).is_some() => {
            return report.push(ServerKeyFinding::PrivateKey);
        }
        (Some(form), _) => return report.push(ServerKeyFinding::WrongForm { form }),
    }
    let read = match kind {
        ServerKeyKind::Rsa => RsaPublicKeyView::parse_spki(room).map(|key| rsa(&key, room, report)),
        ServerKeyKind::Ec => EcPublicKeyView::parse_spki(room).map(|key| {
            report.fingerprint = Some(key.fingerprint());
            if !room.starts_with(&key.spki()) {
                report.push(ServerKeyFinding::EcNotCanonical);
            }
            key.der_len()
        }),
    };
    let from = room.len() - room.iter().rev().take_while(|byte| **byte == 0xFF).count();
    if from + 8 <= room.len().min(kind.len()) {
        report.push(ServerKeyFinding::TailErased { from });
    }
    match read {
        Ok(len) => {
            report.device_works = report.is_clean();
            let trailing = room.get(len..).unwrap_or(&[]);
            let fills = |fill| trailing.iter().all(|byte| *byte == fill);
            if !fills(0xFF) && !fills(0x00) {
                report.push(Finding::StaleTail { from: len });
            }
        }
        Err(DerError::Truncated { offset: 0, needed, available }) if needed > room.len() => {
            // A longer key reaches over the place of the address.
            let longer = RsaPublicKeyView::parse_spki(field).ok().filter(|_| kind == ServerKeyKind::Rsa);
            if let Some(bits) = longer.map(|key| key.bits()).filter(|bits| *bits != 2048) {
                return report.push(ServerKeyFinding::WrongSize { bits });
            }
            report.push(ServerKeyFinding::Truncated { needed, available });
        }
        Err(error) if report.is_clean() => report.push(ServerKeyFinding::Unreadable { error }),
        // an erased tail explains it
        Err(_) => {}
    }
}

fn rsa(key: &RsaPublicKeyView<'_>, room: &[u8], report: &mut Report) -> usize {
    report.fingerprint = key.fingerprint();
    if key.bits() != 2048 {
        report.push(ServerKeyFinding::WrongSize { bits: key.bits() });
    }
    if key.exponent() != [1, 0, 1] {
        report.push(ServerKeyFinding::WrongExponent);
    }
    if key.modulus().last().is_none_or(|last| last % 2 == 0) {
        report.push(ServerKeyFinding::EvenModulus);
    }
    if report.is_clean()
        && let Ok(modulus) = key.modulus().try_into()
    {
        canonical(room, &spki_2048(modulus), report);
    }
    key.der_len()
}

fn canonical(room: &[u8], spki: &[u8], report: &mut Report) {
    if !room.starts_with(spki) {
        report.push(ServerKeyFinding::NotCanonical);
    }
    report.fingerprint = Some(Fingerprint::of_spki(spki));
}
