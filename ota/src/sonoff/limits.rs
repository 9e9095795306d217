//! Every number that a device imposes.
//!
//! Several texts are copied on the device without a bound: what is longer is not only refused there. Nothing that exceeds
//! these numbers is ever emitted. Lengths are in bytes.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation (`iotgo_*.c`, `iotgo_type.h`); times and sizes of the paced download are those
//! of SonOTA@40dba7c.

use core::time::Duration;

/// Bytes of a device id.
pub const DEVICE_ID: usize = 10;
/// Bytes of factory key and session key. Longer session keys are cut to this by the device.
pub const API_KEY: usize = 36;
/// Bytes of a model.
pub const MODEL: usize = 20;
/// Bytes of a version that we keep.
pub const VERSION: usize = 32;
/// Bytes of a version that a device keeps and compares.
pub const VERSION_COMPARED: usize = 5;
/// Bytes of a `sequence`.
pub const SEQUENCE: usize = 50;

/// Bytes of the name of a Wi-Fi network.
pub const SSID: usize = 31;
/// Bytes of a Wi-Fi password.
pub const WIFI_PASSWORD: usize = 63;
/// Bytes of the name or address of a dispatch server, and of `IP` in its answer.
pub const SERVER_NAME: usize = 50;
/// Bytes that the device's own HTTP server receives at most.
pub const AP_REQUEST: usize = 2048;
/// A device leaves pairing mode after this.
pub const PAIRING: Duration = Duration::from_secs(180);
/// The device's access point closes this long after it has answered.
pub const AP_CLOSES: Duration = Duration::from_secs(1);

/// Bytes of a dispatch answer, head and body.
pub const DISPATCH_ANSWER: usize = 2048;
/// A dispatch answer has to come within this time.
pub const DISPATCH: Duration = Duration::from_secs(10);
/// A device sends its dispatch request this long after it is connected.
pub const DISPATCH_DELAY: Duration = Duration::from_millis(200);
/// Longest wait before a device tries to connect again.
pub const RETRY: Duration = Duration::from_secs(120);
/// After so many failures a device tries the last address that worked.
pub const DISPATCH_FAILURES: u32 = 3;

/// Bytes of a frame to the device, header and payload.
pub const SERVER_FRAME: usize = 2048;
/// Bytes of a message to the device: a frame without its longest header.
pub const SERVER_MESSAGE: usize = SERVER_FRAME - 4;
/// Bytes of a message of a device.
pub const DEVICE_MESSAGE: usize = 1024;
/// A message, once begun, is complete within this time.
pub const PACKET: Duration = Duration::from_secs(10);
/// A device that is not registered this long restarts its network.
pub const REGISTRATION: Duration = Duration::from_secs(60);
/// A device that was not told an interval sends a ping after this silence.
pub const HEARTBEAT_UNTOLD: Duration = Duration::from_secs(7);
/// Added to the interval at random, at most.
pub const HEARTBEAT_JITTER: Duration = Duration::from_secs(7);
/// Interval that servers give, in seconds.
pub const HEARTBEAT_INTERVAL: u16 = 145;
/// A device closes the connection after so many pings without an answer.
pub const PINGS_UNANSWERED: u8 = 2;
/// A device asks for the date again after this.
pub const DATE_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Characters of a date.
pub const DATE: usize = 24;

/// Bytes of the name of an entry of `binList`.
pub const ENTRY_NAME: usize = 19;
/// Bytes of a `downloadUrl`.
pub const URL: usize = 149;
/// Bytes of its host.
pub const URL_HOST: usize = 49;
/// Bytes of its path.
pub const URL_PATH: usize = 99;
/// Digits of a digest.
pub const DIGEST: usize = 64;

/// Bytes of an image: 460 KiB, for both slots.
pub const IMAGE: u32 = 460 * 1024;
/// Bytes that a device asks for at once, and of a sector of its flash.
pub const CHUNK: u32 = 4096;
/// Bytes of a head and a body of a download together.
pub const DOWNLOAD_ANSWER: usize = 5120;
/// Bytes of the head of an answer with a whole chunk.
pub const DOWNLOAD_HEAD: usize = DOWNLOAD_ANSWER - 4096;
/// A download fails when nothing comes for this long.
pub const DOWNLOAD_SILENCE: Duration = Duration::from_secs(10);
/// A whole download fails after this.
pub const DOWNLOAD: Duration = Duration::from_secs(180);
/// A broken download is continued so often, after 1, 2 and 3 seconds.
pub const RECONNECTS: u8 = 3;
/// Later firmware acknowledges an upgrade this long before the download.
pub const DOWNLOAD_DELAY: Duration = Duration::from_millis(50);
/// A device reboots this long after a success.
pub const REBOOT: Duration = Duration::from_secs(3);

/// Body bytes that go with the head of a paced download …
pub const PACE_FIRST: usize = 10;
/// … this long before the others …
pub const PACE_PAUSE: Duration = Duration::from_millis(900);
/// … which come in pieces of so many bytes, so that no segment exceeds what the device announces …
pub const PACE_PIECE: usize = 1400;
/// … one after each of these.
pub const PACE_INTERVAL: Duration = Duration::from_millis(300);

/// Bytes of a request head that a server of ours reads; a device's has about 350.
pub const REQUEST_HEAD: usize = 4096;
/// Header lines of such a head.
pub const HEADERS: usize = 32;
/// Bytes of the body of a request.
pub const REQUEST_BODY: usize = 2048;

/// Smallest file that the intermediate image takes.
pub const FINAL_SMALLEST: u32 = 4096;
/// Largest final image, written to 0x0.
pub const FINAL_IMAGE: u32 = 0x8_0000;
/// Largest image of slot 2 that the intermediate image takes.
pub const FINAL_USER2: u32 = 0x7_f000;

/// Bytes of an image in DIY mode.
pub const DIY_IMAGE: u32 = 508 * 1024;
/// Shortest time between two requests in DIY mode.
pub const DIY_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of an answer in DIY mode.
pub const DIY_ANSWER: usize = 4096;
/// Bytes of `type` in an announcement.
pub const ANNOUNCED_TYPE: usize = 32;
/// Bytes of a text in a TXT record.
pub const TXT_TEXT: usize = 255;
