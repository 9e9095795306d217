//! usbd-dfu as a device: its memory trait over 64 KiB.

use crate::ram::BASE;
use usbd_dfu::{DFUManifestationError, DFUMemError, DFUMemIO};

/// NOR flash as usbd-dfu wants it.
#[derive(Debug)]
pub struct Flash {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Manifestation was asked for.
    pub manifested: bool,
    block: Vec<u8>,
}

impl Default for Flash {
    fn default() -> Self {
        Self { bytes: vec![0x5A; 65_536], manifested: false, block: Vec::new() }
    }
}

/// Size of a page; the string below says the same.
const PAGE: usize = 1024;

fn index(address: u32) -> Result<usize, DFUMemError> {
    let at = address.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
    at.filter(|at| *at < 65_536).ok_or(DFUMemError::Address)
}

impl DFUMemIO for Flash {
    const INITIAL_ADDRESS_POINTER: u32 = BASE;
    const MEM_INFO_STRING: &'static str = "@Flash/0x08000000/64*1Kg";
    const PROGRAM_TIME_MS: u32 = 7;
    const ERASE_TIME_MS: u32 = 40;
    const FULL_ERASE_TIME_MS: u32 = 900;
    const MANIFESTATION_TOLERANT: bool = false;

    fn store_write_buffer(&mut self, src: &[u8]) -> Result<(), ()> {
        self.block = src.to_vec();
        Ok(())
    }

    fn read(&mut self, address: u32, length: usize) -> Result<&[u8], DFUMemError> {
        let at = index(address)?;
        Ok(&self.bytes[at..self.bytes.len().min(at + length)])
    }

    fn program(&mut self, address: u32, length: usize) -> Result<(), DFUMemError> {
        let at = index(address)?;
        let cells = self.bytes.get_mut(at..at + length).ok_or(DFUMemError::Address)?;
        for (cell, byte) in cells.iter_mut().zip(&self.block) {
            *cell &= byte;
        }
        if *cells == self.block[..length] { Ok(()) } else { Err(DFUMemError::Verify) }
    }

    fn erase(&mut self, address: u32) -> Result<(), DFUMemError> {
        let at = index(address)? / PAGE * PAGE;
        self.bytes[at..at + PAGE].fill(0xFF);
        Ok(())
    }

    fn erase_all(&mut self) -> Result<(), DFUMemError> {
        self.bytes.fill(0xFF);
        Ok(())
    }

    fn manifestation(&mut self) -> Result<(), DFUManifestationError> {
        self.manifested = true;
        Ok(())
    }
}
