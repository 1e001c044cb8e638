//! How is a text written for a URL, for HTML, in base64? The encodings of Liquid's filters, as LiquidJS does them.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{js, mapping::Fault};

pub fn in_words(text: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_space = false;
    for char in text.chars() {
        if !js::is_space(char) {
            out.push(char);
        } else if !in_space {
            out.push_str(by);
        }
        in_space = js::is_space(char);
    }
    out
}

const ENTITIES: [(&str, &str); 5] = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];

pub fn escape(text: &str) -> String {
    ENTITIES.iter().fold(text.to_owned(), |text, (char, entity)| text.replace(char, entity))
}

pub fn unescape(text: &str) -> String {
    // The ampersand last, so that an escaped entity comes out as one.
    ENTITIES.iter().rev().fold(text.to_owned(), |text, (char, entity)| text.replace(entity, char))
}

pub fn percent_encode(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let char = char::from(byte);
        if char.is_ascii_alphanumeric() || (char.is_ascii() && kept.contains(char)) {
            out.push(char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub fn percent_decode(text: &str) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        bytes.push(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or("URI malformed")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "URI malformed".into())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What is no digit is passed over.
pub fn base64_decode(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| BASE64.iter().position(|digit| *digit == byte));
    let (mut out, mut word, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        word = (word << 6 | digit as u32) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    out
}
