//! The configuration table in flash: `spark-dct` decides, the chip executes.

use crate::flash::{Flash, FlashError};
use spark_dct::wiced::{
    APP_AREA, APP_OFFSET, FlashOp, Generation, Header, Initialise, SECTOR_ADDRESSES, SECTOR_SIZE, SectorId,
    SectorMut, SectorView, Sectors, WifiConfigMut, Write, WriteError,
};
use std::borrow::Cow;

/// Why the table could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The flash refused.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// The write does not fit the table.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A copy of the application section of the current sector, as this firmware generation selects it.
///
/// Flash without a valid table reads as erased.
#[must_use]
pub fn read(flash: &Flash, generation: Generation) -> Vec<u8> {
    let pair = pair(flash);
    Sectors::from_slice(&pair)
        .and_then(|sectors| sectors.app(generation))
        .map_or_else(|| vec![0xff; APP_AREA], <[u8]>::to_vec)
}

/// Makes a default table if there is none, as firmware does when it selects one.
///
/// # Errors
/// [`ConfigError`].
pub fn initialise(flash: &mut Flash, generation: Generation) -> Result<(), ConfigError> {
    let valid =
        Sectors::from_slice(&pair(flash)).is_some_and(|sectors| sectors.current(generation).is_some());
    if valid {
        return Ok(());
    }
    let mut job = Initialise::new(generation);
    while let Some(op) = job.next_op() {
        execute(flash, &op)?;
    }
    Ok(())
}

/// Writes bytes at an offset of the application section.
///
/// # Errors
/// [`ConfigError`]; after a power cut the table holds what the generation's order of operations leaves.
pub fn write(
    flash: &mut Flash,
    generation: Generation,
    offset: usize,
    data: &[u8],
) -> Result<(), ConfigError> {
    initialise(flash, generation)?;
    let before = pair(flash).into_owned();
    let Some(sectors) = Sectors::from_slice(&before) else {
        return Err(WriteError::NoCurrentSector.into());
    };
    let mut job = Write::new(sectors, generation, offset, data)?;
    while let Some(op) = job.next_op() {
        execute(flash, &op)?;
    }
    Ok(())
}

/// Shows the current sector, as this firmware generation selects it; `None` without a valid table.
pub fn view<T>(flash: &Flash, generation: Generation, look: impl FnOnce(SectorView<'_>) -> T) -> Option<T> {
    let pair = pair(flash);
    let sectors = Sectors::from_slice(&pair)?;
    Some(look(SectorView::new(sectors.sector(sectors.current(generation)?))))
}

/// Changes the Wi-Fi configuration, in the order of operations in which the generation writes anything.
///
/// # Errors
/// [`ConfigError`].
pub fn write_wifi(
    flash: &mut Flash,
    generation: Generation,
    change: impl FnOnce(&mut WifiConfigMut<'_>),
) -> Result<(), ConfigError> {
    initialise(flash, generation)?;
    let before = pair(flash).into_owned();
    let no_sector = || ConfigError::from(WriteError::NoCurrentSector);
    let sectors = Sectors::from_slice(&before).ok_or_else(no_sector)?;
    let from = sectors.current(generation).ok_or_else(no_sector)?;
    let mut changed = *sectors.sector(from);
    let mut editor = SectorMut::new(&mut changed);
    change(&mut editor.wifi_config());
    editor.seal();
    if generation == Generation::V0_7_0 {
        // A write of one byte that stays as it is takes all the others along.
        let other = sectors.sector(from.other());
        let with_change = match from {
            SectorId::Dct1 => Sectors::new(&changed, other),
            SectorId::Dct2 => Sectors::new(other, &changed),
        };
        let byte = [changed[APP_OFFSET]];
        let mut job = Write::new(with_change, generation, 0, &byte)?;
        while let Some(op) = job.next_op() {
            execute(flash, &op)?;
        }
        return Ok(());
    }
    let header = Header::of_sector(&changed).for_write(0);
    let sector = from.other();
    for op in [
        FlashOp::Erase { sector },
        FlashOp::Program { sector, offset: Header::LEN, data: &changed[Header::LEN..] },
        FlashOp::Program { sector, offset: 0, data: header.as_bytes() },
        FlashOp::Erase { sector: from },
    ] {
        execute(flash, &op)?;
    }
    Ok(())
}

fn execute(flash: &mut Flash, op: &FlashOp<'_>) -> Result<(), FlashError> {
    match op {
        FlashOp::Erase { sector } => flash.erase_sector(SECTOR_ADDRESSES[sector.index()]),
        FlashOp::Program { sector, offset, data } => {
            let offset = u32::try_from(*offset).unwrap_or(u32::MAX);
            flash.program(SECTOR_ADDRESSES[sector.index()].saturating_add(offset), data)
        }
        other => unreachable!("spark-dct has no other operation: {other:?}"),
    }
}

/// Both sectors, one behind the other.
fn pair(flash: &Flash) -> Cow<'_, [u8]> {
    flash.read(SECTOR_ADDRESSES[0], 2 * SECTOR_SIZE).unwrap_or_default()
}
