#![no_main]
//! See `spark_fuzz::coap_diagnosis::diagnosis`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| spark_fuzz::coap_diagnosis::diagnosis(data));
