#![no_main]
//! See `spark_fuzz::dct::recovery`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dct::recovery(data));
