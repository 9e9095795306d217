//! The private key field of UDP devices.

use super::finding::Texts;
use super::{Finding, Report};
use crate::der::DerError;
use crate::ec::{EC_DER_LEN, EcDeviceKey, EcKeyError, EcPrivateKeyView};
use crate::form::KeyForm;
use crate::load::{MAX_DER, Unpacked, unpack};
use crate::pem;
use zeroize::Zeroize;

/// One thing that is wrong with, or noteworthy about, the EC private key field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EcFinding {
    /// Another form of key.
    WrongForm {
        /// The form.
        form: KeyForm,
    },
    /// The DER is longer than what there is.
    Truncated {
        /// Length of the DER as declared.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// FF from this byte to the end, although the key is longer.
    TailErased {
        /// First erased byte.
        from: usize,
    },
    /// The structure cannot be read.
    Unreadable {
        /// Why.
        error: DerError,
    },
    /// The key is of another curve.
    OtherCurve,
    /// The key does not say that its curve is P-256.
    CurveNotNamed,
    /// The private number is 0 or not below the order of the curve.
    OutOfRange,
    /// The point is not on the curve or belongs to another private number.
    PointMismatch,
    /// Right, but not in the 121 bytes of the canonical form: without a point, or with a compressed one.
    NotCanonical,
}

const RESTORE: &str =
    "restore the key from a backup, or write a new key and send its public key to the cloud";

impl EcFinding {
    pub(super) const fn texts(&self) -> Texts {
        match self {
            EcFinding::WrongForm { form: KeyForm::Pkcs8Ec } => Texts(
                "pkcs8-in-ec-field",
                "holds the key in a wrapper that its tools never write; not known to work",
                "is not affected",
                "convert the key to SEC1 and write it again",
            ),
            EcFinding::WrongForm { form: KeyForm::Pem } => Texts(
                "pem-in-ec-field",
                "holds text instead of DER and cannot connect",
                "is not affected",
                "convert the key to DER (SEC1) and write it again",
            ),
            EcFinding::WrongForm { form: KeyForm::SpkiEc | KeyForm::SpkiRsa | KeyForm::Pkcs1Public } => {
                Texts(
                    "public-key-in-ec-field",
                    "holds a public key only and cannot connect",
                    "is not affected",
                    "write the private key that belongs to it",
                )
            }
            EcFinding::WrongForm { .. } => Texts(
                "rsa-key-in-ec-field",
                "cannot connect with the piece of an RSA key that fits this field",
                "may have been sent an RSA key for a device that needs a P-256 key",
                "write a P-256 key and send its public key to the cloud",
            ),
            EcFinding::Truncated { .. } => Texts(
                "ec-truncated",
                "lacks the end of the key and cannot connect",
                "is not affected",
                RESTORE,
            ),
            EcFinding::TailErased { .. } => Texts(
                "ec-tail-erased",
                "lost the end of its key and cannot connect",
                "is not affected",
                "repair the key if its private number is intact, with the cloud's copy of the public key; otherwise restore it from \
                 a backup, or write a new key and send its public key to the cloud",
            ),
            EcFinding::Unreadable { .. } => {
                Texts("ec-unreadable", "cannot read its key and cannot connect", "is not affected", RESTORE)
            }
            EcFinding::OtherCurve => Texts(
                "ec-other-curve",
                "knows no curve but P-256 and cannot connect",
                "may know a key that no device can use",
                "write a P-256 key and send its public key to the cloud",
            ),
            EcFinding::CurveNotNamed => Texts(
                "ec-curve-not-named",
                "cannot tell the curve of its key and cannot connect",
                "is not affected",
                "write the key again in canonical form",
            ),
            EcFinding::OutOfRange => Texts(
                "ec-number-out-of-range",
                "has a damaged private number and cannot connect",
                "cannot know a public key for it",
                RESTORE,
            ),
            EcFinding::PointMismatch => Texts(
                "ec-point-mismatch",
                "announces a public key that does not belong to its private number and cannot connect",
                "may know either key",
                "repair the key with the cloud's copy of the public key, or restore it from a backup",
            ),
            EcFinding::NotCanonical => Texts(
                "ec-not-canonical",
                "is not known to read this form; its tools write 121 bytes",
                "is not affected",
                "write the key again in canonical form",
            ),
        }
    }
}

/// Gives the key when its private number is usable, and whether the device can use the field as it is.
pub(super) fn examine(field: &[u8], report: &mut Report) -> Option<EcDeviceKey> {
    let available = field.len();
    if field.is_empty() {
        report.push(EcFinding::Truncated { needed: EC_DER_LEN, available });
        return None;
    }
    for (fill, finding) in [(0xFF, Finding::Erased), (0x00, Finding::Zeroed)] {
        if field.iter().all(|byte| *byte == fill) {
            report.push(finding);
            return None;
        }
    }
    match KeyForm::of(field) {
        Some(KeyForm::Sec1Ec) | None => {}
        Some(form) => {
            report.push(EcFinding::WrongForm { form });
            examine_inside(field, report);
            return None;
        }
    }
    if report.head_erased(field) {
        return None;
    }
    let view = match EcPrivateKeyView::parse_sec1(field) {
        Ok(view) => view,
        Err(DerError::Truncated { offset: 0, needed, .. }) => {
            report.push(EcFinding::Truncated { needed, available });
            return None;
        }
        Err(DerError::Curve { .. }) => {
            report.push(EcFinding::OtherCurve);
            return None;
        }
        Err(error) => {
            tail_erased(field, report);
            report.push(EcFinding::Unreadable { error });
            return None;
        }
    };
    tail_erased(field, report);
    let key = examine_numbers(&view, report);
    if let Some(key) = &key
        && field.get(..view.der_len()) != Some(key.as_der())
        && report.is_clean()
    {
        report.push(EcFinding::NotCanonical);
    }
    let fills = |fill| view.trailing().iter().all(|byte| *byte == fill);
    report.device_works = report.is_clean();
    if !fills(0xFF) && !fills(0x00) {
        report.push(Finding::StaleTail { from: view.der_len() });
    }
    key
}

/// What is wrong with the key itself in a form that is not for the device.
fn examine_inside(field: &[u8], report: &mut Report) {
    let mut scratch = [0; MAX_DER];
    if KeyForm::of(field) == Some(KeyForm::Pem)
        && let Err(error) = pem::decode(field, &mut scratch)
    {
        report.push(Finding::UnreadableText { error });
    }
    let view = match unpack(field, &mut scratch) {
        Some(Unpacked { form: KeyForm::Sec1Ec, der, .. }) => Some(EcPrivateKeyView::parse_sec1(der)),
        Some(Unpacked { form: KeyForm::Pkcs8Ec, der, .. }) => Some(EcPrivateKeyView::parse_pkcs8(der)),
        _ => None,
    };
    match view {
        Some(Ok(view)) => {
            examine_numbers(&view, report);
        }
        Some(Err(DerError::Curve { .. })) => report.push(EcFinding::OtherCurve),
        Some(Err(error)) => report.push(EcFinding::Unreadable { error }),
        None => {}
    }
    scratch.zeroize();
}

/// Eight FF at the end of what should be a key are no chance.
fn tail_erased(field: &[u8], report: &mut Report) {
    let from = field.len() - field.iter().rev().take_while(|byte| **byte == 0xFF).count();
    if from + 8 <= field.len().min(EC_DER_LEN) {
        report.push(EcFinding::TailErased { from });
    }
}

fn examine_numbers(view: &EcPrivateKeyView<'_>, report: &mut Report) -> Option<EcDeviceKey> {
    if !view.curve_is_named() {
        report.push(EcFinding::CurveNotNamed);
    }
    match view.to_device_key() {
        Ok(key) => return Some(key),
        Err(EcKeyError::Range) => report.push(EcFinding::OutOfRange),
        Err(EcKeyError::Point) => report.push(EcFinding::PointMismatch),
    }
    None
}
