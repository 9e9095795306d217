#![no_main]
//! See `spark_fuzz::ota_serial::listening_host`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_serial::listening_host(data));
