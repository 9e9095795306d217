//! Two images, value by value.

use super::sign::{Sign, Which, intact_of, is_random, sign_of};
use crate::app::App;
use crate::entry::Entry;
use crate::kind::Kind;
use crate::value::Value;

/// A value that two images do not share. `Debug` hides secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference<'a> {
    /// The entry.
    pub entry: Entry,
    /// Its value in the first image.
    pub first: Value<'a>,
    /// Its value in the second image.
    pub second: Value<'a>,
    /// Sign of damage in the first value, seen from the second.
    pub first_sign: Option<Sign>,
    /// Sign of damage in the second value, seen from the first.
    pub second_sign: Option<Sign>,
}

/// The entries whose bytes differ, in the order of their offsets: the parts of records and not the records, integers and
/// not their single switches. An entry that only one image is long enough for differs unless it is erased there.
///
/// ```
/// use spark_dct::{App, AppMut, Entry, recovery::diff};
/// let before = [0xFF; 8391];
/// let mut after = before;
/// let host = Entry::by_name("ip_config.host").ok_or("no such entry")?;
/// AppMut::new(&mut after)?.set_text(host, "10.0.0.2")?;
/// let (before, after) = (App::new(&before)?, App::new(&after)?);
/// let names: Vec<_> = diff(before, after).map(|difference| difference.entry.to_string()).collect();
/// assert_eq!(names, ["ip_config.host"]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub fn diff<'a>(first: App<'a>, second: App<'a>) -> impl Iterator<Item = Difference<'a>> {
    Entry::leaves().filter(|entry| !matches!(entry.kind(), Kind::Bit { .. })).filter_map(move |entry| {
        let bytes = |app: App<'a>| app.entry_bytes(entry);
        let (a, b) = (bytes(first), bytes(second));
        let erased = |bytes: Option<&[u8]>| bytes.is_none_or(crate::value::is_erased);
        if a == b || (erased(a) && erased(b)) {
            return None;
        }
        let random = is_random(entry.field());
        let first_sign = a.and_then(|a| sign_of(a, b, None)).filter(|_| random);
        let second_sign = b.and_then(|b| sign_of(b, a, None)).filter(|_| random);
        let intact = match (first_sign, second_sign) {
            (Some(first), Some(second)) if first.mirrors(second) => intact_of(a?, b?),
            _ => None,
        };
        Some(Difference {
            entry,
            first: first.value(entry),
            second: second.value(entry),
            first_sign: first_sign.filter(|_| intact != Some(Which::First)),
            second_sign: second_sign.filter(|_| intact != Some(Which::Second)),
        })
    })
}
