#![no_main]
//! See `spark_fuzz::ota::resolve`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota::resolve(data));
