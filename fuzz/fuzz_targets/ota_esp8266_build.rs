#![no_main]
//! See `spark_fuzz::ota_esp8266::build`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_esp8266::build(data));
