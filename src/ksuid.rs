//! What do the peer's ids look like? KSUIDs: four bytes of time and sixteen of a hash, as 27 digits in base 62. Pure.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// KSUIDs count seconds from here (13 May 2014); earlier instants count as this one.
const EPOCH_SECONDS: i64 = 1_400_000_000;

/// The KSUID of an instant and of what was hashed: the same for the same.
pub fn of(at: DateTime<Utc>, hash: Sha256) -> String {
    let seconds = (at.timestamp() - EPOCH_SECONDS).clamp(0, u32::MAX.into()) as u32;
    let mut bytes = [0u8; 20];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..].copy_from_slice(&hash.finalize()[..16]);
    base_62(bytes)
}

fn base_62(bytes: [u8; 20]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut words = [0u32; 5];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    let mut digits = [b'0'; 27];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u64;
        for word in &mut words {
            let value = remainder << 32 | u64::from(*word);
            *word = (value / 62) as u32;
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ksuid_of_all_ones_is_the_largest() {
        assert_eq!(base_62([0xff; 20]), "aWgEPTl1tmebfsQzFP4bxwgy80V");
        assert_eq!(base_62([0; 20]), "000000000000000000000000000");
    }
}
