#![no_main]
//! See `spark_fuzz::keys::repair`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::keys::repair(data));
