#![no_main]
//! See `spark_fuzz::ota_serial::ymodem_sender`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_serial::ymodem_sender(data));
