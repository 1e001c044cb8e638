//! Any text as a request of the tracking API: no panic, and each message that is taken can be stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::http::tracking::call::{Address, Call, Received};

fuzz_target!(|text: &str| {
    for address in [Address::Batch, Address::One("identify"), Address::One("track")] {
        let Ok(call) = Call::read(address, text) else { continue };
        let messages = call.messages(Received { at: Default::default(), source: Some("fuzz"), rules: &Default::default() }, || [7; 16]);
        assert_eq!(messages.len(), call.count());
        for message in messages.into_iter().flatten() {
            assert!(!message.message_id.is_empty() && !message.message_id.contains('\0'));
            assert!(message.user_id.is_some() || message.anonymous_id.is_some());
        }
        let _ = call.write_key();
    }
});
