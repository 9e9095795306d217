//! The flash of a simulated device: 1 MiB that is erased by sectors and written where it is erased.

use crate::exit::{Code, Failure};
use crate::files;
use sha2::{Digest, Sha256};
use spark_ota::esp8266::{
    Expectations, FlashParameters, Image, ImageBuilder, ImageError, Problem, Purpose, Slot,
};
use std::path::Path;

/// Bytes of it.
pub const SIZE: usize = 1 << 20;
const SECTOR: usize = 4096;

/// Why an image does not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// It cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It is not for this place, or damaged.
    #[error("{0}")]
    Problem(Problem),
}

/// The flash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flash(Vec<u8>);

impl Flash {
    /// As from the vendor: an image in the slot that it runs from, all else erased. Only what is looked at is there: it is no
    /// program.
    ///
    /// # Errors
    /// [`Failure`] if that image cannot be made.
    pub fn new(running: Slot) -> Result<Self, Failure> {
        let mut code = vec![7; SECTOR];
        for (at, word) in (0..200_u32).zip(code.as_chunks_mut::<4>().0) {
            *word = (running.link_address() + at * 8).to_le_bytes();
        }
        let image = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &code)
            .segments(&[(0x4010_0000, &[1; 16][..])])
            .build()
            .map_err(|error| Failure::new(Code::Software, error, "report this as a fault of the program"))?;
        let mut flash = Self(vec![0xff; SIZE]);
        flash.write(running.flash_offset(), &image);
        Ok(flash)
    }

    /// A picture that was written before.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let content = files::read_up_to(path, SIZE as u64)?;
        if content.len() != SIZE {
            return Err(Failure::new(
                Code::Data,
                format_args!("{} has {} bytes, and a flash has {SIZE}", path.display(), content.len()),
                "give a file that this command has written, or a name of none",
            ));
        }
        Ok(Self(content))
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Erases the sector at this address; `false` if there is none.
    pub fn erase(&mut self, address: u32) -> bool {
        let sector = place(address).and_then(|at| self.0.get_mut(at..)?.get_mut(..SECTOR));
        sector.map(|sector| sector.fill(0xff)).is_some()
    }

    /// Writes; `false` if there is no such place, or it is not erased.
    pub fn write(&mut self, address: u32, data: &[u8]) -> bool {
        let target = place(address).and_then(|at| self.0.get_mut(at..)?.get_mut(..data.len()));
        match target {
            Some(target) if target.iter().all(|byte| *byte == 0xff) => {
                target.copy_from_slice(data);
                true
            }
            _ => false,
        }
    }

    /// Bytes of it, as many as there are.
    #[must_use]
    pub fn part(&self, address: u32, length: u32) -> &[u8] {
        let rest = place(address).and_then(|at| self.0.get(at..)).unwrap_or_default();
        rest.get(..place(length).unwrap_or(usize::MAX)).unwrap_or(rest)
    }

    /// SHA-256 of a part.
    #[must_use]
    pub fn hash(&self, address: u32, length: u32) -> [u8; 32] {
        Sha256::digest(self.part(address, length)).into()
    }

    /// Whether the vendor's boot stage starts what is in a slot.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn boots(&self, slot: Slot) -> Result<(), BootError> {
        let length = u32::try_from(slot.usable_len()).unwrap_or(u32::MAX);
        let image = Image::parse(self.part(slot.flash_offset(), length))?;
        // What was in flash behind the image is not part of it.
        let image =
            Image::parse(self.part(slot.flash_offset(), u32::try_from(image.end()).unwrap_or(length)))?;
        let file = spark_ota::esp8266::ImageFile::Single(image);
        match file.check(&Expectations::of(Purpose::Upgrade(slot))).error() {
            Some(finding) => Err(BootError::Problem(finding.problem)),
            None => Ok(()),
        }
    }

    /// Whether the ROM starts the file of this length at the beginning of the flash.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn boots_from_start(&self, length: u32) -> Result<(), BootError> {
        let file = spark_ota::esp8266::ImageFile::parse(self.part(0, length))?;
        match file.check(&Expectations::of(Purpose::FinalStage)).error() {
            Some(finding) => Err(BootError::Problem(finding.problem)),
            None => Ok(()),
        }
    }
}

fn place(address: u32) -> Option<usize> {
    usize::try_from(address).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_only_where_it_is_erased() {
        let mut flash = Flash::new(Slot::User1).unwrap();
        assert!(flash.boots(Slot::User1).is_ok() && flash.boots(Slot::User2).is_err());
        assert!(!flash.write(0x1000, &[0xea]));
        assert!(flash.erase(0x1000) && flash.write(0x1000, &[0xea, 4]));
        assert!(!flash.write(0x0f_ffff, &[1, 2]) && flash.write(0x0f_ffff, &[1]));
        assert!(!flash.erase(0x10_0000) && !flash.write(u32::MAX, &[1]));
        assert_eq!(flash.part(0x0f_fffe, 10), [0xff, 1]);
        assert_eq!(flash.hash(0x2000_0000, 7), <[u8; 32]>::from(Sha256::digest([])));
    }

    #[test]
    fn image_of_the_other_slot_does_not_start() {
        let mut flash = Flash::new(Slot::User1).unwrap();
        let image = flash.part(0x1000, 0x2000).to_vec();
        assert!(flash.write(0x8_1000, &image));
        assert!(matches!(flash.boots(Slot::User2), Err(BootError::Problem(Problem::WrongSlot { .. }))));
        assert!(flash.boots_from_start(0x10_0000).is_err());
    }
}
