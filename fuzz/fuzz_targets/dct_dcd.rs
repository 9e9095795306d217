#![no_main]
//! See `spark_fuzz::dct::dcd`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dct::dcd(data));
