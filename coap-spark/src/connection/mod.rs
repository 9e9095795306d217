//! A live session from either end: frames in and out, message ids, tokens, keep-alive.
//!
//! [`ServerConnection`] and [`DeviceConnection`] begin where the handshake ends. Both are driven alike:
//!
//! 1. `handle_input(now, bytes)` takes bytes up to the end of one frame and says how many it took; call it again
//!    with the rest after the next two steps;
//! 2. `poll_message()` gives the message of that frame, once;
//! 3. `poll_output(now, out)` until `None`: acknowledgements, pongs and Hello that the protocol owes;
//! 4. `request`, `send`, `respond`, … at any time: they seal into the caller's buffer, to be written to the socket in
//!    that order. The order is the caller's, so requests go between the chunks of an update as it likes;
//! 5. `handle_deadline(now)` when `next_deadline()` has come, then step 3, then `poll_expired(now)` until `None`. Early
//!    calls are harmless.
//!
//! An answer comes with the message that it answers: [`Received::answers`] names what was sent with `request`. Answers
//! are found by token, then by the id of an acknowledgement or reset, then, for pings and key changes that Device OS 0.8
//! to 2.3.1 acknowledges with an id of its own, by order.
//!
//! Where firmware generations differ, the difference is a field of [`Profile`] and [`Limits`]; what a server may do this
//! way or that is one of [`ServerPolicy`]. Both JavaScript servers are values of it.
//!
//! Any error of `handle_input` or `handle_deadline` ends the connection: close the socket and drop the value. An error of
//! a sending method leaves it unharmed.
//!
//! Memory: `N` bytes for the frame being received, four replies, `P` requests that wait; nothing else is kept. An idle
//! server connection can be [parked](ServerConnection::park) in 512 bytes, or
//! [moved](ServerConnection::export_into) to another process.

mod device;
mod ids;
mod limits;
mod link;
mod machine;
mod parked;
mod policy;
mod profile;
mod rate;
mod request;
mod server;
mod waiting;

pub use device::DeviceConnection;
pub use ids::{IdCheck, ReceiveIds};
pub use limits::Limits;
pub use link::{ConnectionError, SendError, Sent};
pub use machine::Machine;
pub use parked::{ParkError, ParkedConnection};
pub use policy::{EventAcks, EventLimit, ServerPolicy};
pub use profile::{IdOrder, Profile, ReplyStyle, TokenSource};
pub use request::{DeviceRequestKind, Received, Request, RequestKind};
pub use server::{MAX_BATCH, ServerConnection};
pub use waiting::{Answers, Waiting};
