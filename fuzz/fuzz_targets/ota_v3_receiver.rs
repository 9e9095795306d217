#![no_main]
//! See `spark_fuzz::ota_v3::receiver`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_v3::receiver(data));
