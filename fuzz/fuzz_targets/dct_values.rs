#![no_main]
//! See `spark_fuzz::dct::values`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dct::values(data));
