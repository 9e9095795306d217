//! The same cable behind a Unix socket, in real time, for hosts that bring their own libusb: `checks/umockdev` uses it.
//!
//! A request is eight setup bytes and, for an OUT transfer, wLength bytes; eight times ff is a bus reset. The answer is a
//! little-endian i32, a length or a negative libusb code, and that many bytes of IN data.

#[path = "../cable.rs"]
mod cable;
#[path = "../devices.rs"]
mod devices;
#[path = "../store.rs"]
mod store;

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use cable::{Cable, Failure};
use spark_dfu::SetupPacket;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: cable-server SOCKET DEVICE STATE-FOLDER [LOG]";
    let mut next = || arguments.next().ok_or(usage);
    let (socket, device, folder) = (next()?, next()?, PathBuf::from(next()?));
    let kind = devices::find(&device).ok_or("no such device")?;
    let mut cable = Cable::plug(kind, folder, next().ok().map(PathBuf::from))?;
    let listener = UnixListener::bind(socket)?;
    let mut last = Instant::now();
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut setup = [0; 8];
        while stream.read_exact(&mut setup).is_ok() {
            cable.pass(last.elapsed(), false);
            last = Instant::now();
            let generation = cable.generation().unwrap_or(0);
            let packet = SetupPacket::from_bytes(setup);
            let mut input = vec![0; usize::from(packet.length)];
            let (code, bytes) = if setup == [0xFF; 8] {
                (cable.reset(generation).map_or(-4, |_| 0), &[][..])
            } else {
                let mut output = Vec::new();
                if packet.request_type & 0x80 == 0 {
                    output.resize(usize::from(packet.length), 0);
                    stream.read_exact(&mut output)?;
                }
                match cable.control(generation, packet, &output, &mut input) {
                    Ok(len) => (i32::try_from(len)?, input.get(..len).unwrap_or_default()),
                    Err(Failure::Stall) => (-9, &[][..]),
                    Err(Failure::Gone) => (-4, &[][..]),
                }
            };
            stream.write_all(&code.to_le_bytes())?;
            stream.write_all(bytes)?;
        }
    }
}
