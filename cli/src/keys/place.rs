//! Which place in a device the bytes of a file are, by their number and what stands in them.

use super::protocol::Protocol;
use spark_dct::Field;
use spark_dct::segment::KeyAlgorithm;
use spark_keys::check::ServerKeyKind;
use spark_keys::{KeyForm, load};
use zeroize::Zeroizing;

/// Room for whatever text the file holds.
pub(super) fn scratch(content: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; content.len().max(load::MAX_DER)])
}

/// Which kind of device private key the bytes are or were, if they are one at all.
pub(super) fn protocol_of(content: &[u8]) -> Option<Protocol> {
    /// `1.2.840.10045`, the start of all names of EC keys.
    const EC: [u8; 5] = [0x2A, 0x86, 0x48, 0xCE, 0x3D];
    /// The exponent between the modulus and d.
    const E: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
    let mut scratch = scratch(content);
    match load::unpack(content, &mut scratch).map(|unpacked| unpacked.form) {
        Some(KeyForm::Sec1Ec | KeyForm::Pkcs8Ec) => return Some(Protocol::Udp),
        Some(KeyForm::Pkcs1Private | KeyForm::Pkcs8Private) => return Some(Protocol::Tcp),
        Some(_) => return None,
        None => {}
    }
    let (udp, tcp) = (Protocol::Udp.private_key_len(), Protocol::Tcp.private_key_len());
    let is = |fill| content.iter().all(|byte| *byte == fill);
    let holds = |mark: &[u8]| content.windows(mark.len()).any(|window| window == mark);
    match content.len() {
        // More than the place of a key in the device.
        0 | 1217.. => None,
        len if is(0xFF) || is(0x00) => Some(if len == udp { Protocol::Udp } else { Protocol::Tcp }),
        _ if is_text(content) => None,
        _ if holds(&EC) => Some(Protocol::Udp),
        _ if holds(&E) => Some(Protocol::Tcp),
        len if len == udp => Some(Protocol::Udp),
        // The place in the device, what firmware reads of it, and the lengths of keys.
        len if (605..=tcp).contains(&len) || len == 1216 => Some(Protocol::Tcp),
        _ => None,
    }
}

/// Which key's place in a device the bytes are, if text is in it: with the padding of the place or older bytes behind it, or cut off
/// at the end of the place. A device cannot use it, whatever the text says.
pub(crate) fn text_in_field(content: &[u8]) -> Option<KeyAlgorithm> {
    let protocol = match content.len() {
        len if len == Protocol::Udp.private_key_len() => Protocol::Udp,
        len if is_rsa_place(len) => Protocol::Tcp,
        _ => return None,
    };
    is_text_in_place(content).then_some(protocol.algorithm())
}

/// As [`text_in_field`], for the place of a server's key and address.
pub(crate) fn text_in_region(content: &[u8]) -> Option<ServerKeyKind> {
    let has = |part: &[u8]| content.windows(part.len()).any(|window| window == part);
    let protocol = protocol_of_region(content.len()).or_else(|| {
        // As long as the place of a device's key.
        let is_other = content.len() == Field::ALT_SERVER_PUBLIC_KEY.len() && has(b" PUBLIC KEY-----");
        is_other.then_some(Protocol::Udp)
    })?;
    is_text_in_place(content).then(|| protocol.server_key_kind())
}

/// Of which devices bytes of this number may be the server's key and address.
pub(super) fn protocol_of_region(len: usize) -> Option<Protocol> {
    let is_region = |protocol: &Protocol| {
        protocol.algorithm().server_region_len() == len
            || *protocol == Protocol::Tcp && Field::SERVER_PUBLIC_KEY.len() == len
    };
    [Protocol::Tcp, Protocol::Udp].into_iter().find(is_region)
}

pub(super) fn is_rsa_place(len: usize) -> bool {
    len == Protocol::Tcp.private_key_len() || len == Field::DEVICE_PRIVATE_KEY.len()
}

fn is_text_in_place(content: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let last = |mark: &[u8]| content.windows(mark.len()).rposition(|window| window == mark);
    let Some(begin) = content.windows(BEGIN.len()).position(|window| window == BEGIN) else { return false };
    let is_whole = last(b"-----END ") > last(BEGIN);
    let is_der = !matches!(KeyForm::of(content), None | Some(KeyForm::Pem));
    !is_der && (!is_whole || !content.get(begin..).is_some_and(is_text))
}

/// Whether the bytes are as many as a device has for a private key, or reads of it.
pub(crate) fn has_length_of_field(content: &[u8]) -> bool {
    let lengths =
        [Protocol::Udp.private_key_len(), Protocol::Tcp.private_key_len(), Field::DEVICE_PRIVATE_KEY.len()];
    lengths.contains(&content.len())
}

/// Whether bytes that nothing is known of are taken for the place of a device's key.
pub(crate) fn may_be_of_a_device(content: &[u8]) -> bool {
    protocol_of(content).is_some()
}

pub(super) fn is_text(content: &[u8]) -> bool {
    core::str::from_utf8(content)
        .is_ok_and(|text| text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()))
}
