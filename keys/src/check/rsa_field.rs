//! The private key field of TCP devices.

use super::{Finding, Report, published_secrets};
use crate::arithmetic::verdict;
use crate::der::DerError;
use crate::form::KeyForm;
use crate::private_key::{Number, RsaPrivateKeyView, bits};

pub(super) fn examine(field: &[u8], report: &mut Report) {
    if field.is_empty() {
        return report.push(Finding::Truncated { needed: 607, available: 0 });
    }
    for (fill, finding) in [(0xFF, Finding::Erased), (0x00, Finding::Zeroed)] {
        if field.iter().all(|byte| *byte == fill) {
            return report.push(finding);
        }
    }
    match KeyForm::of(field) {
        Some(KeyForm::Pkcs1Private) | None => {}
        Some(form) => {
            report.push(Finding::WrongForm { form });
            return push_leaks(field, report);
        }
    }
    let declared = examine_header(field, report);
    let key = match RsaPrivateKeyView::walk(field) {
        Ok(key) => key,
        Err(error) => return examine_unreadable(field, declared, error, report),
    };
    examine_numbers(&key, report);
    push_leaks(field, report);
    if let Some(declared) = declared.filter(|declared| *declared != key.der_len()) {
        report.push(Finding::WrongLength { declared, found: key.der_len() });
    }
    let padding = |fill| key.trailing().iter().all(|byte| *byte == fill);
    if !padding(0xFF) && !padding(0x00) {
        report.push(Finding::StaleTail { from: key.der_len() });
    }
}

fn push_leaks(field: &[u8], report: &mut Report) {
    for leak in published_secrets(field) {
        report.push(Finding::SecretPublished { leak });
    }
}

/// Header, and what the declared length tells; gives that length when the header is whole.
fn examine_header(field: &[u8], report: &mut Report) -> Option<usize> {
    let [tag, form, high, low, ..] = *field else {
        report.push(Finding::Truncated { needed: 607, available: field.len() });
        return None;
    };
    let whole = [tag, form] == [0x30, 0x82];
    if !whole {
        report.push(Finding::BrokenHeader { found: [tag, form] });
    }
    let declared = 4 + usize::from(u16::from_be_bytes([high, low]));
    let erased = field.iter().rev().take_while(|byte| **byte == 0xFF).count();
    let from = field.len() - erased;
    // a key may end in FF by chance, hardly in eight of them
    if whole && from + 8 <= declared.min(field.len()) {
        report.push(Finding::TailErased { from });
    }
    whole.then_some(declared)
}

/// A cut off or erased end explains that the integers cannot be read; only other reasons are told as well.
fn examine_unreadable(field: &[u8], declared: Option<usize>, error: DerError, report: &mut Report) {
    let erased = report.findings().any(|finding| matches!(finding, Finding::TailErased { .. }));
    let needed = declared.filter(|needed| *needed > field.len());
    if let Some(needed) = needed {
        report.push(Finding::Truncated { needed, available: field.len() });
    }
    let cut_off = needed.is_some() && matches!(error, DerError::Truncated { .. });
    if !erased && !cut_off {
        report.push(Finding::Unreadable { error });
    }
}

fn examine_numbers(key: &RsaPrivateKeyView<'_>, report: &mut Report) {
    if !key.number(Number::Version).magnitude().is_empty() {
        report.push(Finding::WrongVersion);
    }
    if !key.is_minimal() {
        report.push(Finding::NotMinimal);
    }
    let size = bits(key.modulus());
    // a damaged top bit is no other size
    if !(1008..=1024).contains(&size) {
        return report.push(Finding::WrongSize { bits: size });
    }
    if let Some(number) = Number::ALL.into_iter().find(|number| key.number(*number).has_long_length()) {
        report.push(Finding::LongLength { number });
    }
    for (number, length) in Number::ALL.into_iter().zip(key.encoded_lengths()) {
        if !number.device_reads(length) && number != Number::E {
            report.push(Finding::DeviceIncompatible { number, length });
        }
    }
    if key.number(Number::E).magnitude() != [1, 0, 1] {
        report.push(Finding::WrongExponent);
    }
    if key.modulus().last().is_none_or(|last| last % 2 == 0) {
        report.push(Finding::EvenModulus);
    }
    let verdict = verdict(key);
    for relation in verdict.failed() {
        report.push(Finding::RelationFailed { relation });
    }
    if let Some(number) = verdict.composite {
        report.push(Finding::NotPrime { number });
    }
}
