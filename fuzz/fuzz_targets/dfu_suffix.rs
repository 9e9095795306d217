#![no_main]
//! See `spark_fuzz::dfu_file::suffix`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::dfu_file::suffix(data));
