#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::laws::proxy_header(data));
