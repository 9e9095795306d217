//! The rows, in the order of a connection's way: first what a device finds out, then what a server does.

use super::FailurePoint as P;
use super::{End, ProtocolError, Row, Signal};

/// Every row, the device's first, each in the order of a connection's way.
pub static ROWS: [&Row; 26] = [
    &NO_INTERNET,
    &CLOUD_UNREACHABLE,
    &ADDRESS_LOST,
    &NO_NONCE,
    &SERVER_KEY_UNUSABLE,
    &DTLS_SERVER_KEY,
    &DROPPED_AFTER_IDENTITY,
    &SILENT_AFTER_IDENTITY,
    &DEVICE_KEY_MISMATCH,
    &SERVER_KEY_MISMATCH,
    &HELLO_NOT_SENT,
    &NO_SERVER_HELLO,
    &SERVER_FRAME_GARBLED,
    &LOST_BEFORE_HELLO,
    &SESSION_SILENT,
    &NO_IDENTITY,
    &IDENTITY_REJECTED,
    &DEVICE_UNKNOWN,
    &DEVICE_KEY_DIFFERS,
    &DEVICE_REFUSED,
    &RECORD_UNUSABLE,
    &HELLO_MISSING,
    &HELLO_GARBLED,
    &NOT_HELLO,
    &BAD_COUNTER,
    &FOREIGN_RESULT,
];

/// Nothing known: the base of the rows below.
const DEVICE: Row = Row {
    code: "",
    end: End::Device,
    points: &[],
    symptom: "cyan blinking, one short red flash, and again",
    meaning: "",
    server: "nothing arrives",
    action: "",
    signals: Signal::FAILED,
    old: &[],
    new: &[],
};

const SERVER: Row = Row { end: End::Server, signals: &[], ..DEVICE };

pub(super) static NO_INTERNET: Row = Row {
    code: "no-internet",
    points: &[P::Connect],
    symptom: "cyan blinking with two orange flashes in between",
    meaning: "the device has no TCP connection, and its test of the internet fails as well",
    action: "check router and DNS",
    signals: Signal::NO_INTERNET,
    ..DEVICE
};

pub(super) static CLOUD_UNREACHABLE: Row = Row {
    code: "cloud-unreachable",
    points: &[P::Connect],
    symptom: "cyan blinking with three orange flashes in between",
    meaning: "TCP does not connect although the internet is there",
    action: "check address, port and firewall of the server; was it started again on another address?",
    signals: Signal::NO_CLOUD,
    ..DEVICE
};

pub(super) static ADDRESS_LOST: Row = Row {
    code: "address-lost",
    points: &[P::Connect, P::SessionMessage],
    symptom: "cyan blinking, red flashes, and a log with `type:255`",
    meaning: "the device has no server address; on one that was online before, the server key beside it is lost too",
    server: "nothing: TCP devices go to device.spark.io, port 5683, instead; UDP devices go nowhere",
    action: "write the server's public key together with its address to the device again",
    ..DEVICE
};

pub(super) static NO_NONCE: Row = Row {
    code: "no-nonce",
    points: &[P::Nonce],
    meaning: "TCP connects, but what listens there does not begin as a Spark server does",
    server: "nothing, or a connection that it closed itself",
    action: "check that a Spark server listens at this address and port",
    old: &[-19, -18, -20, -17, -11, -1],
    new: &[ProtocolError::LIGHTSSL_HANDSHAKE_NONCE],
    ..DEVICE
};

pub(super) static SERVER_KEY_UNUSABLE: Row = Row {
    code: "server-key-unusable",
    points: &[P::Encrypt],
    meaning: "the stored server key is no RSA key that can encrypt",
    server: "a connection that says nothing and closes",
    action: "write the server's public key to the device again",
    old: &[7],
    new: &[ProtocolError::ENCRYPTION_ERROR],
    ..DEVICE
};

pub(super) static DTLS_SERVER_KEY: Row = Row {
    code: "dtls-server-key",
    meaning: "a UDP device cannot parse the server key it has stored",
    action: "write the server's public key (of the elliptic-curve kind) to the device again",
    new: &[ProtocolError::PARSING_SERVER_PUBLIC_KEY],
    ..DEVICE
};

pub(super) static DROPPED_AFTER_IDENTITY: Row = Row {
    code: "dropped-after-identity",
    points: &[P::SessionMessage],
    meaning: "the server closed the connection when it had the device's identity: it could not decrypt it, does not \
              know the device, or has another public key for it",
    server: "the reason is in its log, and only there: the device is told nothing",
    action: "write the server's public key to the device, enrol the device's public key at the server, and look \
             into the server's log for the check that failed",
    old: &[-19, -18, -20, -17, -11],
    new: &[ProtocolError::LIGHTSSL_HANDSHAKE_RECV_KEY],
    ..DEVICE
};

pub(super) static SILENT_AFTER_IDENTITY: Row = Row {
    code: "silent-after-identity",
    points: &[P::SessionMessage],
    meaning: "the server took the device's identity and said nothing for 20 seconds",
    server: "a handshake that waits, for a key service or for bytes that were lost",
    action: "look at the server's log and load: something holds its handshakes up",
    old: &[-1],
    new: &[ProtocolError::LIGHTSSL_HANDSHAKE_RECV_KEY],
    ..DEVICE
};

pub(super) static DEVICE_KEY_MISMATCH: Row = Row {
    code: "device-key-mismatch",
    points: &[P::Decrypt],
    symptom: "cyan blinking, one short orange flash (red with Device OS 2), and again",
    meaning: "the server used a public key that does not belong to this device's private key",
    server: "the device closes instead of saying Hello",
    action: "enrol this device's key at the server, after a new key if the old one is damaged",
    signals: Signal::NOT_DECRYPTED,
    old: &[6],
    new: &[ProtocolError::DECRYPTION_ERROR],
    ..DEVICE
};

pub(super) static SERVER_KEY_MISMATCH: Row = Row {
    code: "server-key-mismatch",
    points: &[P::Verify],
    symptom: "cyan blinking, one short magenta flash (red with Device OS 2), and again",
    meaning: "the server is not the one whose public key the device holds, or it signs in another way",
    server: "the device closes instead of saying Hello",
    action: "write the right server's public key to the device",
    signals: Signal::NOT_SIGNED,
    old: &[8],
    new: &[ProtocolError::AUTHENTICATION_ERROR],
    ..DEVICE
};

pub(super) static HELLO_NOT_SENT: Row = Row {
    code: "hello-not-sent",
    points: &[P::SendHello],
    meaning: "both ends agreed on keys, then the connection was gone",
    server: "the device is lost before its Hello",
    action: "check the Wi-Fi and what closes connections on the way",
    old: &[-19, -18, -20, -17, -11, -1],
    new: &[ProtocolError::LIGHTSSL_BLOCKING_SEND],
    ..DEVICE
};

pub(super) static NO_SERVER_HELLO: Row = Row {
    code: "no-server-hello",
    points: &[P::ReceiveHello],
    meaning: "the server agreed on keys and did not answer the device's Hello within 2 or 4 seconds",
    server: "it could not decrypt the device's first frame, or it sent a Hello that the device does not know",
    action: "look into the server's log: it accepted the keys and then went wrong",
    old: &[-1],
    new: &[ProtocolError::MESSAGE_TIMEOUT],
    ..DEVICE
};

pub(super) static SERVER_FRAME_GARBLED: Row = Row {
    code: "server-frame-garbled",
    points: &[P::ReceiveHello],
    meaning: "the server's first frame does not decrypt although both ends agreed on keys",
    server: "nothing unusual: it sent its Hello",
    action: "look for lost or changed bytes on the way, and for a server that chains its frames in another way",
    old: &[-1],
    new: &[ProtocolError::MESSAGE_TIMEOUT],
    ..DEVICE
};

pub(super) static LOST_BEFORE_HELLO: Row = Row {
    code: "lost-before-hello",
    points: &[P::ReceiveHello],
    meaning: "the connection was lost, or closed by the server, while the device waited for its Hello",
    server: "it closed after the device's first frame, or lost the connection",
    action: "look into the server's log: it accepted the keys and then went away",
    old: &[-1],
    new: &[ProtocolError::LIGHTSSL_RECEIVE],
    ..DEVICE
};

pub(super) static SESSION_SILENT: Row = Row {
    code: "session-silent",
    symptom: "online, then cyan blinking, and online again",
    meaning: "a session that worked went silent: no answer to a ping for 10 seconds",
    server: "a connection that is reset, or says nothing for more than 25 seconds",
    action: "check what lies between device and server: weak Wi-Fi, address translation, a server that hangs",
    signals: &[],
    new: &[ProtocolError::PING_TIMEOUT],
    ..DEVICE
};

pub(super) static NO_IDENTITY: Row = Row {
    code: "no-identity",
    points: &[P::Nonce, P::Encrypt],
    meaning: "something connected and did not send the 256 bytes of a device's identity",
    server: "`read_coreid timed out`; `Handshake did not complete in 10 seconds`",
    action: "look for a port scanner or a proxy; if it is a device, write the server's public key to it again",
    ..SERVER
};

pub(super) static IDENTITY_REJECTED: Row = Row {
    code: "identity-rejected",
    points: &[P::SessionMessage],
    meaning: "the identity does not decrypt to what it has to be: mostly the device holds another server's key",
    server: "`decryption failed`, `handshake data decryption failed`, `plaintext was too small`, `nonces didn't match`",
    action: "the device holds another server's key: write this server's public key to it",
    ..SERVER
};

pub(super) static DEVICE_UNKNOWN: Row = Row {
    code: "device-unknown",
    points: &[P::SessionMessage],
    meaning: "the server has no public key for this device id",
    server: "`couldn't find key for core: ID`, `no public key found for device: ID`",
    action: "enrol the device's public key at the server",
    ..SERVER
};

pub(super) static DEVICE_KEY_DIFFERS: Row = Row {
    code: "device-key-differs",
    points: &[P::SessionMessage],
    symptom: "cyan blinking and red flashes; a server that does not compare keys makes it orange",
    meaning: "the device id is right, but its key is not the recorded one: it got a new key, or lost its own, as after \
              a brown-out",
    server: "`key passed to device during handshake doesn'tmatch saved public key: ID`; the older server does not \
             notice",
    action: "say that the key changed, and enrol the new one if that is expected",
    ..SERVER
};

pub(super) static DEVICE_REFUSED: Row = Row {
    code: "device-refused",
    points: &[P::SessionMessage],
    meaning: "the server decided against the device: its id is unknown, or its key differs from the record",
    server: "its own decision",
    action: "enrol the device's public key, or replace the recorded one if the device got a new key",
    ..SERVER
};

pub(super) static RECORD_UNUSABLE: Row = Row {
    code: "record-unusable",
    points: &[P::SessionMessage],
    meaning: "the recorded device key is not RSA-1024, or the server's own key cannot sign",
    server: "a failure while it makes the session message; an elliptic-curve key of a UDP device is one cause",
    action: "the recorded device key or the server key is not usable: enrol the device again",
    ..SERVER
};

pub(super) static HELLO_MISSING: Row = Row {
    code: "hello-missing",
    points: &[P::Decrypt, P::Verify, P::SendHello],
    symptom: "one short flash: orange if the device's key does not fit, magenta if the server's does not; red with \
              Device OS 2",
    meaning: "the device did not say Hello after the session message: it refused it, or the connection was lost",
    server: "`get_hello timed out`, or the device closes",
    action: "look at the device's LED or log: orange or 6 asks for its key here, magenta or 8 for this server's key \
             there",
    ..SERVER
};

pub(super) static HELLO_GARBLED: Row = Row {
    code: "hello-garbled",
    points: &[P::Decrypt, P::ReceiveHello],
    meaning: "the device's first frame does not decrypt: the server used a public key that is not this device's",
    server: "`wrong device public keys`, or a first frame of garbage",
    action: "the recorded public key is not this device's: enrol it again",
    ..SERVER
};

pub(super) static NOT_HELLO: Row = Row {
    code: "not-hello",
    points: &[P::ReceiveHello],
    meaning: "the device's first message is not a Hello",
    server: "`failed to parse hello`",
    action: "find out what program plays the device: no firmware of a device does this",
    ..SERVER
};

pub(super) static BAD_COUNTER: Row = Row {
    code: "bad-counter",
    symptom: "works, then is offline for a moment, for instance after a signal",
    meaning: "the server counts message ids more strictly than firmware does: 0.8 to 2.3.1 acknowledges pings and \
              signals with ids of its own",
    server: "`Bad Counter`, and it closes the session",
    action: "let the server tolerate ids that are ahead; nothing is wrong with the device",
    ..SERVER
};

pub(super) static FOREIGN_RESULT: Row = Row {
    code: "foreign-result",
    symptom: "whatever a closed connection looks like at this step",
    meaning: "the program gave one connection the result of another one's job",
    server: "its own mistake",
    action: "report it to the authors of this program: jobs and connections are mixed up",
    ..SERVER
};
