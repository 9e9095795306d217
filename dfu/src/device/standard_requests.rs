//! Chapter 9 and Microsoft's vendor request: what a device answers besides DFU.

use super::Stall;
use crate::{
    descriptor::{self, Description, microsoft},
    request::{Direction, Kind, SetupPacket, standard},
};

/// What a request asks the machine to do beyond the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// `n` bytes of answer, nothing else.
    Answer(usize),
    /// SET_CONFIGURATION.
    Configure(u8),
    /// SET_INTERFACE with an existing alternate setting.
    Select(u8),
    /// A class request to the DFU interface: for the machine.
    Class,
}

/// Answers whatever is no DFU request. `out` is already cut to wLength.
pub(super) fn answer(
    description: &Description<'_>,
    configuration: u8,
    alternate: u8,
    max_setting: u8,
    setup: SetupPacket,
    out: &mut [u8],
) -> Result<Effect, Stall> {
    let interface = u16::from(description.interface);
    match setup.kind() {
        Kind::Class if setup.index == interface => return Ok(Effect::Class),
        Kind::Vendor if setup.request_type == 0xC0 && setup.index == microsoft::COMPATIBLE_ID_INDEX => {
            let code = description.microsoft_vendor_code.ok_or(Stall)?;
            let descriptor = microsoft::compatible_id(description.interface);
            return if setup.request == code {
                Ok(Effect::Answer(copy(&descriptor, out)))
            } else {
                Err(Stall)
            };
        }
        Kind::Standard => {}
        _ => return Err(Stall),
    }
    let [low, high] = setup.value.to_le_bytes();
    let to_interface = setup.request_type & 0x1F == 1;
    if to_interface && setup.index != interface {
        return Err(Stall);
    }
    match (setup.direction(), setup.request) {
        (Direction::In, standard::GET_DESCRIPTOR) => {
            descriptor_of(description, high, low, out).map(Effect::Answer)
        }
        (Direction::In, standard::GET_STATUS) => Ok(Effect::Answer(copy(&[u8::from(!to_interface), 0], out))),
        (Direction::In, standard::GET_CONFIGURATION) => Ok(Effect::Answer(copy(&[configuration], out))),
        (Direction::In, standard::GET_INTERFACE) if to_interface => {
            Ok(Effect::Answer(copy(&[alternate], out)))
        }
        (Direction::Out, standard::SET_CONFIGURATION) if setup.value <= 1 => Ok(Effect::Configure(low)),
        (Direction::Out, standard::SET_INTERFACE)
            if to_interface && setup.value <= u16::from(max_setting) =>
        {
            Ok(Effect::Select(low))
        }
        (Direction::Out, standard::SET_ADDRESS) if setup.value < 128 => Ok(Effect::Answer(0)),
        _ => Err(Stall),
    }
}

fn descriptor_of(description: &Description<'_>, kind: u8, index: u8, out: &mut [u8]) -> Result<usize, Stall> {
    match (kind, index) {
        (descriptor::DEVICE, 0) => Ok(copy(&description.device_descriptor(), out)),
        (descriptor::CONFIGURATION, 0) => Ok(description.configuration_prefix(out)),
        (descriptor::DFU_FUNCTIONAL, 0) => Ok(copy(description.functional.wire(&mut [0; 9]), out)),
        (descriptor::STRING, index) => description.string_prefix(index, out).ok_or(Stall),
        _ => Err(Stall),
    }
}

/// Copies as much as fits; returns the number of bytes.
pub(super) fn copy(from: &[u8], out: &mut [u8]) -> usize {
    let len = from.len().min(out.len());
    for (to, from) in out.iter_mut().zip(from) {
        *to = *from;
    }
    len
}
