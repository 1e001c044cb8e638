//! Is it UTF-8? Files of other encodings are named as such, with what to do; nothing is guessed.

use crate::{Error, Result};

/// How much of a file tells.
pub(super) const HEAD_BYTES: u64 = 64;

/// Refuses a file whose first bytes are of UTF-16 or UTF-32: no line of it could be read.
///
/// # Errors
/// [`crate::Kind::Settings`], naming the encoding.
pub(super) fn check(head: &[u8], name: &str) -> Result<()> {
    let Some(encoding) = wide(head) else { return Ok(()) };
    Err(Error::settings(format!("{name} is {encoding} from its first line on, not UTF-8"))
        .help(format!("Save it as UTF-8, or convert it: iconv -f {encoding} -t UTF-8 FILE > NEW")))
}

fn wide(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    // Without a mark: every second byte of ASCII text is zero.
    let head = &head[..head.len().min(64) & !1];
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).all(|byte| *byte == 0);
    match head.len() {
        0..8 => None,
        _ if zeros(1) && !zeros(0) => Some("UTF-16LE"),
        _ if zeros(0) && !zeros(1) => Some("UTF-16BE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_encodings_are_known_with_and_without_a_mark() {
        let little: Vec<u8> = "type,userId\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "type,userId\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(wide(&little), Some("UTF-16LE"));
        assert_eq!(wide(&big), Some("UTF-16BE"));
        assert_eq!(wide(&[&[0xff, 0xfe], &little[..]].concat()), Some("UTF-16"));
        assert_eq!(wide("type,userId\n".as_bytes()), None);
        assert_eq!(wide(&[0; 64]), None);
    }
}
