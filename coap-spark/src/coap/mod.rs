//! The CoAP message format of RFC 7252, usable on its own.
//!
//! [`Message`] is a borrowed, already checked view; [`Writer`] emits into a slice the caller gives.
//! Nothing here knows about Spark: any token length, all option numbers and unknown codes pass through.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 1 | version (2 bits, 1), type (2 bits), token length (4 bits, 0..=8) |
//! | 1 | 1 | code: class (3 bits), detail (5 bits) |
//! | 2 | 2 | message id, big-endian |
//! | 4 | 0..=8 | token |
//! | | | options: delta/length nibbles, 13 and 14 extended |
//! | | | `ff` and the payload to the end |
//!
//! # Source
//! RFC 7252 section 3; the tolerances are what device-os and the two JavaScript servers emit or accept.

mod header;
mod options;
mod view;
mod writer;

pub use header::{Code, Token, TokenTooLong, Type};
pub use options::{OptionIter, OptionNumber, OptionView};
pub use view::{Message, ParseError, ParseOptions};
pub use writer::{WriteError, Writer};
