//! The small vocabularies in the data of system events.

use crate::message::ResetReason;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum $name<'a> {
            $(#[doc = concat!("`", $text, "`: ")] $(#[$variant_doc])* $variant,)+
            /// Any other data.
            Other(&'a [u8]),
        }

        impl<'a> $name<'a> {
            /// By the data of the event.
            #[must_use]
            pub fn from_data(data: &'a [u8]) -> Self {
                $(if data == $text.as_bytes() {
                    return Self::$variant;
                })+
                Self::Other(data)
            }

            /// The data of the event.
            #[must_use]
            pub const fn data(&self) -> &'a [u8] {
                match self {
                    $(Self::$variant => $text.as_bytes(),)+
                    Self::Other(data) => data,
                }
            }
        }
    };
}

words! {
    /// How a device is to restart.
    ResetRequest {
        /// without its application.
        SafeMode = "safe mode",
        /// into the bootloader's DFU mode.
        Dfu = "dfu",
        /// as usual.
        Reboot = "reboot",
        /// only its network connection (Device OS 2).
        Network = "network",
    }
}

words! {
    /// Whether a device is connected.
    DeviceStatus {
        /// it connected.
        Online = "online",
        /// its connection ended.
        Offline = "offline",
    }
}

words! {
    /// How an update goes.
    FlashStatus {
        /// it began.
        Started = "started",
        /// the device took it.
        Success = "success",
        /// it did not.
        Failed = "failed",
    }
}

/// Why a device restarted: `power_down`, `panic, hard_fault`, or a number that has no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LastReset<'a> {
    /// Why.
    pub reason: ResetReason,
    /// What comes behind a comma and a space: after a panic `hard_fault`, `memory_fault`, `bus_fault`, `usage_fault`,
    /// `out_of_heap`, `assert_failed`, `stack_overflow` or a number.
    pub detail: Option<&'a [u8]>,
}

/// Between reason and detail.
pub(super) const SEPARATOR: &[u8] = b", ";

impl<'a> LastReset<'a> {
    /// By the data of the event, `None` for a word that is not known.
    #[must_use]
    pub fn from_data(data: &'a [u8]) -> Option<Self> {
        let at = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let (reason, detail) = match at.and_then(|at| data.split_at_checked(at)) {
            Some((reason, rest)) => (reason, rest.get(SEPARATOR.len()..)),
            None => (data, None),
        };
        let reason = ResetReason::from_name(reason).or_else(|| decimal(reason).map(ResetReason::from))?;
        Some(Self { reason, detail })
    }
}

/// A decimal number without sign, up to 32 bits.
pub(super) fn decimal(data: &[u8]) -> Option<u32> {
    let all_digits = data.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(data).ok().filter(|_| all_digits)?.parse().ok()
}
