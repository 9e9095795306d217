#![no_main]
//! See `spark_fuzz::ota_esp8266::image`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::ota_esp8266::image(data));
