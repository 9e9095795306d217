#![no_main]
//! See `spark_fuzz::coap::envelope`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::coap::envelope(data));
