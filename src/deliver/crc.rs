//! Is a record still what was told? A checksum that goes with it, over what it says and the place it was told for. Pure.

use flate2::Crc;

use crate::mapping::Record;

/// The header that carries it, as eight hexadecimal digits.
pub const HEADER: &str = "rollcall-crc32";

/// CRC-32, as zip, Python's `zlib.crc32` and Java's `CRC32` compute it: over stream, position, message id and key, each with a zero
/// byte behind it, and then the value. One flipped bit is always noticed.
pub fn of(stream: &[u8], position: &[u8], message_id: &[u8], key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    let mut crc = Crc::new();
    for part in [stream, position, message_id, key.unwrap_or_default()] {
        crc.update(part);
        crc.update(&[0]);
    }
    crc.update(value.unwrap_or_default());
    crc.sum()
}

/// The header's value, for a record that is about to be told.
pub fn text(stream: &str, position: &str, message_id: &str, record: &Record) -> String {
    let (stream, position, message_id) = (stream.as_bytes(), position.as_bytes(), message_id.as_bytes());
    let key = record.key.as_deref().map(str::as_bytes);
    format!("{:08x}", of(stream, position, message_id, key, record.value.as_deref()))
}
