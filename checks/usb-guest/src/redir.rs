//! The part of the usbredir protocol that a device with nothing but a control endpoint needs.
//!
//! Source: usbredir, docs/usb-redirection-protocol.md. No capability is announced, so ids have 32 bits.

use std::io::{self, Read, Write};

use spark_dfu::SetupPacket;
use spark_dfu::descriptor::{Description, Mode};

const HELLO: u32 = 0;
const DEVICE_CONNECT: u32 = 1;
const DEVICE_DISCONNECT: u32 = 2;
const RESET: u32 = 3;
const INTERFACE_INFO: u32 = 4;
const EP_INFO: u32 = 5;
const SET_CONFIGURATION: u32 = 6;
const GET_CONFIGURATION: u32 = 7;
const CONFIGURATION_STATUS: u32 = 8;
const SET_ALT_SETTING: u32 = 9;
const GET_ALT_SETTING: u32 = 10;
const ALT_SETTING_STATUS: u32 = 11;
const CANCEL_DATA_PACKET: u32 = 21;
const CONTROL_PACKET: u32 = 100;

const SUCCESS: u8 = 0;
const STALL: u8 = 4;

const FULL_SPEED: u8 = 1;
const DFU_CLASS: u8 = 0xFE;
/// Longer packets are an error; the longest has 4096 bytes of data.
const MAX_PACKET: usize = 0x1_0000;

/// What a host asks of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A USB reset.
    Reset,
    /// Any control transfer; QEMU's messages of their own for some standard requests included.
    Control(SetupPacket, Vec<u8>),
    /// The host gave up a transfer.
    Cancel,
}

/// A request, with what is needed to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    kind: u32,
    id: u32,
    /// The request.
    pub request: Request,
}

/// One side of the socket.
#[derive(Debug)]
pub struct Wire<S>(pub S);

impl<S: Write> Wire<S> {
    fn send(&mut self, kind: u32, id: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut packet = [kind.to_le_bytes(), len.to_le_bytes(), id.to_le_bytes()].concat();
        packet.extend_from_slice(body);
        self.0.write_all(&packet)
    }

    /// The first packet.
    pub fn hello(&mut self) -> io::Result<()> {
        let mut body = [0; 68];
        body[..9].copy_from_slice(b"usb-guest");
        self.send(HELLO, 0, &body)
    }

    /// The device appears.
    pub fn connect(&mut self, description: &Description<'_>, mode: Mode) -> io::Result<()> {
        let mut endpoints = [255; 96];
        endpoints[32..].fill(0);
        // Endpoint 0, both directions: control.
        (endpoints[0], endpoints[16]) = (0, 0);
        self.send(EP_INFO, 0, &endpoints)?;
        let mut interfaces = [0; 4 + 4 * 32];
        interfaces[0] = 1;
        interfaces[4] = description.interface;
        (interfaces[36], interfaces[68]) = (DFU_CLASS, 1);
        interfaces[100] = if mode == Mode::Dfu { 2 } else { 1 };
        self.send(INTERFACE_INFO, 0, &interfaces)?;
        let [v0, v1] = description.id_vendor.to_le_bytes();
        let [p0, p1] = description.id_product.to_le_bytes();
        self.send(DEVICE_CONNECT, 0, &[FULL_SPEED, 0, 0, 0, v0, v1, p0, p1])
    }

    /// The device is gone.
    pub fn disconnect(&mut self) -> io::Result<()> {
        self.send(DEVICE_DISCONNECT, 0, &[])
    }

    /// Answers a request; an error is a stall.
    pub fn answer(&mut self, asked: &Asked, result: Result<&[u8], ()>) -> io::Result<()> {
        let status = if result.is_ok() { SUCCESS } else { STALL };
        let data = result.unwrap_or_default();
        let first = data.first().copied().unwrap_or(0);
        let Request::Control(setup, _) = &asked.request else { return Ok(()) };
        let value = setup.value.to_le_bytes()[0];
        match asked.kind {
            SET_CONFIGURATION => self.send(CONFIGURATION_STATUS, asked.id, &[status, value]),
            GET_CONFIGURATION => self.send(CONFIGURATION_STATUS, asked.id, &[status, first]),
            SET_ALT_SETTING | GET_ALT_SETTING => {
                let alternate = if asked.kind == SET_ALT_SETTING { value } else { first };
                let interface = setup.index.to_le_bytes()[0];
                self.send(ALT_SETTING_STATUS, asked.id, &[status, interface, alternate])
            }
            _ => {
                let len = u16::try_from(data.len()).map_err(io::Error::other)?;
                let done = if setup.request_type & 0x80 != 0 || result.is_err() { len } else { setup.length };
                let endpoint = setup.request_type & 0x80;
                let [v0, v1] = setup.value.to_le_bytes();
                let [i0, i1] = setup.index.to_le_bytes();
                let [l0, l1] = done.to_le_bytes();
                let head = [endpoint, setup.request, setup.request_type, status, v0, v1, i0, i1, l0, l1];
                self.send(CONTROL_PACKET, asked.id, &[&head, data].concat())
            }
        }
    }
}

impl<S: Read> Wire<S> {
    /// The next request that concerns the device.
    pub fn next(&mut self) -> io::Result<Asked> {
        loop {
            let mut head = [[0; 4]; 3];
            self.0.read_exact(head.as_flattened_mut())?;
            let [kind, len, id] = head.map(u32::from_le_bytes);
            let len = usize::try_from(len).map_err(io::Error::other)?;
            if len > MAX_PACKET {
                return Err(io::Error::other(format!("packet {kind} has {len} bytes")));
            }
            let mut body = vec![0; len];
            self.0.read_exact(&mut body)?;
            if let Some(request) = request(kind, &body)? {
                return Ok(Asked { kind, id, request });
            }
        }
    }
}

fn request(kind: u32, body: &[u8]) -> io::Result<Option<Request>> {
    let setup = |request_type, request, value, index, length| {
        Request::Control(SetupPacket { request_type, request, value, index, length }, Vec::new())
    };
    Ok(Some(match (kind, body) {
        (HELLO, _) => return Ok(None),
        (RESET, _) => Request::Reset,
        (CANCEL_DATA_PACKET, _) => Request::Cancel,
        (SET_CONFIGURATION, &[value]) => setup(0x00, 9, value.into(), 0, 0),
        (GET_CONFIGURATION, []) => setup(0x80, 8, 0, 0, 1),
        (SET_ALT_SETTING, &[interface, alternate]) => setup(0x01, 11, alternate.into(), interface.into(), 0),
        (GET_ALT_SETTING, &[interface]) => setup(0x81, 10, 0, interface.into(), 1),
        (CONTROL_PACKET, &[_, request, request_type, _, v0, v1, i0, i1, l0, l1, ref data @ ..]) => {
            let [value, index, length] = [[v0, v1], [i0, i1], [l0, l1]].map(u16::from_le_bytes);
            Request::Control(SetupPacket { request_type, request, value, index, length }, data.to_vec())
        }
        _ => return Err(io::Error::other(format!("packet {kind} with {} bytes", body.len()))),
    }))
}
