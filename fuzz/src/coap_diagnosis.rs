//! `coap-spark`: what failures mean.

use crate::input::Input;
use coap_spark::diagnosis::{Generation, Led, Observation, ROWS, by_code, log};

/// A line is read alike in any case and behind a prefix, and whatever is found leads to rows that print.
pub fn diagnosis(data: &[u8]) {
    let mut input = Input::new(data);
    let code = i32::from_be_bytes(input.array());
    let seen = Observation {
        led: Led::ALL.get(usize::from(input.byte() % 4)).copied(),
        blinks: Some(input.byte()).filter(|blinks| *blinks < 128),
        code: Some(code).filter(|code| code % 2 == 0),
        generation: Generation::ALL.get(usize::from(input.byte() % 4)).copied(),
    };
    for row in seen.rows() {
        assert!(ROWS.contains(&row));
        if let Some(code) = seen.code {
            assert!(by_code(code, seen.generation).any(|other| other == row), "{code}: {}", row.code);
        }
    }

    let line = String::from_utf8_lossy(input.rest());
    let found = log::read(&line);
    if let Some(found) = found {
        let _ = (found.point(), found.number.map(|number| number.code()));
        for row in found.rows() {
            assert!(format!("{row}").contains(row.code));
        }
    }
    let upper = line.to_ascii_uppercase();
    let again = log::read(&upper);
    assert_eq!(found.is_some(), again.is_some());
    let behind = format!("0000012345 [system] WARN: {line}");
    let behind = if behind.len() > log::MAX_LINE { again } else { log::read(&behind) };
    for other in [again, behind].into_iter().flatten() {
        let found = found.expect("the line is known without a prefix as well");
        assert_eq!((other.phrase, other.number, other.device), (found.phrase, found.number, found.device));
        assert!(other.rows().eq(found.rows()));
    }
}
