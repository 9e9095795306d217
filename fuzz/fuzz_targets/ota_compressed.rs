#![no_main]
//! See `spark_fuzz::ota_module::compressed`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_module::compressed(data));
