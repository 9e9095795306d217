//! Walking the configuration descriptor of a foreign device.

use super::{
    CONFIGURATION, DFU_FUNCTIONAL, DescriptorError, FunctionalDescriptor, FunctionalDescriptorView, INTERFACE,
};
use crate::quirk::{Protocol, Quirks};

/// A configuration descriptor with the descriptors after it.
///
/// The work of every walk is bounded by the length of the input: a descriptor of length 0 or 1, or one that runs past
/// the end, ends the walk.
///
/// ```
/// use spark_dfu::descriptor::{Configuration, Description, Mode};
/// let mut bytes = [0; 64];
/// let bytes = Description::photon("1").configuration_descriptor(&mut bytes)?;
/// let configuration = Configuration::parse(bytes)?;
/// let dct = configuration.alternates().find(|a| a.setting == 1).ok_or("no DCT")?;
/// assert_eq!((dct.interface, dct.string_index, dct.mode), (0, 7, Mode::Dfu));
/// assert_eq!(configuration.functional_descriptor().map(|d| d.transfer_size), Some(4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// USB 2.0, section 9.6.3; USB DFU 1.1, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration<'a> {
    header: &'a [u8; 9],
    body: &'a [u8],
    complete: bool,
}

impl<'a> Configuration<'a> {
    /// Reads the nine-byte header; what follows is looked at by the iterators only.
    ///
    /// # Errors
    /// [`DescriptorError`] if the header is short or of another type.
    pub fn parse(input: &'a [u8]) -> Result<Self, DescriptorError> {
        let Some((header, _)) = input.split_first_chunk::<9>() else {
            return Err(DescriptorError::Truncated { offset: 0, needed: 9, available: input.len() });
        };
        let [length, found, t0, t1, ..] = *header;
        if found != CONFIGURATION {
            return Err(DescriptorError::Type { expected: CONFIGURATION, found });
        }
        if length < 9 {
            return Err(DescriptorError::Length { offset: 0, length });
        }
        let total = usize::from(u16::from_le_bytes([t0, t1]));
        let all = input.get(..total).unwrap_or(input);
        let body = all.get(usize::from(length)..).unwrap_or_default();
        Ok(Self { header, body, complete: input.len() >= total })
    }

    /// `wTotalLength`: ask for this many bytes.
    #[must_use]
    pub const fn total_len(&self) -> u16 {
        u16::from_le_bytes([self.header[2], self.header[3]])
    }

    /// `bConfigurationValue`.
    #[must_use]
    pub const fn value(&self) -> u8 {
        self.header[5]
    }

    /// Whether the input holds `wTotalLength` bytes.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The descriptors after the header.
    #[must_use]
    pub const fn descriptors(&self) -> RawDescriptors<'a> {
        RawDescriptors { rest: self.body, offset: self.header[0] as usize }
    }

    /// The alternate settings of all DFU interfaces, run-time and DFU mode.
    ///
    /// Protocol 0 with bcdDFUVersion 0x011A counts as DFU mode (DSO Nano). Malformed descriptors end the list.
    #[must_use]
    pub fn alternates(&self) -> Alternates<'a> {
        self.alternates_with(&Quirks::NONE)
    }

    /// [`alternates`](Self::alternates) of a device whose bInterfaceProtocol may be wrong.
    #[must_use]
    pub fn alternates_with(&self, quirks: &Quirks) -> Alternates<'a> {
        let dfuse = self
            .functional_descriptor()
            .is_some_and(|d| d.dfu_version == FunctionalDescriptor::DFUSE_VERSION);
        let single = self.header[4] == 1;
        let zero_is_dfu = dfuse || single && quirks.protocol == Protocol::ZeroIsDfuModeIfSingle;
        let one_is_dfu = quirks.protocol == Protocol::OneIsDfuMode;
        Alternates { descriptors: self.descriptors(), zero_is_dfu, one_is_dfu }
    }

    /// The first functional descriptor that follows a DFU interface or stands before all interfaces.
    #[must_use]
    pub fn functional_descriptor(&self) -> Option<FunctionalDescriptor> {
        let mut in_dfu = true;
        for descriptor in self.descriptors().map_while(Result::ok) {
            match descriptor.kind {
                INTERFACE => in_dfu = matches!(*descriptor.bytes, [_, _, _, _, _, 0xFE, 0x01, ..]),
                DFU_FUNCTIONAL if in_dfu => {
                    if let Ok((view, _)) = FunctionalDescriptorView::parse_prefix(descriptor.bytes) {
                        return Some(view.to_value());
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Run-time or DFU mode, from `bInterfaceProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "DFU 1.1 knows these two")]
pub enum Mode {
    /// The application runs; DETACH leads to DFU mode.
    Runtime,
    /// The device is in DFU mode.
    Dfu,
}

/// One alternate setting of a DFU interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(
    clippy::exhaustive_structs,
    reason = "the fields of an interface descriptor that differ between alternates"
)]
pub struct Alternate {
    /// `bInterfaceNumber`: the `wIndex` of all requests.
    pub interface: u8,
    /// `bAlternateSetting`.
    pub setting: u8,
    /// `iInterface`: index of the memory-layout string, 0 if there is none.
    pub string_index: u8,
    /// Run-time or DFU mode.
    pub mode: Mode,
}

/// Iterator of [`Configuration::alternates`].
#[derive(Debug, Clone)]
pub struct Alternates<'a> {
    descriptors: RawDescriptors<'a>,
    zero_is_dfu: bool,
    one_is_dfu: bool,
}

impl Iterator for Alternates<'_> {
    type Item = Alternate;

    fn next(&mut self) -> Option<Alternate> {
        loop {
            let descriptor = self.descriptors.next()?.ok()?;
            if descriptor.kind != INTERFACE {
                continue;
            }
            let &[_, _, interface, setting, _, 0xFE, 0x01, protocol, string_index, ..] = descriptor.bytes
            else {
                continue;
            };
            let mode = match protocol {
                1 if self.one_is_dfu => Mode::Dfu,
                1 => Mode::Runtime,
                2 => Mode::Dfu,
                0 if self.zero_is_dfu => Mode::Dfu,
                _ => continue,
            };
            return Some(Alternate { interface, setting, string_index, mode });
        }
    }
}

/// One descriptor of a list, not interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a slice and two of its facts")]
pub struct RawDescriptor<'a> {
    /// Where it starts in the input of [`Configuration::parse`].
    pub offset: usize,
    /// `bDescriptorType`.
    pub kind: u8,
    /// All its `bLength` bytes, header included.
    pub bytes: &'a [u8],
}

/// Iterator of [`Configuration::descriptors`]; ends after the first error.
#[derive(Debug, Clone)]
pub struct RawDescriptors<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for RawDescriptors<'a> {
    type Item = Result<RawDescriptor<'a>, DescriptorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let available = self.rest.len();
        let (length, kind) = match *self.rest {
            [] => return None,
            [_] => {
                self.rest = &[];
                return Some(Err(DescriptorError::Truncated { offset, needed: 2, available }));
            }
            [length, kind, ..] => (length, kind),
        };
        if length < 2 {
            self.rest = &[];
            return Some(Err(DescriptorError::Length { offset, length }));
        }
        let needed = usize::from(length);
        let Some((bytes, rest)) = self.rest.split_at_checked(needed) else {
            self.rest = &[];
            return Some(Err(DescriptorError::Truncated { offset, needed, available }));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(needed);
        Some(Ok(RawDescriptor { offset, kind, bytes }))
    }
}

impl core::iter::FusedIterator for RawDescriptors<'_> {}
impl core::iter::FusedIterator for Alternates<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use hex_literal::hex;
    use proptest::prelude::*;

    const COMPOSITE: [u8; 45] = hex!(
        "09 02 2D00 02 01 00 80 32"
        "09 04 00 00 00 FF 00 00 00"
        "09 21 00 0000 0000 1101" // a HID descriptor has type 0x21, too
        "09 04 01 00 00 FE 01 01 04"
        "09 21 0D E803 0004 1001"
    );

    #[test]
    fn dfu_interface_of_a_composite_device_is_found() {
        let configuration = Configuration::parse(&COMPOSITE).unwrap();
        let found: Vec<_> = configuration.alternates().collect();
        assert_eq!(found, [Alternate { interface: 1, setting: 0, string_index: 4, mode: Mode::Runtime }]);
        assert_eq!(configuration.functional_descriptor().unwrap().transfer_size, 1024);
        assert_eq!(configuration.descriptors().count(), 4);
    }

    #[test]
    fn a_descriptor_of_length_zero_ends_the_walk() {
        let bytes = hex!("09 02 0D00 01 01 00 80 32  00 04 00 00");
        let configuration = Configuration::parse(&bytes).unwrap();
        let all: Vec<_> = configuration.descriptors().collect();
        assert_eq!(all, [Err(DescriptorError::Length { offset: 9, length: 0 })]);
        assert_eq!(configuration.alternates().count(), 0);
    }

    #[test]
    fn protocol_zero_counts_as_dfu_mode_only_with_dfuse() {
        let mut bytes =
            hex!("09 02 1B00 01 01 00 80 32  09 04 00 00 00 FE 01 00 02  09 21 0B FF00 0004 1A01");
        assert_eq!(Configuration::parse(&bytes).unwrap().alternates().next().unwrap().mode, Mode::Dfu);
        bytes[25] = 0x10;
        assert_eq!(Configuration::parse(&bytes).unwrap().alternates().next(), None);
    }

    #[test]
    fn wrong_protocols_are_known_by_the_device() {
        let mut bytes =
            hex!("09 02 1B00 01 01 00 80 32  09 04 00 00 00 FE 01 01 02  09 21 0B FF00 0004 0001");
        let mode = |bytes: &[u8], ids: (u16, u16)| {
            let quirks = Quirks::of(ids.0, ids.1, 0);
            Configuration::parse(bytes).unwrap().alternates_with(&quirks).next().map(|found| found.mode)
        };
        let (lpc, jabra, other) = ((0x1FC9, 0x000C), (0x0B0E, 0x0412), (0x1234, 0x5678));
        assert_eq!(mode(&bytes, lpc), Some(Mode::Dfu));
        assert_eq!(mode(&bytes, jabra), Some(Mode::Runtime));
        assert_eq!(mode(&bytes, other), Some(Mode::Runtime));
        bytes[16] = 0;
        assert_eq!(mode(&bytes, jabra), Some(Mode::Dfu));
        assert_eq!(mode(&bytes, other), None);
        // A Jabra with more interfaces is in run-time mode, where protocol 0 means nothing.
        bytes[4] = 2;
        assert_eq!(mode(&bytes, jabra), None);
    }

    #[test]
    fn truncations_and_bit_flips_never_panic_and_never_run_on() {
        for len in 0..=COMPOSITE.len() {
            match Configuration::parse(&COMPOSITE[..len]) {
                Err(_) => assert!(len < 9),
                Ok(configuration) => {
                    assert_eq!(configuration.is_complete(), len == COMPOSITE.len());
                    assert!(configuration.descriptors().count() <= 5);
                    assert!(configuration.alternates().count() <= 1);
                }
            }
        }
        for bit in 0..COMPOSITE.len() * 8 {
            let mut flipped = COMPOSITE;
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(configuration) = Configuration::parse(&flipped) {
                assert!(configuration.descriptors().count() <= COMPOSITE.len());
                let _ = (configuration.alternates().count(), configuration.functional_descriptor());
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_walk(bytes: Vec<u8>) {
            if let Ok(configuration) = Configuration::parse(&bytes) {
                prop_assert!(configuration.descriptors().count() <= bytes.len());
            }
        }
    }
}
