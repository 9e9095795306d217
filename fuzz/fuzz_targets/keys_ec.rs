#![no_main]
//! See `spark_fuzz::keys::ec`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::keys::ec(data));
