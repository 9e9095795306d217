//! YMODEM, both ends: how system firmware takes an image over its serial port, and how other programs exchange files.
//!
//! ```text
//! sender                                  receiver
//!                        <-------------   C
//!   header (name, length) ------------>   Begin: ACK C (or CAN CAN)
//!   block 1, 2, ...       ------------>   Write: ACK
//!   EOT                   ------------>   ACK (standard receivers: ACK C)
//!   header without a name ------------>   Finish: ACK (or CAN CAN)
//! ```
//!
//! A packet, all of whose numbers are single bytes but the checksum, which is big-endian:
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | 01: 128 bytes of data; 02: 1024 |
//! | 1 | 1 | number, from 0 (header), 255 is followed by 0 |
//! | 2 | 1 | number, inverted |
//! | 3 | 128 or 1024 | data, the rest is filled up |
//! | 131 or 1027 | 2 | CRC-16/XMODEM of the data, or zeros from the vendor's program |
//!
//! The data of a header is the name, 00, the length in decimal and a space. [`Sender`] and [`Receiver`] take bytes and
//! time and give bytes, work and deadlines. What differs from peer to peer is in [`SenderProfile`] and
//! [`ReceiverProfile`].
//!
//! # Limits of the protocol
//! An answer is one byte without a number. The sender leaves it to the receiver to notice that something is missing, takes
//! no answer before it has sent, and no `C` sooner than [`SenderProfile::old_ready`] after that. So it claims a success
//! for a file that is not whole only if answers are doubled on their way, or take longer than that time, several times
//! in one transfer; the receiver knows better each time. A device does not look at checksums: damage shows when it
//! validates the image at the end.
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_ymodem.cpp`; particle-cli@v2.16.0: `src/lib/ymodem.js`; Chuck Forsberg,
//! *XMODEM/YMODEM protocol reference*, 1988.

mod packet;
mod profile;
mod receiver;
mod sender;

pub use packet::{BlockSize, Header, NameError, control, crc16};
pub use profile::{ChecksumRule, FinishAt, ReceiverProfile, SenderProfile};
pub use receiver::{Output as ReceiverOutput, Received, Receiver, ReceiverFailure};
pub use sender::{Place, Progress, Sender, SenderError, SenderFailure};
