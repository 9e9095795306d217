#![no_main]
//! See `spark_fuzz::dfu::host`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dfu::host(data));
