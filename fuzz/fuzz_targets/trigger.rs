//! Any text as a trigger: no panic, problems that lie in the text, and printing that parses to the same trigger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::mapping::{Event, Trigger};

fuzz_target!(|text: &str| match Trigger::parse(text) {
    Ok(trigger) => {
        assert_eq!(Trigger::parse(&trigger.to_string()).as_ref(), Ok(&trigger));
        if let Ok(event) = Event::parse(r#"{"type":"identify","traits":{"a":[1,"x",null]},"userId":5}"#) {
            trigger.matches(&event);
        }
    }
    Err(problems) => assert!(problems.iter().all(|problem| text.get(problem.span.clone()).is_some())),
});
