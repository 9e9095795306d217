//! The last 16 bytes of a sector, and the CRC in them.

use super::{Header, SECTOR_SIZE, Sector};
use crate::crc32;

/// Version record of v0.7.0 and later.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | magic DC0200CD |
/// | 4 | 2 | usage flags |
/// | 6 | 2 | version 0370 |
/// | 8 | 4 | CRC, see [`sector_crc`] |
/// | 12 | 1 | initial write |
/// | 13 | 1 | sequence |
/// | 14 | 2 | 00 |
///
/// Integers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VersionRecord {
    /// [`MAGIC`](Self::MAGIC) in a written record.
    pub magic: u32,
    /// 0 in everything that the firmware writes.
    pub usage_flags: u16,
    /// [`CURRENT`](Self::CURRENT); 0 in a default table.
    pub version: u16,
    /// See [`sector_crc`].
    pub crc: u32,
    /// 1 in a default table, 0 after a write.
    pub initial_write: u8,
    /// Counts writes, modulo 256.
    pub sequence: u8,
    /// 00 00.
    pub padding: [u8; 2],
}

impl VersionRecord {
    /// Length of the record.
    pub const LEN: usize = 16;
    /// Where it is in a sector.
    pub const OFFSET: usize = 16368;
    /// Where `initial_write` is in a sector.
    pub const INITIAL_WRITE_AT: usize = 16380;
    /// Magic number.
    pub const MAGIC: u32 = 0xDC02_00CD;
    /// Version that v0.7.0 to v2.3.1 write and the highest one that they take.
    pub const CURRENT: u16 = 0x0370;
    /// Version that a sector without valid record counts as.
    pub const LEGACY: u16 = 0x0330;

    /// Reads a record; every content is accepted.
    #[must_use]
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        Self {
            magic: u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
            usage_flags: u16::from_le_bytes([raw[4], raw[5]]),
            version: u16::from_le_bytes([raw[6], raw[7]]),
            crc: u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]),
            initial_write: raw[12],
            sequence: raw[13],
            padding: [raw[14], raw[15]],
        }
    }

    /// Writes a record.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [m0, m1, m2, m3] = self.magic.to_le_bytes();
        let [u0, u1] = self.usage_flags.to_le_bytes();
        let [v0, v1] = self.version.to_le_bytes();
        let [c0, c1, c2, c3] = self.crc.to_le_bytes();
        let [p0, p1] = self.padding;
        [m0, m1, m2, m3, u0, u1, v0, v1, c0, c1, c2, c3, self.initial_write, self.sequence, p0, p1]
    }

    /// The record of a sector.
    #[must_use]
    pub fn of_sector(sector: &Sector) -> Self {
        Self::decode(sector.last_chunk().unwrap_or(const { &[0xFF; Self::LEN] }))
    }

    /// Whether the firmware believes the record: magic, and version 1 to 0370.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.magic == Self::MAGIC && self.version >= 1 && self.version <= Self::CURRENT
    }

    /// Whether the firmware skips the CRC: it is 0 and `initial_write` is 1.
    #[must_use]
    pub const fn is_unchecked(&self) -> bool {
        self.crc == 0 && self.initial_write == 1
    }
}

/// The CRC of a sector as v0.7.0 and later compute it.
///
/// Not one CRC over everything: the platform's helper starts anew at every call and the firmware combines the
/// results with XOR. With `raw(x)` = CRC-32 without the final inversion:
///
/// ```text
/// FFFFFFFF ^ raw(bytes 0..388 with byte 8 = 0)
///          ^ raw(each 32-byte piece of 388..16368; the last piece has 12 bytes)
///          ^ raw(version record with crc = 0 and initial_write = 0)
/// ```
///
/// So two exchanged pieces are not noticed and equal pieces cancel in pairs. The byte `is_current` is covered: to
/// check the previous generation in the old sector, first set byte 9 back to 1.
#[must_use]
pub fn sector_crc(sector: &Sector) -> u32 {
    combine(&Header::of_sector(sector), VersionRecord::of_sector(sector), sector, 0, &[])
}

/// [`sector_crc`] from its three parts.
pub(super) fn crc_of(header: &Header, record: VersionRecord, pieces: &Pieces) -> u32 {
    let mut first = *header.as_bytes();
    first[Header::WRITE_INCOMPLETE_AT] = 0;
    let record = VersionRecord { crc: 0, initial_write: 0, ..record };
    0xFFFF_FFFF ^ raw_crc(&first) ^ pieces.crc() ^ raw_crc(&record.encode())
}

/// [`sector_crc`] of a sector that does not exist yet: `sector` with `data` at `start`.
pub(super) fn combine(
    header: &Header,
    record: VersionRecord,
    sector: &Sector,
    start: usize,
    data: &[u8],
) -> u32 {
    let mut pieces = Pieces::new();
    let end = start.saturating_add(data.len());
    pieces.add(
        Header::LEN,
        sector.get(Header::LEN..start.clamp(Header::LEN, VersionRecord::OFFSET)).unwrap_or_default(),
    );
    if !data.is_empty() && start >= Header::LEN {
        pieces.add(start, data);
    }
    let rest = end.clamp(Header::LEN, VersionRecord::OFFSET);
    pieces.add(rest, sector.get(rest..VersionRecord::OFFSET).unwrap_or_default());
    crc_of(header, record, &pieces)
}

/// The pieces of 32 bytes and the last one of 12.
///
/// A CRC without inversions is linear: `raw(a) ^ raw(b) ^ raw(c) = raw(a ^ b ^ c)` for an odd number of pieces of one length.
/// There are 499 of them, so that all together cost one XOR over the sector and the CRC of 32 bytes.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    sum: [u8; Pieces::LEN],
    last: [u8; 12],
}

impl Pieces {
    const LEN: usize = 32;
    const LAST_AT: usize = VersionRecord::OFFSET - 12;

    pub(super) const fn new() -> Self {
        Self { sum: [0; Self::LEN], last: [0; 12] }
    }

    /// Takes bytes at their place in the sector, in any order, each place once.
    pub(super) fn add(&mut self, at: usize, bytes: &[u8]) {
        let (bytes, last) = bytes.split_at(Self::LAST_AT.saturating_sub(at).min(bytes.len()));
        let last_from = (at + bytes.len()).saturating_sub(Self::LAST_AT);
        self.last.iter_mut().skip(last_from).zip(last).for_each(|(sum, byte)| *sum ^= byte);
        let phase = (at - Header::LEN) % Self::LEN;
        let (head, rest) = bytes.split_at((Self::LEN - phase).min(bytes.len()));
        self.sum.iter_mut().skip(phase).zip(head).for_each(|(sum, byte)| *sum ^= byte);
        let (whole, rest) = rest.as_chunks::<{ Self::LEN }>();
        for piece in whole {
            self.sum.iter_mut().zip(piece).for_each(|(sum, byte)| *sum ^= byte);
        }
        self.sum.iter_mut().zip(rest).for_each(|(sum, byte)| *sum ^= byte);
    }

    fn crc(&self) -> u32 {
        raw_crc(&self.sum) ^ raw_crc(&self.last)
    }
}

const _: () = assert!((Pieces::LAST_AT - Header::LEN) / Pieces::LEN == 499);
const _: () = assert!((Pieces::LAST_AT - Header::LEN).is_multiple_of(Pieces::LEN));

/// CRC-32 without the final inversion.
fn raw_crc(bytes: &[u8]) -> u32 {
    !crc32::checksum(bytes)
}

const _: () = assert!(VersionRecord::OFFSET + VersionRecord::LEN == SECTOR_SIZE);

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn record_maps_to_its_bytes_both_ways() {
        let record = VersionRecord {
            magic: VersionRecord::MAGIC,
            usage_flags: 0,
            version: VersionRecord::CURRENT,
            crc: 0xF0D2_4AB7,
            initial_write: 0,
            sequence: 1,
            padding: [0, 0],
        };
        let bytes = hex!("CD0002DC 0000 7003 B74AD2F0 00 01 0000");
        assert_eq!(record.encode(), bytes);
        assert_eq!(VersionRecord::decode(&bytes), record);
        assert!(record.is_valid());
    }

    #[test]
    fn versions_outside_of_1_to_0370_are_not_believed() {
        let record = VersionRecord::decode(&hex!("CD0002DC 0000 0000 00000000 01 01 0000"));
        assert!(!record.is_valid() && record.is_unchecked());
        assert!(VersionRecord { version: 1, ..record }.is_valid());
        assert!(!VersionRecord { version: 0x0371, ..record }.is_valid());
        assert!(!VersionRecord::decode(&[0xFF; 16]).is_valid());
    }

    #[test]
    fn linear_form_is_the_formula_of_the_firmware() {
        let mut sector: Sector = core::array::from_fn(|i| u8::try_from((i * i / 7 + i * 31) % 251).unwrap());
        for round in 0..20 {
            sector[388 + round * 797] ^= 0x5A;
            let mut header = *Header::of_sector(&sector).as_bytes();
            header[Header::WRITE_INCOMPLETE_AT] = 0;
            let record = VersionRecord { crc: 0, initial_write: 0, ..VersionRecord::of_sector(&sector) };
            let pieces = sector[Header::LEN..VersionRecord::OFFSET].chunks(32);
            let formula =
                pieces.fold(!0 ^ raw_crc(&header) ^ raw_crc(&record.encode()), |crc, p| crc ^ raw_crc(p));
            assert_eq!(sector_crc(&sector), formula, "{round}");
        }
    }

    #[test]
    fn exchanged_pieces_are_not_noticed_but_a_flipped_bit_is() {
        let mut sector: Sector = core::array::from_fn(|i| u8::try_from(i % 251).unwrap());
        let before = sector_crc(&sector);
        let (left, right) = sector.split_at_mut(388 + 32);
        left[388..].swap_with_slice(&mut right[..32]);
        assert_eq!(sector_crc(&sector), before);
        sector[5000] ^= 1;
        assert_ne!(sector_crc(&sector), before);
    }

    proptest! {
        #[test]
        fn patched_sector_has_the_crc_of_the_sector_it_becomes(
            start in Header::LEN..VersionRecord::OFFSET,
            data in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let sector: Sector = core::array::from_fn(|i| u8::try_from(i * 31 % 251).unwrap());
            let data = &data[..data.len().min(VersionRecord::OFFSET - start)];
            let mut after = sector;
            after[start..start + data.len()].copy_from_slice(data);
            let (header, record) = (Header::of_sector(&sector), VersionRecord::of_sector(&sector));
            prop_assert_eq!(combine(&header, record, &sector, start, data), sector_crc(&after));
        }

        #[test]
        fn any_record_survives_a_round_trip(raw: [u8; 16]) {
            prop_assert_eq!(VersionRecord::decode(&raw).encode(), raw);
        }
    }
}
