//! Any text as a Liquid template: no panic, and an end within the bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::mapping::{Event, Liquid};

fuzz_target!(|template: &str| {
    let event = Event::parse(r#"{"a":1,"b":[1,"x",null,{"c":2}],"d":{"e":"text"},"f":"2025-03-14T09:26:53.589Z"}"#);
    if let (Ok(liquid), Ok(event)) = (Liquid::parse(template), event) {
        if let Ok(text) = liquid.render(event.tree()) {
            assert!(text.len() <= 4 << 20);
        }
    }
});
