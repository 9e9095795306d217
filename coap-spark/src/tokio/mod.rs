//! Both ends on tokio: a small adapter that moves bytes and looks at the clock. The machines know nothing of it.
//!
//! [`ServerStream::accept`] and [`DeviceStream::connect`] do the handshake, with RSA work on the blocking pool;
//! `next` gives the next message, `request`, `send` and the rest send. Whoever has a machine of its own, or
//! wants the handshake's steps apart, takes [`Framed::turn`] and [`handshake`].
//!
//! # Dropped futures
//! Those that wait for messages may be dropped at any time without loss. So may those that send, but then it is not
//! known what became of the message: it was not sealed, or it goes out whole with the next call of any kind (and if it
//! was a request, its answer is told as ever). Frames do not pile up: each call first writes what an earlier one left.
//!
//! # Two ends that only send
//! A stream reads on while its peer takes nothing, but only some kilobytes: who sends much calls `next` in between, or
//! both ends may wait for each other until [`Error::Stuck`].
//!
//! ```
//! # #[cfg(feature = "rsa")]
//! # mod example {
//! use coap_spark::connection::ServerPolicy;
//! use coap_spark::message::{FromDevice, FromServer};
//! use coap_spark::tokio::{AcceptError, Event, ServerStream};
//! use rsa::{RsaPrivateKey, RsaPublicKey};
//! use std::sync::Arc;
//! use tokio::net::TcpStream;
//! # fn rng() -> rand_chacha::ChaCha20Rng { rand_core::SeedableRng::from_seed([7; 32]) }
//!
//! async fn serve(socket: TcpStream, key: Arc<RsaPrivateKey>, known: RsaPublicKey) -> Result<(), AcceptError> {
//!     let look_up = async |_id, _offered_key| Some(known);
//!     let (id, mut device): (_, ServerStream<_>) =
//!         ServerStream::accept(socket, key, ServerPolicy::DEFAULT, rng, look_up).await?;
//!     while let Ok(Event::Message(message)) = device.next().await {
//!         match message.body {
//!             FromDevice::Hello(_) => {
//!                 let _ = device.request(FromServer::Describe { flags: None }).await;
//!             }
//!             FromDevice::Event(event) => println!("{id}: {}", event.name),
//!             FromDevice::Response(response) => println!("{id}: {}", response.payload.escape_ascii()),
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! # }
//! ```

mod device;
mod error;
mod framed;
pub mod handshake;
mod parts;
mod server;

pub use device::{ConnectError, DeviceIdentity, DeviceStream};
pub use error::{Error, Event};
pub use framed::Framed;
pub use parts::Parts;
pub use server::{AcceptError, ServerStream};
