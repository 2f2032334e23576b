#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuckoo_fuzz::numbers(data));
