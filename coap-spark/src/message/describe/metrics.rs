//! Metrics: diagnostics in binary form.

use crate::coap::WriteError;
use crate::message::{DecodeError, EncodeError};

/// One metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Metric {
    /// Which one, 0 to 32,767.
    pub id: u16,
    /// Its value, or the error code with which the device could not read it (bit 15 of the id on the wire).
    pub value: Result<i32, i32>,
}

const ERROR: u16 = 0x8000;
const ITEM_LEN: usize = 6;
const HEAD: [u8; 7] = [0, 4, 0, 2, 0, 4, 0];

/// The metrics of a device, in the answer to Describe with flags of exactly 04 (since 0.8.0). All little-endian.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 1 | 0: not JSON |
/// | 1 | 2 | bytes of sizes that follow: 4 |
/// | 3 | 2 | size of an id: 2 |
/// | 5 | 2 | size of a value: 4 |
/// | 7 + 6 n | 2 | id of metric n; bit 15: the value is an error code |
/// | 9 + 6 n | 4 | value, signed |
///
/// ```
/// use coap_spark::message::describe::{Metric, Metrics};
///
/// let metrics = Metrics::parse(&[0, 4, 0, 2, 0, 4, 0, 0x19, 0, 0x0f, 0, 0, 0])?;
/// assert!(metrics.iter().eq([Metric { id: 25, value: Ok(15) }]));
/// # Ok::<(), coap_spark::message::DecodeError>(())
/// ```
///
/// # Source
/// device-os@v2.3.1: `system/src/system_info.cpp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Metrics<'a> {
    items: &'a [[u8; ITEM_LEN]],
}

impl<'a> Metrics<'a> {
    /// Checks a payload. Further bytes of sizes, should a later version add them, are passed over.
    ///
    /// # Errors
    /// [`DecodeError::Field`] for a first byte other than 0, sizes other than 2 and 4, or an item that is cut off.
    pub fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let field = |field, expected, found| DecodeError::Field { field, expected, found };
        let head = || field("metrics header", "00 and at least 6 more", payload.len());
        let (&[0, l0, l1], rest) = payload.split_first_chunk::<3>().ok_or_else(head)? else {
            return Err(head());
        };
        let sizes = usize::from(u16::from_le_bytes([l0, l1]));
        let (sizes, items) = rest.split_at_checked(sizes).ok_or_else(head)?;
        let (&[i0, i1, v0, v1], _) = sizes.split_first_chunk::<4>().ok_or_else(head)?;
        match (u16::from_le_bytes([i0, i1]), u16::from_le_bytes([v0, v1])) {
            (2, 4) => {}
            (2, size) => return Err(field("value of a metric", "4", usize::from(size))),
            (size, _) => return Err(field("id of a metric", "2", usize::from(size))),
        }
        let (items, cut) = items.as_chunks();
        if cut.is_empty() { Ok(Self { items }) } else { Err(field("last metric", "6", cut.len())) }
    }

    /// The metrics in the device's order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Metric> + Clone + use<'a> {
        self.items.iter().map(|&[i0, i1, v0, v1, v2, v3]| {
            let (id, value) = (u16::from_le_bytes([i0, i1]), i32::from_le_bytes([v0, v1, v2, v3]));
            let value = if id & ERROR == 0 { Ok(value) } else { Err(value) };
            Metric { id: id & !ERROR, value }
        })
    }
}

/// Writes metrics into a slice: 7 bytes and 6 for each.
#[derive(Debug)]
pub struct MetricsWriter<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> MetricsWriter<'b> {
    /// Starts with the header.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    pub fn new(out: &'b mut [u8]) -> Result<Self, EncodeError> {
        let mut writer = Self { out, len: 0 };
        writer.put(&HEAD)?;
        Ok(writer)
    }

    /// Adds a metric.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] for an id above 32,767, [`WriteError::BufferTooSmall`]; what was written stays.
    pub fn push(&mut self, metric: Metric) -> Result<(), EncodeError> {
        if metric.id & ERROR != 0 {
            let (field, limit) = ("id of a metric", 0x7fff);
            return Err(EncodeError::TooLarge { field, limit, found: usize::from(metric.id) });
        }
        let (bit, value) = match metric.value {
            Ok(value) => (0, value),
            Err(code) => (ERROR, code),
        };
        let [i0, i1] = (metric.id | bit).to_le_bytes();
        let [v0, v1, v2, v3] = value.to_le_bytes();
        self.put(&[i0, i1, v0, v1, v2, v3])
    }

    /// The payload.
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        self.out.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let (needed, available) = (self.len + bytes.len(), self.out.len());
        self.out
            .get_mut(self.len..needed)
            .ok_or(WriteError::BufferTooSmall { needed, available })?
            .copy_from_slice(bytes);
        self.len = needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn metrics_read_and_write_the_same() {
        let bytes = hex!("00 0400 0200 0400  0100 d2ffffff  1980 60ffffff  ff7f ffffff7f");
        let metrics = [
            Metric { id: 1, value: Ok(-46) },
            Metric { id: 25, value: Err(-160) },
            Metric { id: 0x7fff, value: Ok(i32::MAX) },
        ];
        assert!(Metrics::parse(&bytes).unwrap().iter().eq(metrics));
        let mut out = [0; 25];
        let mut writer = MetricsWriter::new(&mut out).unwrap();
        metrics.iter().for_each(|metric| writer.push(*metric).unwrap());
        assert_eq!(writer.finish(), bytes);
    }

    #[test]
    fn every_cut_between_metrics_is_an_error() {
        let bytes = hex!("00 0400 0200 0400  0100 d2ffffff  1980 60ffffff");
        for len in 0..bytes.len() {
            assert_eq!(Metrics::parse(&bytes[..len]).is_ok(), matches!(len, 7 | 13), "{len}");
        }
    }

    #[test]
    fn other_sizes_are_errors_and_further_ones_are_passed_over() {
        let found = |bytes: &[u8]| match Metrics::parse(bytes) {
            Err(DecodeError::Field { field, found, .. }) => (field, found),
            other => panic!("{other:?}"),
        };
        assert_eq!(found(&hex!("00 0400 0400 0400")), ("id of a metric", 4));
        assert_eq!(found(&hex!("00 0400 0200 0800")), ("value of a metric", 8));
        assert_eq!(found(b"{}"), ("metrics header", 2));
        assert_eq!(found(b"{}    "), ("metrics header", 6));
        let longer = hex!("00 0600 0200 0400 0100  0100 05000000");
        assert!(Metrics::parse(&longer).unwrap().iter().eq([Metric { id: 1, value: Ok(5) }]));
    }

    #[test]
    fn large_ids_and_full_buffers_are_errors() {
        let mut out = [0; 12];
        let mut writer = MetricsWriter::new(&mut out).unwrap();
        let large = Metric { id: 0x8000, value: Ok(0) };
        assert!(matches!(writer.push(large), Err(EncodeError::TooLarge { limit: 0x7fff, .. })));
        let full = WriteError::BufferTooSmall { needed: 13, available: 12 };
        assert_eq!(writer.push(Metric { id: 1, value: Ok(0) }), Err(EncodeError::Write(full)));
        assert_eq!(writer.finish(), HEAD);
        assert!(MetricsWriter::new(&mut [0; 6]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_undoes_writing(
            items in proptest::collection::vec((0_u16..0x8000, any::<bool>(), any::<i32>()), 0..20),
        ) {
            let metrics: Vec<Metric> = items
                .into_iter()
                .map(|(id, fine, value)| Metric { id, value: if fine { Ok(value) } else { Err(value) } })
                .collect();
            let mut out = [0; 128];
            let mut writer = MetricsWriter::new(&mut out).unwrap();
            metrics.iter().for_each(|metric| writer.push(*metric).unwrap());
            let parsed = Metrics::parse(writer.finish()).unwrap();
            prop_assert!(parsed.iter().eq(metrics));
        }
    }
}
