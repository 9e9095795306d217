#![no_main]
//! See `spark_fuzz::ota_sonoff_server::server`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_sonoff_server::server(data));
