//! Files for the beginning of the flash that hold two images, and files of any layout.

use super::MAGIC_V1;
use super::header::FlashParameters;
use super::view::{Format, Image, ImageError};

/// A boot stub and the program that it starts, as Arduino builds them: a small v1 image at 0, and an image at
/// [`APPLICATION_OFFSET`](Self::APPLICATION_OFFSET). The ROM reads the flash as the stub's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WholeFlash<'a> {
    stub: Image<'a>,
    application: Image<'a>,
}

impl<'a> WholeFlash<'a> {
    /// Where the application begins: the second sector.
    pub const APPLICATION_OFFSET: usize = 0x1000;

    /// Reads both images; `None` if the file does not have this layout.
    ///
    /// # Errors
    /// [`ImageError`] if there is a whole stub and the beginning of an application, but no whole one.
    pub fn parse(file: &'a [u8]) -> Result<Option<Self>, ImageError> {
        let Some((first_sector, rest)) = file.split_at_checked(Self::APPLICATION_OFFSET) else {
            return Ok(None);
        };
        if first_sector.first() != Some(&MAGIC_V1) || !rest.first().is_some_and(is_magic) {
            return Ok(None);
        }
        let Ok(stub) = Image::parse(first_sector) else { return Ok(None) };
        let application = Image::parse_at(file, Self::APPLICATION_OFFSET)?;
        Ok(Some(Self { stub, application }))
    }

    /// The boot stub.
    #[must_use]
    pub const fn stub(&self) -> &Image<'a> {
        &self.stub
    }

    /// The program. Offsets in it count from the beginning of the file.
    #[must_use]
    pub const fn application(&self) -> &Image<'a> {
        &self.application
    }
}

fn is_magic(byte: &u8) -> bool {
    matches!(*byte, MAGIC_V1 | super::MAGIC_V2)
}

/// A file of any layout.
///
/// ```
/// use spark_ota::esp8266::{Expectations, ImageError, ImageFile, Purpose, Severity, Slot};
///
/// # fn show(file: &[u8]) -> Result<(), ImageError> {
/// let expectations = Expectations::of(Purpose::Upgrade(Slot::User2));
/// for finding in ImageFile::parse(file)?.check(&expectations) {
///     let word = if finding.severity == Severity::Error { "refused" } else { "doubtful" };
///     println!("{word}: {}", finding.problem);
/// }
/// # Ok(())
/// # }
/// assert_eq!(show(b""), Err(ImageError::Empty));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ImageFile<'a> {
    /// One image.
    Single(Image<'a>),
    /// A boot stub and a program.
    WholeFlash(WholeFlash<'a>),
}

impl<'a> ImageFile<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        match WholeFlash::parse(file)? {
            Some(both) => Ok(Self::WholeFlash(both)),
            None => Image::parse(file).map(Self::Single),
        }
    }

    /// The image whose header the ROM or the boot stage goes by.
    #[must_use]
    pub const fn image(&self) -> &Image<'a> {
        match self {
            Self::Single(image) | Self::WholeFlash(WholeFlash { stub: image, .. }) => image,
        }
    }

    /// The image that holds the program.
    #[must_use]
    pub const fn program(&self) -> &Image<'a> {
        match self {
            Self::Single(image) | Self::WholeFlash(WholeFlash { application: image, .. }) => image,
        }
    }

    /// How the flash is read.
    #[must_use]
    pub const fn parameters(&self) -> FlashParameters {
        self.image().parameters()
    }

    /// Format of the image that the file begins with.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.image().format()
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> usize {
        self.program().end().saturating_add(self.program().trailing().len())
    }

    /// Never: no file of these layouts has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
