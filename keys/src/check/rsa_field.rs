//! The private key field of TCP devices.

use super::{Finding, Report, published_secrets};
use crate::arithmetic::verdict;
use crate::der::{DerError, SEQUENCE};
use crate::form::KeyForm;
use crate::load::{MAX_DER, Unpacked, unpack};
use crate::pem;
use crate::private_key::{Number, RsaPrivateKeyView, bits};
use zeroize::Zeroize;

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
            push_leaks(field, report);
            return examine_inside(field, report);
        }
    }
    let emptied = report.head_erased(field);
    let declared = if emptied { None } else { examine_header(field, report) };
    let key = match RsaPrivateKeyView::walk(field) {
        Ok(key) => key,
        // the device does not even look
        Err(_) if emptied => return,
        Err(error) => return examine_unreadable(field, declared, error, report),
    };
    if is_multi_prime(field, &key) {
        report.push(Finding::MultiPrime);
        return push_leaks(field, report);
    }
    examine_encoding(&key, report);
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

/// What is wrong with the key itself in a form that the device cannot read.
fn examine_inside(field: &[u8], report: &mut Report) {
    let mut scratch = [0; MAX_DER];
    if KeyForm::of(field) == Some(KeyForm::Pem)
        && let Err(error) = pem::decode(field, &mut scratch)
    {
        report.push(Finding::UnreadableText { error });
    }
    if let Some(Unpacked { form: KeyForm::Pkcs1Private | KeyForm::Pkcs8Private, der, .. }) =
        unpack(field, &mut scratch)
    {
        match RsaPrivateKeyView::walk(der) {
            Ok(key) if is_multi_prime(der, &key) => report.push(Finding::MultiPrime),
            Ok(key) => examine_numbers(&key, report),
            Err(error) => match RsaPrivateKeyView::parse(der) {
                Err(DerError::Truncated { offset: 0, needed, available }) => {
                    report.push(Finding::Truncated { needed, available });
                }
                _ => report.push(Finding::Unreadable { error }),
            },
        }
    }
    scratch.zeroize();
}

/// Whether a whole key goes on with a list of further primes behind its nine integers.
fn is_multi_prime(der: &[u8], key: &RsaPrivateKeyView<'_>) -> bool {
    let goes_on = matches!(
        RsaPrivateKeyView::parse_any_version(der),
        Err(DerError::Sum { declared, found }) if found < declared
    );
    goes_on && key.number(Number::Version).magnitude() == [1] && key.trailing().first() == Some(&SEQUENCE)
}

/// A damaged top bit is no other size.
fn other_size(key: &RsaPrivateKeyView<'_>) -> Option<usize> {
    Some(bits(key.modulus())).filter(|size| !(1008..=1024).contains(size))
}

fn examine_encoding(key: &RsaPrivateKeyView<'_>, report: &mut Report) {
    if !key.is_minimal() {
        report.push(Finding::NotMinimal);
    }
    if other_size(key).is_some() {
        return;
    }
    if let Some(number) = Number::ALL.into_iter().find(|number| key.number(*number).has_long_length()) {
        report.push(Finding::LongLength { number });
    }
    for (number, length) in Number::ALL.into_iter().zip(key.encoded_lengths()) {
        if !number.device_reads(length) && number != Number::E {
            report.push(Finding::DeviceIncompatible { number, length });
        }
    }
}

fn examine_numbers(key: &RsaPrivateKeyView<'_>, report: &mut Report) {
    if !key.number(Number::Version).magnitude().is_empty() {
        report.push(Finding::WrongVersion);
    }
    if let Some(bits) = other_size(key) {
        return report.push(Finding::WrongSize { bits });
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
