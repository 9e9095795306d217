//! What devices take, by firmware generation.

use crate::message::Hello;

/// Sizes that a device's firmware takes, in bytes.
///
/// | | Core | Photon, P1 to 0.7.0 | since 0.8.0 |
/// |---|---|---|---|
/// | function and variable names | 12 | 12 | 64 |
/// | function argument | 63 | 63 | 622 |
/// | event name | 63 | 63 | 64 |
/// | event data | 255 | 255 | 622 |
/// | subscription filter | 63 | 63 | 63 |
/// | ciphertext of a frame to the device | 624 | 768 | 768 |
///
/// # Source
/// device-os@v0.4.9 to v2.3.1: `communication/src/spark_protocol.h`, `protocol_defs.h`, `events.h`; the limits of event
/// names and data were seen by running 0.4.9, 0.6.1, 0.7.0 and 2.3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Name of a function.
    pub function_name: u16,
    /// Argument of a function. Old firmware answers a longer one with 4.00 and calls the function all the same.
    pub function_argument: u16,
    /// Name of a variable; old firmware cuts longer ones.
    pub variable_name: u16,
    /// Name of an event; firmware cuts longer ones.
    pub event_name: u16,
    /// Data of an event; firmware cuts longer ones.
    pub event_data: u16,
    /// Prefix of a subscription.
    pub subscription: u16,
    /// Ciphertext of a frame from the server, a multiple of 16.
    pub frame: u16,
}

impl Limits {
    /// Photon and P1 with Device OS 0.4.9 to 0.7.0.
    pub const V0_7_0: Self = Self {
        function_name: 12,
        function_argument: 63,
        variable_name: 12,
        event_name: 63,
        event_data: 255,
        subscription: 63,
        frame: 768,
    };

    /// Every Core: the reply has to fit behind the request in a buffer of 640 bytes.
    pub const CORE: Self = Self { frame: 624, ..Self::V0_7_0 };

    /// Photon and P1 with Device OS 0.8.0 to 2.3.1.
    pub const V0_8_0: Self = Self {
        function_name: 64,
        function_argument: 622,
        variable_name: 64,
        event_name: 64,
        event_data: 622,
        subscription: 63,
        frame: 768,
    };

    /// The limits of the device that said this: a Core has platform 0, and firmware since 0.8.0 sets flags beside the
    /// first.
    #[must_use]
    pub fn of_hello(hello: &Hello) -> Self {
        match (hello.platform_id, hello.flags) {
            (Some(0), _) => Self::CORE,
            (_, Some(flags)) if flags.0 & !1 != 0 => Self::V0_8_0,
            _ => Self::V0_7_0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HelloFlags;

    #[test]
    fn limits_follow_platform_and_flags() {
        let hello = |flags, platform| Hello::new(platform, 1, HelloFlags(flags), platform);
        assert_eq!(Limits::of_hello(&hello(0, 0)), Limits::CORE);
        assert_eq!(Limits::of_hello(&hello(1, 6)), Limits::V0_7_0);
        assert_eq!(Limits::of_hello(&hello(2, 6)), Limits::V0_8_0);
        assert_eq!(Limits::of_hello(&hello(0x16, 8)), Limits::V0_8_0);
        assert_eq!(
            Limits::of_hello(&Hello::default()),
            Limits::V0_7_0,
            "an empty Hello is treated with care"
        );
    }
}
