//! The bootloader's mirrors of button and LEDs: made for one microcontroller, with pointers in them. Copy them verbatim; only
//! whether they are valid can be told anywhere.

use crate::layout::Span;

const fn span(name: &'static str, offset: usize, len: usize) -> Span {
    Span { name, offset, len }
}

/// View of the `mode_button_mirror` field (32 bytes, v0.6.1).
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | AA when active |
/// | 4 | 4 | pointer to the port |
/// | 16 | 2 | BBCC when valid, little-endian |
/// | others | | pins, modes and interrupts |
///
/// # Source
/// `device-os@v0.6.1..v2.3.1`: `hal_button_config_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ButtonMirror<'a> {
    raw: &'a [u8; 32],
}

impl<'a> ButtonMirror<'a> {
    /// The members of the record under the names of the firmware's header; gaps are padding.
    pub const LAYOUT: [Span; 13] = [
        span("active", 0, 1),
        span("port", 4, 4),
        span("pin", 8, 2),
        span("hal_pin", 10, 2),
        span("interrupt_mode", 12, 2),
        span("pupd", 14, 1),
        span("debounce_time", 16, 2),
        span("exti_line", 18, 2),
        span("exti_port_source", 20, 2),
        span("exti_pin_source", 22, 2),
        span("exti_irqn", 24, 2),
        span("exti_irq_prio", 26, 2),
        span("exti_trigger", 28, 1),
    ];

    /// Looks at the bytes of the field; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; 32]) -> Self {
        Self { raw }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; 32] {
        self.raw
    }

    /// Whether the bootloader uses the record: `active` is AA and `debounce` is BBCC.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.raw[0] == 0xAA && u16::from_le_bytes([self.raw[16], self.raw[17]]) == 0xBBCC
    }
}

/// View of one of the four records of `led_mirror` (24 bytes each, v0.6.1).
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | version; FF = unset |
/// | 4 | 4 | pointer to the port |
/// | 16 | 4 | pointer to the timer |
/// | 22 | 1 | flags: bit 0 active, 1 pin of the HAL, 2 inverted, 3 PWM |
/// | others | | pins and modes |
///
/// # Source
/// `device-os@v0.6.1..v2.3.1`: `led_config_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedMirror<'a> {
    raw: &'a [u8; 24],
}

impl<'a> LedMirror<'a> {
    /// The members of the record under the names of the firmware's header; gaps are padding.
    pub const LAYOUT: [Span; 10] = [
        span("version", 0, 1),
        span("port", 4, 4),
        span("pin", 8, 2),
        span("hal_pin", 10, 2),
        span("hal_mode", 12, 2),
        span("pin_source", 14, 1),
        span("af", 15, 1),
        span("tim_peripheral", 16, 4),
        span("tim_channel", 20, 2),
        span("flags", 22, 1),
    ];

    /// Looks at the bytes of a record; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; 24]) -> Self {
        Self { raw }
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8; 24] {
        self.raw
    }

    /// Whether there is a record: the version is not FF.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.raw[0] != 0xFF
    }

    /// Whether the record is set and active.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.is_set() && self.raw[22] & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn button_needs_both_marks() {
        let mut raw = [0; 32];
        assert!(!ButtonMirror::new(&raw).is_active());
        raw[0] = 0xAA;
        assert!(!ButtonMirror::new(&raw).is_active());
        raw[16..18].copy_from_slice(&[0xCC, 0xBB]);
        assert!(ButtonMirror::new(&raw).is_active());
        assert!(!ButtonMirror::new(&[0xFF; 32]).is_active());
    }

    #[test]
    fn led_is_unset_when_erased() {
        assert!(!LedMirror::new(&[0xFF; 24]).is_set());
        let mut raw = [0; 24];
        assert!(LedMirror::new(&raw).is_set() && !LedMirror::new(&raw).is_active());
        raw[22] = 1;
        assert!(LedMirror::new(&raw).is_active());
    }
}
