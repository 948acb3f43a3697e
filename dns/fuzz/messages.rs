#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| dns_server::fuzz::read(packet));
