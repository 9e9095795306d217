#![no_main]
//! See `spark_fuzz::coap::saved`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::coap::saved(data));
