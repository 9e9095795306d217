//! A live session from either end: frames in and out, message ids, tokens, keep-alive.
//!
//! [`ServerConnection`] and [`DeviceConnection`] begin where the handshake ends. Both are driven alike:
//!
//! 1. `handle_input(now, bytes)` takes bytes up to the end of one frame and says how many it took; call it again
//!    with the rest after the next two steps;
//! 2. `poll_message()` gives the message of that frame, once;
//! 3. `poll_output(now, out)` until `None`: acknowledgements, pongs and Hello that the protocol owes;
//! 4. `send`, `respond`, … at any time: they seal into the caller's buffer, to be written to the socket in that
//!    order;
//! 5. `handle_deadline(now)` when `next_deadline()` has come, then step 3. Early calls are harmless.
//!
//! Any error ends the connection: close the socket and drop the value. Memory: `N` bytes for the frame being
//! received and a queue of four replies; nothing else is kept.

mod device;
mod ids;
mod link;
mod profile;
mod server;

pub use device::{DeviceConnection, Request, RequestKind};
pub use ids::{IdCheck, ReceiveIds};
pub use link::{ConnectionError, SendError, Sent};
pub use profile::{IdOrder, Profile, ReplyStyle, TokenSource};
pub use server::{ServerConnection, ServerPolicy};
