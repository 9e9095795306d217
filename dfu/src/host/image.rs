//! Where the bytes of a download come from.

use crate::dfuse::Element;

/// Bytes by address. The machines ask for one block at a time, so that an image need not be in memory as a whole.
///
/// In plain DFU an address is the offset in the image.
pub trait Image {
    /// Fills `out` with the bytes from `address` on. Machines ask only for bytes of the spans they were planned with.
    ///
    /// # Errors
    /// [`Unreadable`] ends the job.
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable>;
}

/// The image has no byte for an address: it is another one than was planned, or its file failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image has no byte for address {address:#010x}")]
pub struct Unreadable {
    /// The address.
    pub address: u32,
}

impl Element<'_> {
    /// Copies the bytes from `address` on, as many as there are; returns their number.
    fn copy(&self, address: u32, out: &mut [u8]) -> usize {
        let offset = address.checked_sub(self.address).and_then(|offset| usize::try_from(offset).ok());
        let from = offset.and_then(|offset| self.data.get(offset..)).unwrap_or_default();
        let len = from.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        len
    }
}

impl Image for Element<'_> {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable> {
        let len = self.copy(address, out);
        let missing = u32::try_from(len).unwrap_or(u32::MAX);
        if len == out.len() { Ok(()) } else { Err(Unreadable { address: address.saturating_add(missing) }) }
    }
}

/// Elements in any order; the first one that holds an address counts.
impl Image for &[Element<'_>] {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable> {
        let (mut address, mut out) = (address, out);
        while !out.is_empty() {
            let len = self.iter().map(|element| element.copy(address, out)).find(|len| *len > 0).unwrap_or(0);
            let next = u32::try_from(len).ok().and_then(|len| address.checked_add(len));
            out = out.get_mut(len..).unwrap_or_default();
            match next {
                Some(next) if len > 0 => address = next,
                // The very last byte of the address space has no next address.
                _ if len > 0 && out.is_empty() => {}
                _ => return Err(Unreadable { address }),
            }
        }
        Ok(())
    }
}

/// A plain image: its first byte has address 0.
impl Image for &[u8] {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable> {
        Element { address: 0, data: self }.read(address, out)
    }
}

impl<I: Image + ?Sized> Image for &mut I {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read(address, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_joined_and_gaps_named() {
        let elements = [
            Element { address: 0x104, data: b"ef" },
            Element { address: 0x100, data: b"abcd" },
            Element { address: 0x108, data: b"i" },
        ];
        let mut out = [0; 6];
        assert_eq!((&elements[..]).read(0x100, &mut out), Ok(()));
        assert_eq!(&out, b"abcdef");
        assert_eq!((&elements[..]).read(0x101, &mut out), Err(Unreadable { address: 0x106 }));
        assert_eq!((&elements[..]).read(0xFF, &mut out[..1]), Err(Unreadable { address: 0xFF }));
        assert_eq!((&elements[..]).read(0x107, &mut out[..0]), Ok(()));
    }

    #[test]
    fn the_last_byte_of_the_address_space_can_be_read() {
        let elements = [Element { address: u32::MAX, data: b"z" }];
        let mut out = [0];
        assert_eq!((&elements[..]).read(u32::MAX, &mut out), Ok(()));
        assert_eq!(out, *b"z");
        let mut two = [0; 2];
        assert!((&elements[..]).read(u32::MAX, &mut two).is_err());
        assert_eq!((&b"abc"[..]).read(1, &mut two), Ok(()));
        assert_eq!(&two, b"bc");
        assert_eq!((&b"abc"[..]).read(2, &mut two), Err(Unreadable { address: 3 }));
    }
}
