#![no_main]
//! See `spark_fuzz::ota_serial::listening_device`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_serial::listening_device(data));
