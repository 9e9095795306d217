#![no_main]
//! See `spark_fuzz::dct::server_address`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dct::server_address(data));
