//! Changing how the flash is read.

use super::digest::Sha256Text;
use super::header::{FlashFrequency, FlashMode, FlashParameters, FlashSize};
use super::problem::Problem;
use super::view::{ImageError, Style, crc_trailer};
use super::whole_flash::ImageFile;

/// New flash parameters for a finished image. What is `None` stays.
///
/// | image | bytes that change | besides |
/// |---|---|---|
/// | v1, or a boot stub and its application | 2 and 3 of the first header | |
/// | v2 | 2 and 3 of both headers | the CRC trailer, if there is one |
/// | v2 of the SDK's generator | 2 and 3 of the second header | the CRC trailer |
///
/// The checksum covers no header, so it stays as it is.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_ota::esp8266::{FlashMode, FlashParameters, Image, ImageBuilder, Patch};
///
/// let qio = FlashParameters { mode: FlashMode::Qio, ..FlashParameters::SONOFF };
/// let mut file = ImageBuilder::v2(qio, 0x4010_0004, &[7; 100]).segments(&[(0x4010_0000, b"code")]).build()?;
///
/// let patched = Patch::DOUT.apply(&mut file)?;
/// assert_eq!(patched.changes().map(|change| change.offset).take(2).collect::<Vec<_>>(), [2, 130]);
/// let image = Image::parse(&file)?;
/// assert_eq!((image.parameters(), image.crc_ok()), (FlashParameters::SONOFF, Some(true)));
/// # }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Patch {
    /// New mode.
    pub mode: Option<FlashMode>,
    /// New size.
    pub size: Option<FlashSize>,
    /// New frequency.
    pub frequency: Option<FlashFrequency>,
}

/// Why an image is not patched. Nothing was changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// It is no image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Something is wrong with it already, which a new CRC and a new digest would hide.
    #[error("the image is damaged: {0}")]
    Damaged(Problem),
    /// In an image of the SDK's generator, these parameters are the bytes by which its style is recognised.
    #[error(
        "with {parameters} both headers would be equal, and nobody could tell the slot's number from flash parameters"
    )]
    Ambiguous {
        /// What they would be.
        parameters: FlashParameters,
    },
}

/// One byte that was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Change {
    /// Where, from the beginning of the file.
    pub offset: usize,
    /// What it was.
    pub before: u8,
    /// What it is.
    pub after: u8,
}

/// What was done to an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Patched {
    /// How the flash was read.
    pub before: FlashParameters,
    /// How it is read.
    pub after: FlashParameters,
    /// The CRC trailer as it was and as it is; `None` if there is none.
    pub crc: Option<(u32, u32)>,
    /// Digest of the file as it is now, for the list of an `upgrade` message.
    pub sha256: Sha256Text,
    changes: [Option<Change>; 8],
}

impl Patched {
    /// The bytes that are different, in order: at most eight.
    pub fn changes(&self) -> impl Iterator<Item = Change> + Clone + use<> {
        self.changes.into_iter().flatten()
    }
}

impl Patch {
    /// The mode that needs the fewest lines.
    pub const DOUT: Self = Self { mode: Some(FlashMode::Dout), size: None, frequency: None };

    /// What the parameters become.
    #[must_use]
    pub fn applied_to(&self, parameters: FlashParameters) -> FlashParameters {
        FlashParameters {
            mode: self.mode.unwrap_or(parameters.mode),
            size: self.size.unwrap_or(parameters.size),
            frequency: self.frequency.unwrap_or(parameters.frequency),
        }
    }

    /// Patches the file in memory. Bytes behind the image stay.
    ///
    /// # Errors
    /// [`PatchError`]; the file is then as it was.
    pub fn apply(&self, file: &mut [u8]) -> Result<Patched, PatchError> {
        let parsed = ImageFile::parse(file)?;
        let image = *parsed.image();
        for image in [&image, parsed.program()] {
            image.error().map_or(Ok(()), |problem| Err(PatchError::Damaged(problem)))?;
        }
        let before = image.parameters();
        let after = self.applied_to(before);
        let new = after.to_bytes();
        let sdk = matches!(image.style(), Some(Style::Sdk(_)));
        if sdk && image.first_header().parameters.to_bytes() == new {
            return Err(PatchError::Ambiguous { parameters: after });
        }
        let (start, header_offset, end) = (image.start(), image.header_offset(), image.end());
        let stored_crc = image.stored_crc();

        let mut log = Log { file, changes: [None; 8], used: 0 };
        if start != header_offset && !sdk {
            log.write(start.saturating_add(2), &new);
        }
        log.write(header_offset.saturating_add(2), &new);
        let crc = stored_crc.map(|stored| {
            let at = end.saturating_sub(4);
            let crc = crc_trailer(log.file.get(start..at).unwrap_or_default());
            log.write(at, &crc.to_le_bytes());
            (stored, crc)
        });
        let Log { file, changes, .. } = log;
        Ok(Patched { before, after, crc, sha256: Sha256Text::of(file), changes })
    }
}

/// Writes, and keeps what was different.
struct Log<'f> {
    file: &'f mut [u8],
    changes: [Option<Change>; 8],
    used: usize,
}

impl Log<'_> {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let places = self.file.get_mut(offset..).unwrap_or_default();
        for ((offset, place), &after) in (offset..).zip(places).zip(bytes) {
            let before = core::mem::replace(place, after);
            if before != after
                && let Some(change) = self.changes.get_mut(self.used)
            {
                *change = Some(Change { offset, before, after });
                self.used += 1;
            }
        }
    }
}
