#![no_main]
//! See `spark_fuzz::dfu::layout`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dfu::layout(data));
