//! Any JSON as a mapping, over any JSON as an event: no panic. The two are separated by a zero byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::mapping::{Event, compile};

fuzz_target!(|text: &str| {
    let (mapping, event) = text.split_once('\0').unwrap_or((text, "{}"));
    if let (Ok(mapping), Ok(event)) = (serde_json::from_str(mapping), Event::parse(event)) {
        if let Ok(plan) = compile(&mapping) {
            let _ = plan.output(&event);
        }
    }
});
