#![no_main]
//! See `spark_fuzz::dfu_file::dfuse`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dfu_file::dfuse(data));
