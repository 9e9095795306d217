//! Fields and their parts by name.

use crate::field::{Field, FirmwareVersion};
use crate::kind::Kind;
use crate::parts::{self, Part};

/// A field, or a part of one, with the name that tools use for it.
///
/// The name of a part is the name of its field, a dot, and its own name: `ip_config.host`, `product_store.3`,
/// `flash_modules.1.magic`, `server_public_key.address`. [`by_name`](Self::by_name) finds it,
/// [`all`](Self::all) lists all of them.
///
/// ```
/// use spark_dct::{App, AppMut, Entry};
/// let mut image = [0xFF; 8391];
/// let host = Entry::by_name("ip_config.host").ok_or("no such entry")?;
/// AppMut::new(&mut image)?.set_text(host, "192.168.0.5")?;
/// assert_eq!(image[1638..1642], [5, 0, 168, 192]);
/// assert_eq!(App::new(&image)?.value(host).to_string(), "192.168.0.5");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entry {
    field: &'static Field,
    part: Option<&'static Part>,
}

#[allow(clippy::len_without_is_empty, reason = "no entry is empty")]
impl Entry {
    /// A whole field.
    #[must_use]
    pub const fn of(field: Field) -> Entry {
        Entry { field: field.in_table(), part: None }
    }

    /// The entry of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Entry> {
        let (field, part) = match name.split_once('.') {
            Some((field, part)) => (field, Some(part)),
            None => (name, None),
        };
        let field = Field::by_name(field)?;
        let Some(name) = part else { return Some(Entry::of(field)) };
        Entry::parts(field).find(|entry| entry.part_name() == Some(name))
    }

    /// Every entry, each field before its parts, in the order of offsets.
    pub fn all() -> impl Iterator<Item = Entry> + Clone {
        Field::ALL
            .iter()
            .copied()
            .flat_map(|field| core::iter::once(Entry::of(field)).chain(Entry::parts(field)))
    }

    /// What a listing shows: every entry but records, whose parts are there. Switches are beside their integer.
    pub fn leaves() -> impl Iterator<Item = Entry> + Clone {
        Entry::all().filter(|entry| entry.kind() != Kind::Record)
    }

    /// The parts of a field, none where it is one value.
    pub fn parts(field: Field) -> impl Iterator<Item = Entry> + Clone {
        let whole = Entry::of(field);
        parts::of(field).iter().map(move |part| Entry { part: Some(part), ..whole })
    }

    /// The field that the entry is or belongs to.
    #[must_use]
    pub const fn field(&self) -> Field {
        *self.field
    }

    /// The part's own name, `None` for a whole field.
    #[must_use]
    pub const fn part_name(&self) -> Option<&'static str> {
        match self.part {
            Some(part) => Some(part.name),
            None => None,
        }
    }

    /// The whole name: that of the field, or field, dot and part.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.part {
            Some(part) => part.whole_name,
            None => self.field.name(),
        }
    }

    /// First byte in the application section; the DFU address in alternate setting 1.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match self.part {
            Some(part) => self.field.offset() + part.offset as usize,
            None => self.field.offset(),
        }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.part {
            Some(part) => part.len as usize,
            None => self.field.len(),
        }
    }

    /// First byte after the entry.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset() + self.len()
    }

    /// Byte range in the application section. Switches share the range of their integer.
    #[must_use]
    pub const fn range(&self) -> core::ops::Range<usize> {
        self.offset()..self.end()
    }

    /// What kind of value it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.part {
            Some(part) => part.kind,
            None => self.field.kind(),
        }
    }

    /// Whether the bytes give access to something. Do not show them without being asked.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        match self.part {
            Some(part) => part.secret,
            None => self.field.is_secret(),
        }
    }

    /// First firmware release that has it.
    #[must_use]
    pub const fn since(&self) -> FirmwareVersion {
        match self.part {
            Some(Part { since: Some(since), .. }) => *since,
            _ => self.field.since(),
        }
    }

    /// Whether a release knows it, see [`Field::exists_in`].
    #[must_use]
    pub fn exists_in(&self, version: FirmwareVersion) -> bool {
        self.next_in(version) == version
    }

    /// The first release from `version` on that knows it: `version` itself, [`since`](Self::since), or where
    /// [the one hole](Field::exists_in) ends.
    #[must_use]
    pub fn next_in(&self, version: FirmwareVersion) -> FirmwareVersion {
        self.field.next_in(version.max(self.since()))
    }
}

impl From<Field> for Entry {
    fn from(field: Field) -> Entry {
        Entry::of(field)
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entry({self})")
    }
}

/// The name.
impl core::fmt::Display for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    #[test]
    fn every_name_is_unique_and_finds_its_entry() {
        let names: BTreeSet<_> = Entry::all().map(|entry| entry.to_string()).collect();
        assert_eq!(names.len(), Entry::all().count());
        for entry in Entry::all() {
            assert_eq!(Entry::by_name(&entry.to_string()), Some(entry));
        }
        for name in [
            "",
            ".",
            "ip_config.",
            ".host",
            "ip_config.hosts",
            "product_store.12",
            "version.0",
            "ip_config.host.0",
        ] {
            assert_eq!(Entry::by_name(name), None, "{name}");
        }
    }

    #[test]
    fn name_is_that_of_the_field_and_of_the_part() {
        for entry in Entry::all() {
            let (field, part) = match entry.name().split_once('.') {
                Some((field, part)) => (field, Some(part)),
                None => (entry.name(), None),
            };
            assert_eq!((field, part), (entry.field().name(), entry.part_name()));
        }
    }

    #[test]
    fn leaves_cover_every_byte_of_every_field() {
        let mut covered = [false; crate::app::LEN];
        for leaf in Entry::leaves() {
            covered[leaf.range()].fill(true);
        }
        assert!(covered.iter().all(|byte| *byte));
        for entry in Entry::all() {
            assert!(entry.len() > 0 && entry.end() <= entry.field().end(), "{entry}");
        }
    }

    #[test]
    fn parts_of_a_record_do_not_overlap_except_switches_and_slots() {
        for field in Field::ALL {
            let mut next = field.offset();
            for leaf in Entry::parts(*field).filter(|e| !matches!(e.kind(), Kind::Bit { .. } | Kind::Record))
            {
                assert_eq!(leaf.offset(), next, "{leaf}");
                next = leaf.end();
            }
        }
    }

    #[test]
    fn numbers_have_a_width_that_is_read() {
        for entry in Entry::all() {
            match entry.kind() {
                Kind::Number { .. } => assert!(matches!(entry.len(), 1 | 2 | 4), "{entry}"),
                Kind::Bit { bit, .. } => assert!(usize::from(bit) < 8 * entry.len(), "{entry}"),
                Kind::Ipv4 | Kind::Country => assert_eq!(entry.len(), 4, "{entry}"),
                Kind::Address => assert_eq!(entry.len(), 128, "{entry}"),
                Kind::Counted { room, .. } => {
                    assert_eq!(entry.len(), usize::from(room) + 1 + usize::from(room > 255), "{entry}");
                }
                Kind::TextAfterLength { max } => assert_eq!(entry.len(), usize::from(max) + 1, "{entry}"),
                Kind::Claimed | Kind::Features => assert_eq!(entry.len(), 1, "{entry}"),
                Kind::Padded { room, .. } => assert!(usize::from(room) <= entry.len(), "{entry}"),
                _ => {}
            }
        }
    }
}
