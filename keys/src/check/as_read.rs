//! A key field whose numbers are where the device looks for them, whatever is wrong with the bytes between.

use super::{Finding, Report};
use crate::arithmetic::{Relation, wide};
use crate::der::DerError;
use crate::device_view::{Reading, USED};
use crate::private_key::Number;

/// Bytes that a number has between its first byte and the next header.
const LONG: usize = 128;
const HALF: usize = 64;

/// Compares what surrounds the numbers with what belongs there, and the numbers with each other.
///
/// `lost` is where a reader of DER loses its way. If the device does as well, behind a number that it misreads, that is told
/// instead of what is wrong behind it.
pub(super) fn examine(field: &[u8], mut reading: Reading, lost: Option<DerError>, report: &mut Report) {
    let view = Surroundings { field };
    view.find_private_exponent(&mut reading);
    let holds = |relation| reading.numbers.holds(relation);
    let [n, d, p, q, dp, dq, qinv] = reading.starts;
    // with the place behind the number before it, where its header starts, and the relation that it is needed for
    let numbers = [
        (Number::N, 7, n, LONG, Relation::ModulusIsProduct),
        (Number::D, n + LONG + 5, d, LONG, Relation::PrivateExponent),
        (Number::P, d + LONG, p, HALF, Relation::ModulusIsProduct),
        (Number::Q, p + HALF, q, HALF, Relation::ModulusIsProduct),
        (Number::Dp, q + HALF, dp, HALF, Relation::Dp),
        (Number::Dq, dp + HALF, dq, HALF, Relation::Dq),
        (Number::Qinv, dq + HALF, qinv, HALF, Relation::Qinv),
    ];
    if view.unlike(0, &[0x30, 0x82]).is_some() {
        report.push(Finding::BrokenHeader { found: [view.byte(0), view.byte(1)] });
    }
    if let Some(offset) = view.unlike(4, &[0x02, 0x01]) {
        report.push(Finding::HeaderDamaged { number: Number::Version, offset });
    }
    if view.byte(6) != 0 {
        report.push(Finding::WrongVersion);
    }
    let (mut padded, mut misread) = (false, false);
    for (number, header, start, len, relation) in numbers {
        let damaged = view.damaged_header(header, start, len).or_else(|| {
            // for other programs the number is a negative one without its zero
            let has_none = start == header + short_header(len);
            (has_none && view.byte(start) >= 0x80 && holds(relation)).then(|| start - 1)
        });
        let is_tag = damaged == Some(header);
        if let (Some(error), Some(_)) = (lost, damaged)
            && (misread || !is_tag && !holds(relation))
        {
            report.push(Finding::Unreadable { error });
            break;
        }
        misread |= !holds(relation);
        padded |= view.is_padded(header, start, len);
        if let Some(offset) = damaged {
            report.push(Finding::HeaderDamaged { number, offset });
        }
        if number == Number::N {
            if let Some(offset) = view.unlike(n + LONG, &[0x02, 0x03]) {
                report.push(Finding::HeaderDamaged { number: Number::E, offset });
            }
            if view.unlike(n + LONG + 2, &[1, 0, 1]).is_some() {
                report.push(Finding::ExponentDamaged);
            }
        }
    }
    if padded {
        report.push(Finding::NotMinimal);
    }
    for relation in Relation::ALL.into_iter().filter(|relation| !holds(*relation)) {
        report.push(Finding::RelationFailed { relation });
    }
    if USED.into_iter().all(holds)
        && let Some(number) = reading.numbers.composite()
    {
        report.push(Finding::NotPrime { number });
    }
    let end = (qinv + HALF).min(field.len());
    let declared = 4 + usize::from(u16::from_be_bytes([view.byte(2), view.byte(3)]));
    // behind a wrong tag it says nothing
    if declared != end && view.unlike(0, &[0x30, 0x82]).is_none() {
        report.push(Finding::WrongLength { declared, found: end });
    }
    super::rsa_field::stale_tail(field.get(end..).unwrap_or(&[]), end, report);
}

struct Surroundings<'a> {
    field: &'a [u8],
}

impl Surroundings<'_> {
    /// What is missing counts as erased.
    fn byte(&self, at: usize) -> u8 {
        self.field.get(at).copied().unwrap_or(0xFF)
    }

    /// A damaged length of d makes the device read it at a wrong place, and, if p has its leading zero, nothing but d.
    fn find_private_exponent(&self, reading: &mut Reading) {
        let [n, device, p, ..] = reading.starts;
        let short = n + LONG + 5 + short_header(LONG);
        if reading.numbers.holds(Relation::PrivateExponent) {
            return;
        }
        for start in [short, short + 1] {
            let fits_before_p = matches!(p.checked_sub(start + LONG), Some(2 | 3));
            let number = self.field.get(start..start + LONG).and_then(wide).filter(|_| fits_before_p);
            let Some(number) = number.filter(|_| start != device) else { continue };
            let wrong = core::mem::replace(&mut reading.numbers.d, number);
            if reading.numbers.holds(Relation::PrivateExponent) {
                reading.starts = reading.starts.map(|at| if at == device { start } else { at });
                return;
            }
            reading.numbers.d = wrong;
        }
    }

    /// The first byte from `at` on that is not what it should be.
    fn unlike(&self, at: usize, expected: &[u8]) -> Option<usize> {
        (at..).zip(expected).find(|(at, expected)| self.byte(*at) != **expected).map(|(at, _)| at)
    }

    /// Whether the number has a leading zero although its top bit is 0.
    fn is_padded(&self, header: usize, start: usize, len: usize) -> bool {
        start > header + short_header(len) && self.byte(start) < 0x80
    }

    /// The first byte that is wrong before a number: tag, length, leading zero.
    fn damaged_header(&self, header: usize, start: usize, len: usize) -> Option<usize> {
        let has_zero = start > header + short_header(len);
        let length = u8::try_from(len + usize::from(has_zero)).unwrap_or(0xFF);
        let (long, half) = ([0x02, 0x81, length, 0], [0x02, length, 0]);
        let expected: &[u8] = if len == LONG { &long } else { &half };
        let expected = expected.get(..start - header).unwrap_or(expected);
        self.unlike(header, expected)
    }
}

/// Tag and length of a number without a leading zero.
const fn short_header(len: usize) -> usize {
    if len == LONG { 3 } else { 2 }
}
