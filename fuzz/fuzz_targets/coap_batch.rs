#![no_main]
//! See `spark_fuzz::coap::batch`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::coap::batch(data));
