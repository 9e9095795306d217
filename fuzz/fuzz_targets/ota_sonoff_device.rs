#![no_main]
//! See `spark_fuzz::ota_sonoff::device`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_sonoff::device(data));
