//! Bodies of the fuzz targets, one function of a byte slice each, grouped by crate.
//!
//! `fuzz_targets/` calls them from libFuzzer, `tests/corpus.rs` from stable Rust with every file of `corpus/`. A body
//! panics when a promise of the crate is broken; wherever something can be encoded again it is, since round trips find
//! more than the absence of panics. State machines read operations from the bytes (see [`input::Input`]).
#![forbid(unsafe_code)]

pub mod coap;
pub mod coap_diagnosis;
pub mod coap_udp;
pub mod dct;
pub mod dfu;
pub mod dfu_file;
pub mod input;
pub mod keys;
pub mod ota;
pub mod ota_esp8266;
pub mod ota_module;
pub mod ota_serial;
pub mod ota_sonoff;
pub mod ota_sonoff_server;
pub mod ota_v3;

/// A body.
pub type Body = fn(&[u8]);

/// Every target by the name of its folder in `corpus/`.
pub const TARGETS: &[(&str, Body)] = &[
    ("dfu_layout", dfu::layout),
    ("dfu_descriptors", dfu::descriptors),
    ("dfu_device", dfu::device),
    ("dfu_host", dfu::host),
    ("dfu_suffix", dfu_file::suffix),
    ("dfu_dfuse_file", dfu_file::dfuse),
    ("dct_app", dct::app),
    ("dct_dcd", dct::dcd),
    ("dct_recovery", dct::recovery),
    ("dct_sections", dct::sections),
    ("dct_server_address", dct::server_address),
    ("dct_values", dct::values),
    ("dct_wiced", dct::wiced),
    ("keys_check", keys::check),
    ("keys_load", keys::load),
    ("keys_ec", keys::ec),
    ("keys_repair", keys::repair),
    ("coap_message", coap::message),
    ("coap_envelope", coap::envelope),
    ("coap_frame", coap::frame),
    ("coap_handshake", coap::handshake),
    ("coap_describe", coap::describe),
    ("coap_payload", coap::payload),
    ("coap_batch", coap::batch),
    ("coap_saved", coap::saved),
    ("coap_connection", coap::connection),
    ("coap_diagnosis", coap_diagnosis::diagnosis),
    ("coap_udp", coap_udp::udp),
    ("ota_receiver", ota::receiver),
    ("ota_sender", ota::sender),
    ("ota_module", ota::module),
    ("ota_resolve", ota::resolve),
    ("ota_describe", ota::describe),
    ("ota_v3_receiver", ota_v3::receiver),
    ("ota_v3_sender", ota_v3::sender),
    ("ota_v3_message", ota_v3::message),
    ("ota_ymodem_sender", ota_serial::ymodem_sender),
    ("ota_ymodem_receiver", ota_serial::ymodem_receiver),
    ("ota_listening_host", ota_serial::listening_host),
    ("ota_listening_device", ota_serial::listening_device),
    ("ota_extensions", ota_module::extensions),
    ("ota_compressed", ota_module::compressed),
    ("ota_bundle", ota_module::bundle),
    ("ota_flashing", ota_module::flashing),
    ("ota_esp8266_image", ota_esp8266::image),
    ("ota_esp8266_build", ota_esp8266::build),
    ("ota_sonoff_message", ota_sonoff::message),
    ("ota_sonoff_frame", ota_sonoff::frame),
    ("ota_sonoff_http", ota_sonoff::http),
    ("ota_sonoff_device", ota_sonoff::device),
    ("ota_sonoff_server", ota_sonoff_server::server),
];
