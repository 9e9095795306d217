//! Files: the suffix and the prefixes of plain DFU files, and DfuSe files.
//!
//! [`recognise`] says what a file in memory is. For a file too large for that, feed [`suffix::SuffixDigest`] and
//! [`dfuse::Reader`] at the same time.

pub mod dfuse;
pub mod prefix;
pub mod suffix;

use dfuse::{DfuSeError, DfuSeFile, PREFIX_LEN, SIGNATURE, TARGET_SIGNATURE};
use suffix::{DFUSE_VERSION, SuffixError, SuffixedFile};

/// What a file is, as far as its bytes tell.
///
/// Send a file raw to a device only if it is [`Kind::Raw`] and a person said so, or [`Kind::Plain`] and its ids
/// [match](suffix::Suffix::matches). The others are damaged or meant for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// Nothing that is known here. Compilers emit such files, and a text is one, too.
    Raw {
        /// Why it has no suffix.
        reason: SuffixError,
    },
    /// A plain file with a suffix that verifies.
    Plain(SuffixedFile<'a>),
    /// It has a suffix, and one of the two is damaged.
    PlainDamaged {
        /// The damage.
        reason: SuffixError,
    },
    /// The suffix verifies and says DfuSe, but nothing of the content is DfuSe. dfu-util refuses it for a DfuSe device.
    PlainSaysDfuSe(SuffixedFile<'a>),
    /// A DfuSe file.
    DfuSe(DfuSeFile<'a>),
    /// A DfuSe file with a fault. dfu-util writes one whose checksum is wrong raw, with all headers, into the flash.
    DfuSeDamaged {
        /// The fault.
        reason: DfuSeError,
    },
}

/// Says what a file is.
///
/// It counts as DfuSe, perhaps damaged, if it starts with "DfuSe", or if its suffix verifies with `bcdDFU` 0x011A and
/// "Target" stands where the first target begins.
///
/// ```
/// use spark_dfu::file::{Kind, recognise, suffix::Suffix};
/// assert!(matches!(recognise(b"DfuSe, cut off"), Kind::DfuSeDamaged { .. }));
/// let mut out = [0; 20];
/// let file = Suffix::ANY_DEVICE.append_into(b"code", &mut out)?;
/// assert!(matches!(recognise(file), Kind::Plain(_)));
/// assert!(matches!(recognise(b"code"), Kind::Raw { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn recognise(file: &[u8]) -> Kind<'_> {
    let suffixed = SuffixedFile::parse(file);
    let says_dfuse = matches!(&suffixed, Ok(file) if file.suffix().bcd_dfu == DFUSE_VERSION);
    let has_target = file.get(PREFIX_LEN..).is_some_and(|targets| targets.starts_with(&TARGET_SIGNATURE));
    if file.starts_with(&SIGNATURE) || says_dfuse && has_target {
        return match DfuSeFile::parse(file) {
            Ok(file) => Kind::DfuSe(file),
            Err(reason) => Kind::DfuSeDamaged { reason },
        };
    }
    match suffixed {
        Ok(file) if says_dfuse => Kind::PlainSaysDfuSe(file),
        Ok(file) => Kind::Plain(file),
        Err(reason) if reason.is_damage() => Kind::PlainDamaged { reason },
        Err(reason) => Kind::Raw { reason },
    }
}
