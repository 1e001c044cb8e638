#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code, reason = "a target uses one of them")]
mod bodies;

libfuzzer_sys::fuzz_target!(|text: &str| bodies::file(text));
