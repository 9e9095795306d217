#![no_main]
//! See `spark_fuzz::dfu::device`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dfu::device(data));
