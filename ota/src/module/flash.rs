//! Checking a module where it lies in flash, without room for it in memory.

use super::prefix::Prefix;
use super::suffix::Suffix;
use super::{VECTOR_TABLE_LEN, is_stack_pointer};
use crate::checksum::Crc32;
use sha2::{Digest, Sha256};

/// Bytes of the shortest module: prefix, suffix without product fields, CRC.
const LEAST: u32 = 64;

/// Bytes read at once.
const PIECE: usize = 256;

/// Why there is no module to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError<E> {
    /// The flash could not be read.
    #[error("the flash cannot be read at {address:#010x}")]
    Read {
        /// Where the read began.
        address: u32,
        /// What the caller's function said.
        error: E,
    },
    /// What lies there cannot be a module: erased, or its length does not fit the region.
    #[error("there is no module at {address:#010x}")]
    NoModule {
        /// Where it was expected.
        address: u32,
    },
}

/// A module in flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashModule {
    /// Where its prefix begins, from the module's first byte.
    pub prefix_offset: u16,
    /// What it is.
    pub prefix: Prefix,
    /// What it ends with.
    pub suffix: Suffix,
    /// Bytes, CRC included.
    pub size: u32,
    /// CRC as stored.
    pub stored_crc: u32,
    /// CRC as it should be.
    pub computed_crc: u32,
    /// The stored SHA-256 is right. Devices do not look at it.
    pub sha256_ok: bool,
}

impl FlashModule {
    /// The module is what was built.
    #[must_use]
    pub const fn crc_ok(&self) -> bool {
        self.stored_crc == self.computed_crc
    }
}

/// Checks the module whose first byte lies at `address`, which need not be the address it was built for.
///
/// `read` fills the slice with what lies at the address; it is called with at most 256 bytes, once per 256 bytes of the
/// module, and never beyond `region_len` bytes from `address`. The prefix is where the device's own firmware looks: at
/// 0, or at [`VECTOR_TABLE_LEN`] if the first word [is a stack pointer](is_stack_pointer).
///
/// # Errors
/// [`FlashError::Read`] with the error of `read`; [`FlashError::NoModule`].
pub fn check_in_flash<E>(
    address: u32,
    region_len: u32,
    mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
) -> Result<FlashModule, FlashError<E>> {
    let mut word = [0; 4];
    if region_len >= LEAST && address.checked_add(region_len).is_some() {
        read(address, &mut word).map_err(|error| FlashError::Read { address, error })?;
    }
    let prefix_offset = if is_stack_pointer(u32::from_le_bytes(word)) { VECTOR_TABLE_LEN } else { 0 };
    check_in_flash_at(address, region_len, prefix_offset, read)
}

/// The same for a module whose prefix is known to be at `prefix_offset`: 0x200 on the third generation.
///
/// # Errors
/// [`FlashError::Read`] with the error of `read`; [`FlashError::NoModule`].
pub fn check_in_flash_at<E>(
    address: u32,
    region_len: u32,
    prefix_offset: u16,
    mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
) -> Result<FlashModule, FlashError<E>> {
    let no_module = FlashError::NoModule { address };
    if address.checked_add(region_len).is_none() {
        return Err(no_module);
    }
    let mut read = |offset: u32, out: &mut [u8]| {
        let address = address.saturating_add(offset);
        read(address, out).map_err(|error| FlashError::Read { address, error })
    };
    let least = LEAST + u32::from(prefix_offset);
    if region_len < least {
        return Err(no_module);
    }
    let mut raw = [0; Prefix::LEN];
    read(prefix_offset.into(), &mut raw)?;
    let prefix = Prefix::decode(&raw);
    let length = prefix
        .length()
        .filter(|length| *length <= region_len - 4 && *length >= least - 4)
        .ok_or(no_module)?;

    // The SHA-256 covers all but itself and the suffix's size, the CRC everything.
    let hashed = length - 34;
    let mut sha256 = Sha256::new();
    let mut crc = Crc32::new();
    let mut buffer = [0; PIECE];
    let mut offset = 0;
    while offset < length {
        let until = if offset < hashed { hashed } else { length };
        let len = usize::try_from(until - offset).map_or(PIECE, |len| len.min(PIECE));
        let Some(piece) = buffer.get_mut(..len) else { break };
        read(offset, piece)?;
        crc.update(piece);
        if offset < hashed {
            sha256.update(&*piece);
        }
        offset += u32::try_from(len).unwrap_or(until - offset);
    }
    let mut raw = [0; Suffix::LEN_WITH_PRODUCT];
    read(length - 40, &mut raw)?;
    let suffix = Suffix::decode(&raw);
    let mut word = [0; 4];
    read(length, &mut word)?;
    Ok(FlashModule {
        prefix_offset,
        prefix,
        suffix,
        size: length + 4,
        stored_crc: u32::from_be_bytes(word),
        computed_crc: crc.finish(),
        sha256_ok: suffix.sha256 == <[u8; 32]>::from(sha256.finalize()),
    })
}

#[cfg(test)]
#[cfg(feature = "alloc")]
mod tests {
    use super::*;
    use crate::module::{Module, ModuleBuilder, ModuleFunction};
    use alloc::vec;
    use alloc::vec::Vec;

    const AT: u32 = 0x080c_0000;

    fn check(flash: &[u8], region_len: u32) -> Result<FlashModule, FlashError<usize>> {
        check_in_flash(AT, region_len, |address, out| {
            assert!(out.len() <= 256);
            let start = usize::try_from(address - AT).unwrap();
            let source = flash.get(start..start + out.len()).ok_or(start)?;
            out.copy_from_slice(source);
            Ok(())
        })
    }

    fn modules() -> [Vec<u8>; 2] {
        let body: Vec<u8> = (0..1000u32).map(|at| at.to_le_bytes()[0]).collect();
        let user = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&body);
        let part = ModuleBuilder::new(6, ModuleFunction::System, 1, 6).body(&body).vector_table(0x2002_0000);
        [user.build().unwrap(), part.build().unwrap()]
    }

    #[test]
    fn module_of_the_third_generation_is_checked_where_its_prefix_is() {
        let body = [5; 900];
        let builder = ModuleBuilder::new(13, ModuleFunction::System, 1, 6).body(&body);
        let mut file = builder.vector_table_of(0x2000_8000, 0x200).build().unwrap();
        let len = u32::try_from(file.len()).unwrap();
        let look = |flash: &[u8], prefix_offset| {
            check_in_flash_at(0, len, prefix_offset, |address, out| {
                let start = usize::try_from(address).unwrap();
                out.copy_from_slice(flash.get(start..start + out.len()).ok_or(())?);
                Ok::<_, ()>(())
            })
        };
        let found = look(&file, 0x200).unwrap();
        assert!(found.crc_ok() && found.sha256_ok && found.prefix.platform_id == 13);
        assert_eq!(look(&file, 0x184), Err(FlashError::NoModule { address: 0 }));
        file[0x300] ^= 1;
        assert!(!look(&file, 0x200).unwrap().crc_ok());
    }

    #[test]
    fn flash_and_memory_see_the_same_module() {
        for file in modules() {
            let module = Module::parse(&file).unwrap();
            let mut flash = file.clone();
            flash.resize(4096, 0xff);
            let found = check(&flash, 4096).unwrap();
            assert_eq!(usize::from(found.prefix_offset), module.prefix_offset());
            assert_eq!((&found.prefix, &found.suffix), (module.prefix(), module.suffix()));
            assert_eq!(usize::try_from(found.size).unwrap(), file.len());
            assert!(found.crc_ok() && found.sha256_ok);
        }
    }

    #[test]
    fn flipped_body_bit_fails_both_checks() {
        for mut file in modules() {
            file[500] ^= 1;
            let found = check(&file, u32::try_from(file.len()).unwrap()).unwrap();
            assert!(!found.crc_ok() && !found.sha256_ok);
        }
    }

    #[test]
    fn erased_flash_and_modules_beyond_the_region_are_no_modules() {
        assert_eq!(check(&[0xff; 4096], 4096), Err(FlashError::NoModule { address: AT }));
        assert_eq!(check(&[0; 4096], 4096), Err(FlashError::NoModule { address: AT }));
        for file in modules() {
            let len = u32::try_from(file.len()).unwrap();
            assert!(check(&file, len).is_ok());
            for shorter in 0..len {
                assert_eq!(check(&file, shorter), Err(FlashError::NoModule { address: AT }));
            }
        }
    }

    #[test]
    fn read_errors_come_through_with_their_address() {
        let [file, _] = modules();
        let error = FlashError::Read { address: AT + 768, error: 768 };
        assert_eq!(check(&file[..800], 4096), Err(error));
        assert_eq!(
            check_in_flash(u32::MAX, 64, |_, _| Ok::<(), ()>(())),
            Err(FlashError::NoModule { address: u32::MAX })
        );
    }

    #[test]
    fn any_start_of_flash_is_judged_without_panic() {
        for first in [0, 0x2002_0000u32, u32::MAX] {
            for length in [0u32, 59, 60, 61, 4092, 4093, u32::MAX] {
                let mut flash = vec![0; 4096];
                flash[..4].copy_from_slice(&first.to_le_bytes());
                for at in [0, 0x184] {
                    flash[at + 4..at + 8].copy_from_slice(&first.wrapping_add(length).to_le_bytes());
                }
                let _ = check(&flash, 4096);
            }
        }
    }
}
