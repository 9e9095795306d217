//! Writes to the configuration table end with its fields: what devices do with longer ones costs data.

use super::candidate::Candidate;
use super::options::DfuseTarget;
use crate::exit::{Code, Failure};
use spark_dct::app;
use spark_dct::segment::Platform;
use spark_dct::wiced::Generation;
use spark_dfu::host::Span;

/// Refuses what would end behind the last field, if that memory is the configuration table of a Particle device.
///
/// The device checks where a block starts, and stores the blocks before the one that it refuses.
pub(super) fn check(device: &Candidate, alternate: u8, spans: &[Span]) -> Result<(), Failure> {
    let Some(platform) = Platform::from_usb_id(device.id_vendor, device.id_product) else { return Ok(()) };
    let end = spans.iter().map(|span| span.end()).max().unwrap_or(0);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    if !platform.is_table(alternate) || end <= app::LEN {
        return Ok(());
    }
    let name = device.memory(alternate).map_or("", |memory| &memory.name);
    let target = DfuseTarget { alternate, name };
    let mut what = format!(
        "alternate setting {target}: the write ends at byte {end} of the configuration table, whose fields end at {}",
        app::LEN
    );
    if matches!(platform, Platform::Photon | Platform::P1) {
        what += &format!(
            "; a device before v0.7.0 {}, a newer one {}",
            Generation::V0_4_4.consequence(end),
            Generation::V0_7_0.consequence(end)
        );
    }
    let next = "nothing was written; give less, or a lower address: `spark dfu upload -a 1 -s 0:8391 FILE` saves a table as it can be written";
    Err(Failure::new(Code::Usage, what, next))
}
