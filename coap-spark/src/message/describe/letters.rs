//! One-letter names of module functions and stores.

macro_rules! letters {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $letter:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("`", $letter, "`: ")] $(#[$variant_doc])* $variant,)+
            /// A letter that this version does not know.
            Other(char),
        }

        impl $name {
            /// By its letter.
            #[must_use]
            pub const fn from_letter(letter: char) -> Self {
                match letter {
                    $($letter => Self::$variant,)+
                    _ => Self::Other(letter),
                }
            }

            /// By a text of one letter, `None` for any other text.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                let mut letters = text.chars();
                letters.next().filter(|_| letters.next().is_none()).map(Self::from_letter)
            }

            /// Its letter.
            #[must_use]
            pub const fn letter(self) -> char {
                match self {
                    $(Self::$variant => $letter,)+
                    Self::Other(letter) => letter,
                }
            }
        }

        impl From<char> for $name {
            fn from(letter: char) -> Self {
                Self::from_letter(letter)
            }
        }

        impl From<$name> for char {
            fn from(name: $name) -> Self {
                name.letter()
            }
        }

        #[cfg(feature = "json-core")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.letter().encode_utf8(&mut [0; 4]))
            }
        }

        #[cfg(feature = "json-core")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = super::bounded::plain(deserializer)?;
                let wrong = || serde::de::Error::invalid_value(serde::de::Unexpected::Str(text), &"one letter");
                Self::from_text(text).ok_or_else(wrong)
            }
        }
    };
}

letters! {
    /// What a module does, by its letter in a Describe document (`f`).
    ModuleFunction {
        /// nothing.
        None = 'n',
        /// a resource.
        Resource = 'r',
        /// the bootloader.
        Bootloader = 'b',
        /// everything in one.
        Monolithic = 'm',
        /// a part of the system.
        System = 's',
        /// the application.
        User = 'u',
        /// firmware of a network coprocessor.
        NetworkCoprocessor = 'c',
        /// a radio stack.
        RadioStack = 'a',
        /// one that the device has no letter for.
        Unnamed = '_',
    }
}

letters! {
    /// Where a module lies, by its letter in a Describe document (`l`).
    ModuleStore {
        /// where it runs.
        Main = 'm',
        /// a backup.
        Backup = 'b',
        /// what factory reset restores.
        Factory = 'f',
        /// the OTA region.
        Scratchpad = 't',
        /// one that the device has no letter for.
        Unnamed = '_',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_goes_both_ways() {
        for letter in "nrbmsuca_xZ7é".chars() {
            assert_eq!(ModuleFunction::from_letter(letter).letter(), letter);
            assert_eq!(ModuleStore::from_letter(letter).letter(), letter);
        }
        assert_eq!(ModuleFunction::from_text("s"), Some(ModuleFunction::System));
        assert_eq!(ModuleStore::from_text("x"), Some(ModuleStore::Other('x')));
        assert_eq!((ModuleStore::from_text(""), ModuleStore::from_text("mb")), (None, None));
    }
}
