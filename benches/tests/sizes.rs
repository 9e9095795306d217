//! Prints how many bytes the states of `coap-spark` take on this machine, and holds the one that is promised: an idle
//! session takes 512. None of them owns a heap.

use coap_spark::connection::{DeviceConnection, ParkedConnection, ServerConnection};
use coap_spark::handshake::{device, server};
use coap_spark::session::{Opener, SavedSession, Sealer, SessionKeys};
use coap_spark::udp::Endpoint;

const PARKED: usize = 512;

macro_rules! sizes {
    ($($what:ty),* $(,)?) => {
        [$((stringify!($what), size_of::<$what>())),*]
    };
}

fn main() {
    let sizes = sizes![
        server::AwaitIdentity,
        server::DecryptJob,
        server::Decrypted,
        server::AwaitDecryption,
        server::Identified,
        server::SealJob,
        server::Sealed,
        server::AwaitSeal,
        server::Accepted,
        device::AwaitNonce,
        device::EncryptJob,
        device::Encrypted,
        device::AwaitEncryption,
        device::AwaitSession,
        device::OpenJob,
        device::Opened,
        device::AwaitOpening,
        SessionKeys,
        SavedSession,
        Sealer,
        Opener,
        ServerConnection,
        ParkedConnection,
        DeviceConnection,
        Endpoint,
        Endpoint<256, 1, 8, 1>,
    ];
    for (name, bytes) in sizes {
        println!("{name}: {bytes} bytes");
    }
    assert!(size_of::<ParkedConnection>() <= PARKED, "an idle session takes more than {PARKED} bytes");
}
