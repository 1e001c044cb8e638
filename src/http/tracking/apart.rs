//! A batch is not JSON: which of its messages is to blame? The others are stored all the same. Pure.
//!
//! Python's `json.dumps` writes `NaN`, which is no JSON value, and would cost its whole batch.

use serde_json::value::RawValue;

use crate::profile::brackets::{Brackets, Step};

/// In the place of a message that is no JSON: refused by itself as no object.
const NO_MESSAGE: &str = "\"no JSON\"";

/// The body with each message of its `batch` that is no JSON taken out.
///
/// # Errors
/// The place in the batch of the message at which it cannot be taken apart; none if the fault is elsewhere.
pub fn mended(body: &str) -> Result<String, Option<usize>> {
    let list = list(body).ok_or(None)?;
    let (mut out, mut rest, mut nth) = (body[..list].to_owned(), &body[list..], 0);
    loop {
        let length = element(rest).ok_or(Some(nth))?;
        let (item, behind) = rest.split_at(length);
        let is_json = item.trim().is_empty() || serde_json::from_str::<&RawValue>(item).is_ok();
        out.push_str(if is_json { item } else { NO_MESSAGE });
        rest = behind;
        match behind.as_bytes().first() {
            Some(b',') => out.push(','),
            _ => break,
        }
        rest = &rest[1..];
        nth += 1;
    }
    out.push_str(rest);
    Ok(out)
}

/// The place behind the bracket with which the object's `batch` begins.
fn list(body: &str) -> Option<usize> {
    let mut brackets = Brackets::default();
    for (at, byte) in body.bytes().enumerate() {
        let begins = matches!(brackets.step(byte), Step::ListBegins);
        let before = || body[..at].trim_ascii_end().strip_suffix(':').map(str::trim_ascii_end);
        if begins && brackets.depth == 2 && before().is_some_and(|before| before.ends_with("\"batch\"")) {
            return Some(at + 1);
        }
    }
    None
}

/// How long the first element of a list is; it ends before a comma or the list's bracket.
fn element(list: &str) -> Option<usize> {
    let mut brackets = Brackets::default();
    for (at, byte) in list.bytes().enumerate() {
        if brackets.depth == 0 && !brackets.in_text && matches!(byte, b',' | b']') {
            return Some(at);
        }
        brackets.step(byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_messages_that_are_no_json_are_taken_out() {
        let body =
            r#"{"context":{"batch":[1]},"batch":[{"a":"]}"},{"a":NaN}, {"b":[1,Infinity]},{"c":1}],"sentAt":"x"}"#;
        let expected = r#"{"context":{"batch":[1]},"batch":[{"a":"]}"},"no JSON","no JSON",{"c":1}],"sentAt":"x"}"#;
        assert_eq!(mended(body).as_deref(), Ok(expected));
        assert_eq!(mended(r#"{"batch":[{"a":1},{"b":"cut"#), Err(Some(1)));
        assert_eq!(mended(r#"{"sentAt":NaN}"#), Err(None));
        assert_eq!(mended(r#"{"batch":[]"#).as_deref(), Ok(r#"{"batch":[]"#));
    }
}
