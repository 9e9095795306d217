//! Findings and what they mean.

use super::{EcFinding, Leak, PublicCopyFinding, ServerKeyFinding};
use crate::arithmetic::Relation;
use crate::der::DerError;
use crate::form::KeyForm;
use crate::pem::PemError;
use crate::private_key::Number;

/// One thing that is wrong with, or noteworthy about, a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Finding {
    /// All FF.
    Erased,
    /// All 00.
    Zeroed,
    /// FF in the first byte, other bytes behind it: the device takes the field for an empty one.
    HeadErased {
        /// How many bytes are FF at the start.
        len: usize,
    },
    /// FF from this byte to the end, although the key is longer.
    TailErased {
        /// First erased byte.
        from: usize,
    },
    /// Another form of key.
    WrongForm {
        /// The form.
        form: KeyForm,
    },
    /// Text in which no private key can be read without more.
    UnreadableText {
        /// Why.
        error: PemError,
    },
    /// RSA, but not 1024 bits.
    WrongSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The first byte is not 30, or the length form not 82.
    BrokenHeader {
        /// First two bytes.
        found: [u8; 2],
    },
    /// The DER is longer than what there is.
    Truncated {
        /// Length of the DER as declared.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The version number is not 0.
    WrongVersion,
    /// A key of more than two primes: version 1, and the others behind the nine integers.
    MultiPrime,
    /// Tag, length or leading zero of a number is damaged, which the device steps over.
    HeaderDamaged {
        /// Which number.
        number: Number,
        /// First damaged byte.
        offset: usize,
    },
    /// e is damaged: the key belongs to 65537, which the device takes for granted.
    ExponentDamaged,
    /// Nothing else that was found explains why the device cannot decrypt.
    Misread,
    /// The nine integers cannot be read.
    Unreadable {
        /// Why.
        error: DerError,
    },
    /// The outer length does not match the nine integers.
    WrongLength {
        /// End as declared.
        declared: usize,
        /// End of the last integer.
        found: usize,
    },
    /// Integers with needless zeros, as devices generate them.
    NotMinimal,
    /// A length in a longer form than DER has it: the device reads this number and all behind it at a wrong place.
    LongLength {
        /// Which number.
        number: Number,
    },
    /// A number that the device reads at a wrong place.
    DeviceIncompatible {
        /// Which number.
        number: Number,
        /// Its encoded length.
        length: usize,
    },
    /// The key was made for another exponent than 65537, which devices take for granted.
    WrongExponent,
    /// The modulus is even.
    EvenModulus,
    /// A relation between the numbers does not hold.
    RelationFailed {
        /// Which one.
        relation: Relation,
    },
    /// All relations hold, but p or q is not prime.
    NotPrime {
        /// Which of them.
        number: Number,
    },
    /// The device publishes bytes of a secret number.
    SecretPublished {
        /// Which bytes.
        leak: Leak,
    },
    /// Bytes after the key that are neither FF nor 00.
    StaleTail {
        /// First byte after the key.
        from: usize,
    },
    /// The bitwise AND of two known keys, as a whole or up to some byte.
    InterruptedWrite,
    /// About the EC private key of a UDP device.
    Ec(EcFinding),
    /// About the server's public key on the device.
    ServerKey(ServerKeyFinding),
    /// About a copy of the device's public key.
    PublicCopy(PublicCopyFinding),
}

impl From<EcFinding> for Finding {
    fn from(finding: EcFinding) -> Self {
        Finding::Ec(finding)
    }
}

impl From<ServerKeyFinding> for Finding {
    fn from(finding: ServerKeyFinding) -> Self {
        Finding::ServerKey(finding)
    }
}

impl From<PublicCopyFinding> for Finding {
    fn from(finding: PublicCopyFinding) -> Self {
        Finding::PublicCopy(finding)
    }
}

/// Texts of a finding: stable code, meaning for the device, meaning for the cloud, next step.
pub(super) struct Texts(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
);

pub(super) const NEW_KEY: &str = "write a new key and send its public key to the cloud";
const REPAIR: &str = "repair the key from its intact parts or restore it from a backup; if neither works write a new key and send its public \
     key to the cloud";
const WRONG_PUBLIC: &str = "gets a public key that does not belong to any private key";

impl Finding {
    /// Stable name in kebab-case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.texts().0
    }

    /// What it means for the device.
    #[must_use]
    pub const fn device(&self) -> &'static str {
        self.texts().1
    }

    /// What it means for the cloud.
    #[must_use]
    pub const fn cloud(&self) -> &'static str {
        self.texts().2
    }

    /// What to do.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        self.texts().3
    }

    /// Where in the field it is, if it is at one place; for a key in text, where in its DER.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match self {
            Finding::TailErased { from }
            | Finding::StaleTail { from }
            | Finding::Ec(EcFinding::TailErased { from })
            | Finding::ServerKey(ServerKeyFinding::TailErased { from }) => Some(*from),
            Finding::HeaderDamaged { offset, .. } => Some(*offset),
            Finding::Truncated { available, .. }
            | Finding::Ec(EcFinding::Truncated { available, .. })
            | Finding::ServerKey(ServerKeyFinding::Truncated { available, .. }) => Some(*available),
            Finding::Unreadable { error }
            | Finding::Ec(EcFinding::Unreadable { error })
            | Finding::ServerKey(ServerKeyFinding::Unreadable { error }) => Some(error.offset()),
            Finding::WrongLength { declared, .. } => Some(*declared),
            Finding::BrokenHeader { .. } | Finding::HeadErased { .. } => Some(0),
            _ => None,
        }
    }

    /// Whether it tells why the device cannot use its RSA field.
    pub(super) const fn prevents_decryption(&self) -> bool {
        match self {
            Finding::BrokenHeader { .. }
            | Finding::HeaderDamaged { .. }
            | Finding::ExponentDamaged
            | Finding::WrongVersion
            | Finding::WrongLength { .. }
            | Finding::NotMinimal
            | Finding::StaleTail { .. }
            | Finding::InterruptedWrite
            | Finding::SecretPublished { .. }
            | Finding::PublicCopy(_) => false,
            Finding::RelationFailed { relation } => !matches!(relation, Relation::PrivateExponent),
            _ => true,
        }
    }

    const fn texts(&self) -> Texts {
        match self {
            Finding::Erased => Texts(
                "erased",
                "has no key and generates one at the next connection",
                "does not know the key that will be generated",
                NEW_KEY,
            ),
            Finding::Zeroed => Texts(
                "zeroed",
                "holds zeros, takes them for a key and cannot connect",
                "gets a public key of zeros",
                NEW_KEY,
            ),
            Finding::HeadErased { .. } => Texts(
                "head-erased",
                "takes FF in the first byte for no key: at the next connection it puts a new key over this one",
                "does not know the key that will be generated",
                "repair the key and write it before the device connects; otherwise send the new public key to the cloud",
            ),
            Finding::TailErased { .. } => Texts(
                "tail-erased",
                "lost the end of its key and cannot decrypt",
                "gets the right public key only if the modulus survived",
                REPAIR,
            ),
            Finding::WrongForm { form: KeyForm::Pkcs8Private } => Texts(
                "pkcs8-in-rsa-field",
                "reads the wrapper as part of the key and cannot decrypt",
                WRONG_PUBLIC,
                "convert the key to PKCS#1 and write it again",
            ),
            Finding::WrongForm { form: KeyForm::Sec1Ec | KeyForm::Pkcs8Ec } => Texts(
                "ec-key-in-rsa-field",
                "cannot connect with an EC key over TCP",
                "gets bytes of the private EC number as a public key: the EC key is no longer secret",
                "never use this EC key again; write a new RSA-1024 key and send its public key to the cloud",
            ),
            Finding::WrongForm { form: KeyForm::Pem } => Texts(
                "pem-in-rsa-field",
                "holds text instead of DER and cannot connect",
                "gets a piece of the key's text as a public key",
                "convert the key to DER (PKCS#1) and write it again",
            ),
            Finding::UnreadableText { error: PemError::Malformed | PemError::NoKey } => Texts(
                "text-unreadable",
                "holds text instead of DER and cannot connect",
                "gets a piece of the text as a public key",
                REPAIR,
            ),
            Finding::UnreadableText { .. } => Texts(
                "text-unreadable",
                "holds text instead of DER and cannot connect",
                "gets a piece of the text as a public key",
                "write a private key of the device in DER (PKCS#1, or SEC1 for UDP)",
            ),
            Finding::WrongForm { form: KeyForm::SpkiRsa | KeyForm::Pkcs1Public | KeyForm::SpkiEc } => Texts(
                "public-key-in-private-field",
                "holds a public key only and cannot decrypt",
                WRONG_PUBLIC,
                "write the private key that belongs to it",
            ),
            Finding::WrongForm { .. } => {
                Texts("wrong-form", "holds another kind of key and cannot decrypt", WRONG_PUBLIC, NEW_KEY)
            }
            Finding::WrongSize { .. } => Texts(
                "wrong-size",
                "reads 1024-bit positions in a key of another size and cannot decrypt",
                WRONG_PUBLIC,
                "write an RSA-1024 key and send its public key to the cloud",
            ),
            Finding::BrokenHeader { .. } => Texts(
                "broken-header",
                "does not look at the header",
                "is not affected",
                "repair the key, which gives it a right header, and write it again",
            ),
            Finding::Truncated { .. } => Texts(
                "truncated",
                "lacks the end of the key and cannot decrypt",
                "gets the right public key only if the modulus is complete",
                REPAIR,
            ),
            Finding::WrongVersion => Texts(
                "wrong-version",
                "does not look at the version",
                "is not affected",
                "repair the key, which gives it version 0, and write it again; other programs refuse it",
            ),
            Finding::MultiPrime => Texts(
                "multi-prime",
                "cannot decrypt with a key of more than two primes",
                "gets a public key for which the device cannot decrypt",
                NEW_KEY,
            ),
            Finding::HeaderDamaged { .. } => Texts(
                "header-damaged",
                "does not look at this byte",
                "is not affected",
                "repair the key, which gives it right headers, and write it again; other programs refuse it",
            ),
            Finding::ExponentDamaged => Texts(
                "exponent-damaged",
                "does not look at e, which is 65537 for all devices",
                "is not affected",
                "repair the key, which gives it the right exponent, and write it again; other programs refuse it",
            ),
            Finding::Misread => Texts(
                "misread",
                "finds no key at the places where it looks and cannot decrypt",
                "gets as a public key what is at the place of the modulus",
                REPAIR,
            ),
            Finding::Unreadable { .. } => Texts(
                "unreadable",
                "reads no key from the damaged place on and cannot decrypt",
                "gets the right public key only if the modulus is intact",
                REPAIR,
            ),
            Finding::WrongLength { .. } => Texts(
                "wrong-length",
                "does not look at the outer length",
                "is not affected",
                "write the key again in canonical form, other programs refuse it",
            ),
            Finding::NotMinimal => Texts(
                "not-minimal",
                "reads such numbers; devices generate them themselves",
                "is not affected",
                "canonicalise a copy before giving it to strict programs; the device needs nothing",
            ),
            Finding::DeviceIncompatible { .. } => Texts(
                "device-incompatible",
                "misreads the key from that number on and cannot decrypt, although every other program accepts it",
                "gets the right public key, and encrypts what the device cannot read",
                "load the key anew: it is written with its numbers at full length, which the device reads; the public key stays",
            ),
            Finding::LongLength { .. } => Texts(
                "long-length",
                "misreads the key from that number on and cannot decrypt",
                "gets the right public key unless the modulus is behind it, and encrypts what the device cannot read",
                "load the key anew, which writes it in canonical form; the public key stays",
            ),
            Finding::WrongExponent => Texts(
                "wrong-exponent",
                "publishes 65537 whatever the key says and cannot decrypt",
                WRONG_PUBLIC,
                NEW_KEY,
            ),
            Finding::EvenModulus => {
                Texts("even-modulus", "has a damaged modulus and cannot decrypt", WRONG_PUBLIC, NEW_KEY)
            }
            Finding::RelationFailed { relation: Relation::ModulusIsProduct } => Texts(
                "modulus-is-not-p-times-q",
                "cannot decrypt: n, p or q is damaged",
                "gets a wrong public key when n is damaged",
                REPAIR,
            ),
            Finding::RelationFailed { relation: Relation::PrivateExponent } => {
                Texts("private-exponent-mismatch", "does not use d", "is not affected", REPAIR)
            }
            Finding::RelationFailed { relation: Relation::Dp } => Texts(
                "dp-mismatch",
                "cannot decrypt: dp or p is damaged",
                "gets the right public key, and encrypts what the device cannot read",
                REPAIR,
            ),
            Finding::RelationFailed { relation: Relation::Dq } => Texts(
                "dq-mismatch",
                "cannot decrypt: dq or q is damaged",
                "gets the right public key, and encrypts what the device cannot read",
                REPAIR,
            ),
            Finding::RelationFailed { relation: Relation::Qinv } => Texts(
                "qinv-mismatch",
                "cannot decrypt: qinv, p or q is damaged",
                "gets the right public key, and encrypts what the device cannot read",
                REPAIR,
            ),
            Finding::NotPrime { .. } => Texts(
                "not-prime",
                "cannot decrypt: the numbers fit together but do not make a key",
                "gets the public key of something that is no key",
                NEW_KEY,
            ),
            Finding::SecretPublished { .. } => Texts(
                "secret-published",
                "publishes secret bytes as part of its public key whenever it connects",
                "and everyone on the way gets them",
                "never use this key again, on any device; write a new one and send its public key to the cloud",
            ),
            Finding::Ec(finding) => finding.texts(),
            Finding::ServerKey(finding) => finding.texts(),
            Finding::PublicCopy(finding) => finding.texts(),
            Finding::StaleTail { .. } => Texts(
                "stale-tail",
                "does not look at the bytes after the key: the end of an older, longer one or a damaged padding",
                "is not affected",
                "nothing needs to be done; cut the bytes off before giving the key to strict programs",
            ),
            Finding::InterruptedWrite => Texts(
                "interrupted-write",
                "lost power while the new key was programmed over the old one; the field is the AND of both",
                "may know either key",
                "write the new key again and send its public key to the cloud",
            ),
        }
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Finding::HeadErased { len } => write!(f, "the first {len} bytes are erased: ")?,
            Finding::TailErased { from } | Finding::Ec(EcFinding::TailErased { from }) => {
                write!(f, "erased from byte {from} on: ")?;
            }
            Finding::UnreadableText { error } => write!(f, "{error}: ")?,
            Finding::WrongForm { form } => write!(f, "form {}: ", form.name())?,
            Finding::WrongSize { bits } => write!(f, "{bits} bits: ")?,
            Finding::BrokenHeader { found: [a, b] } => write!(f, "starts with {a:02x} {b:02x}: ")?,
            Finding::Truncated { needed, available } => write!(f, "{available} of {needed} bytes: ")?,
            Finding::Unreadable { error } => write!(f, "{error}: ")?,
            Finding::WrongLength { declared, found } => write!(f, "length {declared} instead of {found}: ")?,
            Finding::DeviceIncompatible { number, length } => write!(f, "{number} in {length} bytes: ")?,
            Finding::LongLength { number } => write!(f, "length of {number}: ")?,
            Finding::HeaderDamaged { number: number @ (Number::Version | Number::E), offset } => {
                write!(f, "byte {offset}, header of {number}: ")?;
            }
            Finding::HeaderDamaged { number, offset } => {
                write!(f, "byte {offset}, header or leading zero of {number}: ")?;
            }
            Finding::NotPrime { number } => write!(f, "{number} is not prime: ")?,
            Finding::SecretPublished { leak } => {
                write!(f, "{} of {} bytes of {}: ", leak.len, leak.of, leak.secret)?;
            }
            Finding::Ec(EcFinding::WrongForm { form })
            | Finding::ServerKey(ServerKeyFinding::WrongForm { form }) => {
                write!(f, "form {}: ", form.name())?
            }
            Finding::Ec(EcFinding::Truncated { needed, available })
            | Finding::ServerKey(ServerKeyFinding::Truncated { needed, available }) => {
                write!(f, "{available} of {needed} bytes: ")?;
            }
            Finding::Ec(EcFinding::Unreadable { error })
            | Finding::ServerKey(ServerKeyFinding::Unreadable { error }) => write!(f, "{error}: ")?,
            Finding::ServerKey(ServerKeyFinding::WrongSize { bits }) => write!(f, "{bits} bits: ")?,
            Finding::PublicCopy(PublicCopyFinding::CloudOtherKind { form, bits }) => {
                write!(f, "{} of {bits} bits: ", form.name())?;
            }
            Finding::StaleTail { from } => write!(f, "other bytes from {from} on: ")?,
            _ => {}
        }
        write!(f, "device {}", self.device())
    }
}
