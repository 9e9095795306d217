//! What a device says it has.

/// The chunks that a device has.
///
/// The bitmap has little-endian words of 32 bits. Bit 0 of the first word is the first chunk behind the acknowledged
/// ones, so it is 0; words of 0 at the end are left out.
///
/// ```
/// use spark_ota::v3::Acknowledgement;
///
/// // 1 came, 2 did not, 3 and 5 did.
/// let acknowledgement = Acknowledgement { in_order: 1, bitmap: &[0x0a, 0, 0, 0] };
/// assert!(acknowledgement.beyond().eq([3, 5]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Acknowledgement<'a> {
    /// Chunks that are there in order, so the index of the last of them.
    pub in_order: u32,
    /// Chunks behind the first gap.
    pub bitmap: &'a [u8],
}

impl<'a> Acknowledgement<'a> {
    /// The indices of the bitmap, ascending.
    pub fn beyond(&self) -> impl Iterator<Item = u32> + 'a {
        // The words are little-endian, so the bits of the bytes follow each other.
        let in_order = self.in_order;
        (0_u32..).zip(self.bitmap).flat_map(move |(at, byte)| {
            let first = at.saturating_mul(8);
            (0..8_u32)
                .filter(move |bit| byte & 1 << bit != 0)
                .map(move |bit| in_order.saturating_add(1).saturating_add(first).saturating_add(bit))
        })
    }
}
