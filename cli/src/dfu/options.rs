//! The arguments with a grammar of their own: `-d` and `-s`.

use core::fmt;
use core::str::FromStr;
use spark_dfu::descriptor::Mode;

pub(super) const LONG_HELP: &str = "\
DfuSe: where to read or write, and what else to do, separated by colons. The address comes first and may be empty; \
numbers are decimal, 0x hexadecimal or 0 octal; another number is the length of an upload. Modifiers:
  leave       start the firmware at the end
  force       write outside the memory map as well; needed by the next two
  mass-erase  erase all memory of the alternate setting first
  unprotect   lift the read protection, which erases everything; the device then resets itself
  will-reset  the device resets itself when the last block is written";

/// Vendor and product; `None` is any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    vendor: Option<u16>,
    product: Option<u16>,
    /// `-`: no device at all.
    none: bool,
}

/// `-d`. One pair is for both modes; of two, the first is for run-time and the second for DFU mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IdFilter {
    runtime: Pair,
    dfu: Pair,
}

impl IdFilter {
    pub(super) fn fits(&self, mode: Mode, vendor: u16, product: u16) -> bool {
        let pair = if mode == Mode::Dfu { self.dfu } else { self.runtime };
        !pair.none
            && pair.vendor.is_none_or(|wanted| wanted == vendor)
            && pair.product.is_none_or(|wanted| wanted == product)
    }
}

impl FromStr for IdFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, second) = match text.split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (text, None),
        };
        let any = Pair { vendor: None, product: None, none: false };
        let runtime = pair(first, any)?;
        let dfu = match second {
            // What the second pair leaves out is that of the first.
            Some(second) => pair(second, runtime)?,
            None => runtime,
        };
        Ok(Self { runtime, dfu })
    }
}

fn pair(text: &str, default: Pair) -> Result<Pair, String> {
    if text == "-" {
        return Ok(Pair { none: true, ..default });
    }
    let (vendor, product) = text.split_once(':').unwrap_or((text, ""));
    let part = |text: &str, default| match text {
        "" => Ok(default),
        "*" => Ok(None),
        _ => u16::from_str_radix(text, 16).map(Some).map_err(|_| {
            format!("`{text}` is no id: give four hex digits without 0x, as in 2b04:d006, or `*`")
        }),
    };
    Ok(Pair { vendor: part(vendor, default.vendor)?, product: part(product, default.product)?, none: false })
}

/// `-s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DfuseOptions {
    pub(super) address: Option<u32>,
    pub(super) length: Option<u32>,
    pub(super) leave: bool,
    pub(super) force: bool,
    pub(super) mass_erase: bool,
    pub(super) unprotect: bool,
    pub(super) will_reset: bool,
}

impl FromStr for DfuseOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for (place, word) in text.split(':').enumerate() {
            let flag = match word {
                "" if place == 0 => continue,
                "leave" => &mut options.leave,
                "force" => &mut options.force,
                "mass-erase" => &mut options.mass_erase,
                "unprotect" => &mut options.unprotect,
                "will-reset" => &mut options.will_reset,
                _ => {
                    let number = number(word).ok_or_else(|| {
                        format!("`{word}` is neither a number of 32 bits nor one of leave, force, mass-erase, unprotect, will-reset")
                    })?;
                    if place == 0 {
                        options.address = Some(number);
                    } else if options.length.replace(number).is_some() {
                        return Err("two lengths".to_owned());
                    }
                    continue;
                }
            };
            if core::mem::replace(flag, true) {
                return Err(format!("`{word}` twice"));
            }
        }
        if options.mass_erase && options.unprotect {
            return Err("unprotect erases everything by itself: drop mass-erase".to_owned());
        }
        if (options.mass_erase || options.unprotect) && !options.force {
            return Err(
                "mass-erase and unprotect destroy all memory: add `:force` if that is wanted".to_owned()
            );
        }
        Ok(options)
    }
}

/// As C's strtoul with base 0.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix('0') {
        Some("") => Some(0),
        Some(rest) => match rest.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => u32::from_str_radix(rest, 8).ok(),
        },
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// An alternate setting by number and name, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct DfuseTarget<'a> {
    pub(super) alternate: u8,
    pub(super) name: &'a str,
}

impl fmt::Display for DfuseTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.trim_start_matches('@').split('/').next().unwrap_or_default().trim();
        if name.is_empty() {
            write!(f, "{}", self.alternate)
        } else {
            write!(f, "{} ({name})", self.alternate)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bases_of_c() {
        for (text, value) in [("34", 34), ("0x080A0000", 0x080A_0000), ("010", 8), ("0", 0), ("0X1f", 31)] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "x", "0x", "08", "-1", "+1", "4294967296", "1 "] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn modifiers_come_in_any_order_and_words_count_whole() {
        let options: DfuseOptions = "34:612:leave".parse().unwrap();
        assert_eq!((options.address, options.length, options.leave), (Some(34), Some(612), true));
        let options: DfuseOptions = ":mass-erase:force".parse().unwrap();
        assert_eq!((options.address, options.mass_erase, options.force), (None, true, true));
        for wrong in
            ["34:lea", "34:leave:leave", "34:1:2", "x", ":mass-erase", ":force:unprotect:mass-erase", "0:"]
        {
            assert!(wrong.parse::<DfuseOptions>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_pair_is_for_both_modes_and_two_are_one_each() {
        let filter: IdFilter = "2b04:d006".parse().unwrap();
        assert!(filter.fits(Mode::Dfu, 0x2B04, 0xD006) && filter.fits(Mode::Runtime, 0x2B04, 0xD006));
        assert!(!filter.fits(Mode::Dfu, 0x2B04, 0xD008));
        let filter: IdFilter = "2b04:c006,:d006".parse().unwrap();
        assert!(filter.fits(Mode::Dfu, 0x2B04, 0xD006) && !filter.fits(Mode::Runtime, 0x2B04, 0xD006));
        let filter: IdFilter = "-,2b04:*".parse().unwrap();
        assert!(filter.fits(Mode::Dfu, 0x2B04, 1) && !filter.fits(Mode::Runtime, 0x2B04, 1));
        assert!("2b04:0xd006".parse::<IdFilter>().is_err() && "12345".parse::<IdFilter>().is_err());
    }
}
