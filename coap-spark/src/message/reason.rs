//! Why a device resets, leaves the cloud or the network: numbers with names.

use core::fmt;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(from = "u32", into = "u32"))]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!($number, " `", $text, "`: ")] $(#[$variant_doc])* $variant,)+
            /// A number without a name.
            Other(u32),
        }

        impl $name {
            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Other(number) => number,
                }
            }

            /// The name, `None` for a number that has none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($text),)+
                    Self::Other(_) => None,
                }
            }

            /// The reason with this name.
            #[must_use]
            pub fn from_name(name: &[u8]) -> Option<Self> {
                $(if name == $text.as_bytes() {
                    return Some(Self::$variant);
                })+
                None
            }
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Other(number),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(reason: $name) -> Self {
                reason.number()
            }
        }

        impl fmt::Display for $name {
            /// The name, else the number.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.number()),
                }
            }
        }

        #[cfg(test)]
        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }
    };
}

reasons! {
    /// Why a device leaves the cloud.
    ///
    /// # Source
    /// Numbers: device-os@v2.3.1, in the Goodbye message. The names are ours.
    CloudReason {
        /// an error on the connection.
        Error = 1 "error",
        /// the application asked for it.
        User = 2 "user",
        /// the network goes down.
        NetworkDisconnect = 3 "network_disconnect",
        /// listening mode.
        Listening = 4 "listening",
        /// the device resets.
        SystemReset = 5 "system_reset",
        /// the device goes to sleep.
        Sleep = 6 "sleep",
        /// not known.
        Unknown = 7 "unknown",
    }
}

reasons! {
    /// Why a device leaves the network.
    ///
    /// # Source
    /// Numbers: device-os@v2.3.1, in the Goodbye message. The names are ours.
    NetworkReason {
        /// an error on the interface.
        Error = 1 "error",
        /// the application asked for it.
        User = 2 "user",
        /// the interface is switched off.
        Off = 3 "off",
        /// listening mode.
        Listening = 4 "listening",
        /// the device goes to sleep.
        Sleep = 5 "sleep",
        /// the interface resets.
        Reset = 6 "reset",
        /// not known.
        Unknown = 7 "unknown",
    }
}

reasons! {
    /// Why a device resets or did reset.
    ///
    /// # Source
    /// device-os@v2.3.1, in the Goodbye message; the names are what `spark/device/last_reset` carries
    /// (`system/src/system_cloud_internal.cpp`).
    ResetReason {
        /// not known.
        Unknown = 10 "unknown",
        /// the reset button or pin.
        Pin = 20 "pin_reset",
        /// low-power management, such as standby.
        PowerManagement = 30 "power_management",
        /// the power was off.
        PowerDown = 40 "power_down",
        /// the voltage was too low.
        PowerBrownout = 50 "power_brownout",
        /// a watchdog.
        Watchdog = 60 "watchdog",
        /// an update succeeded.
        Update = 70 "update",
        /// an update failed.
        UpdateError = 80 "update_error",
        /// an update took too long.
        UpdateTimeout = 90 "update_timeout",
        /// factory reset.
        FactoryReset = 100 "factory_reset",
        /// safe mode was asked for.
        SafeMode = 110 "safe_mode",
        /// DFU mode was asked for.
        DfuMode = 120 "dfu_mode",
        /// the system panicked.
        Panic = 130 "panic",
        /// the application asked for it.
        User = 140 "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_go_both_ways() {
        fn check<R>(all: &[R], names: impl Fn(R) -> (u32, Option<&'static str>, Option<R>))
        where
            R: Copy + From<u32> + PartialEq + fmt::Debug,
        {
            for reason in all {
                let (number, name, by_name) = names(*reason);
                assert_eq!((R::from(number), by_name), (*reason, Some(*reason)), "{name:?}");
            }
        }
        let name = |name: Option<&'static str>| name.unwrap_or_default().as_bytes();
        check(CloudReason::ALL, |r| (r.number(), r.name(), CloudReason::from_name(name(r.name()))));
        check(NetworkReason::ALL, |r| (r.number(), r.name(), NetworkReason::from_name(name(r.name()))));
        check(ResetReason::ALL, |r| (r.number(), r.name(), ResetReason::from_name(name(r.name()))));
        assert_eq!(ResetReason::from(141), ResetReason::Other(141));
        assert_eq!(std::format!("{} {}", ResetReason::Panic, CloudReason::Other(9)), "panic 9");
    }
}
