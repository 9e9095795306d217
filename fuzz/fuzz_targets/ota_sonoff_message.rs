#![no_main]
//! See `spark_fuzz::ota_sonoff::message`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_sonoff::message(data));
