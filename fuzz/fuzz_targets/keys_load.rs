#![no_main]
//! See `spark_fuzz::keys::load`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::keys::load(data));
