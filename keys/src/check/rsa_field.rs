//! The private key field of TCP devices.

use super::{Finding, Report, as_read, published_secrets};
use crate::arithmetic::{Relation, device_numbers};
use crate::der::{DerError, SEQUENCE};
use crate::device_view::Reading;
use crate::form::KeyForm;
use crate::load::{MAX_DER, Unpacked, unpack};
use crate::pem;
use crate::private_key::{Number, RsaPrivateKeyView, bits};
use zeroize::Zeroize;

pub(super) fn examine(field: &[u8], report: &mut Report) {
    let reading = Reading::of(field);
    report.device_works = reading.as_ref().is_some_and(Reading::decrypts);
    // by what the device reads, if that is a key, or what is left of one where a reader of DER loses its way
    let lost = RsaPrivateKeyView::walk(field).err().filter(|_| !report.device_works);
    let is_read = |reading: &Reading| {
        report.device_works || reading.finds_numbers() && lost.is_some() && !is_cut_off(field)
    };
    if let Some(reading) = reading.filter(is_read) {
        return as_read::examine(field, reading, lost, report);
    }
    examine_structure(field, report);
    if !report.findings().any(|finding| finding.prevents_decryption()) {
        report.push(Finding::Misread);
    }
}

fn examine_structure(field: &[u8], report: &mut Report) {
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
    stale_tail(key.trailing(), key.der_len(), report);
}

pub(super) fn stale_tail(trailing: &[u8], from: usize, report: &mut Report) {
    let fills = |fill| trailing.iter().all(|byte| *byte == fill);
    if !fills(0xFF) && !fills(0x00) {
        report.push(Finding::StaleTail { from });
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
    if let Some(from) = erased_from(field).filter(|_| whole) {
        report.push(Finding::TailErased { from });
    }
    whole.then_some(declared)
}

/// Start of an erased end, of a key whose header is whole.
fn erased_from(field: &[u8]) -> Option<usize> {
    let [0x30, 0x82, high, low, ..] = *field else { return None };
    let declared = 4 + usize::from(u16::from_be_bytes([high, low]));
    let erased = field.iter().rev().take_while(|byte| **byte == 0xFF).count();
    let from = field.len() - erased;
    // a key may end in FF by chance, hardly in eight of them
    (from + 8 <= declared.min(field.len())).then_some(from)
}

fn is_cut_off(field: &[u8]) -> bool {
    let ends_early = matches!(*field, [0x30, 0x82, high, low, ..]
        if field.len() < 4 + usize::from(u16::from_be_bytes([high, low])));
    ends_early || erased_from(field).is_some()
}

/// A cut off or erased end explains that the integers cannot be read; only other reasons are told as well.
fn examine_unreadable(field: &[u8], declared: Option<usize>, error: DerError, report: &mut Report) {
    let erased = report.findings().any(|finding| matches!(finding, Finding::TailErased { .. }));
    let needed = declared.filter(|needed| *needed > field.len());
    if needed.is_some()
        && let Some(bits) = bits_of_header(field).filter(|bits| is_other_size(*bits))
    {
        return report.push(Finding::WrongSize { bits });
    }
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
fn is_other_size(bits: usize) -> bool {
    !(1008..=1024).contains(&bits)
}

fn other_size(key: &RsaPrivateKeyView<'_>) -> Option<usize> {
    Some(bits(key.number(Number::N).without_leading_byte())).filter(|bits| is_other_size(*bits))
}

/// Size of the modulus by its header, of a key that is cut off.
fn bits_of_header(field: &[u8]) -> Option<usize> {
    let (length, first) = match *field {
        [0x30, 0x82, _, _, 0x02, 0x01, _, 0x02, 0x82, high, low, 0, first, ..] => {
            (usize::from(u16::from_be_bytes([high, low])), first)
        }
        [0x30, 0x82, _, _, 0x02, 0x01, _, 0x02, 0x81, length, 0, first, ..] => (usize::from(length), first),
        _ => return None,
    };
    Some(8 * length.checked_sub(2)? + bits(&[first]))
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
        // another exponent has a finding of its own
        let is_other = number == Number::E && key.number(number).magnitude() != [1, 0, 1];
        if !number.device_reads(length) && !is_other {
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
    for number in Number::ALL {
        if let Some(offset) = key.number(number).damaged_leading_byte() {
            report.push(Finding::HeaderDamaged { number, offset });
        }
    }
    let (numbers, is_of_other_exponent) = device_numbers(key);
    if is_of_other_exponent {
        report.push(Finding::WrongExponent);
    } else if key.number(Number::E).magnitude() != [1, 0, 1] {
        report.push(Finding::ExponentDamaged);
    }
    if key.modulus().last().is_none_or(|last| last % 2 == 0) {
        report.push(Finding::EvenModulus);
    }
    let failed = || Relation::ALL.into_iter().filter(|relation| !numbers.holds(*relation));
    for relation in failed() {
        report.push(Finding::RelationFailed { relation });
    }
    if failed().all(|relation| relation == Relation::PrivateExponent) {
        if let Some(number) = numbers.composite() {
            report.push(Finding::NotPrime { number });
        }
        if bits(key.modulus()) < 1024 {
            report.push(Finding::WrongSize { bits: bits(key.modulus()) });
        }
    }
}
