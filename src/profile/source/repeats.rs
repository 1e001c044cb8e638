//! How many messages of the same content came before this one? Asked for messages without an id: two equal ones in a file are two, and
//! the same content in another file, or in another form of the file, is the same message.
//!
//! For a file it counts only the contents that come more than once: a first pass finds them, with a few bits for each message. A
//! stream is read once, so there it keeps 16 bytes for each message without an id.

use std::{collections::HashMap, hash::BuildHasher};

use foldhash::fast::FixedState;

use crate::profile::json::compact;

/// Counts of contents, by their hash.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    counts: HashMap<u64, u32, FixedState>,
    /// Whether contents that have no count came once only.
    is_closed: bool,
}

/// Finds contents that may come more than once.
pub(super) struct Finder {
    bits: Vec<u64>,
    repeated: Repeats,
}

impl Finder {
    /// For about that many messages.
    pub fn new(messages: u64) -> Finder {
        // Sixteen bits each: of those that come once, one in sixteen at most is kept for nothing. 128 MiB at most.
        let words = (messages / 4).clamp(1 << 10, 1 << 24).next_power_of_two();
        Finder { bits: vec![0; words as usize], repeated: Repeats { is_closed: true, ..Repeats::default() } }
    }

    /// Notes that it came.
    pub fn see(&mut self, content: u64) {
        let bit = content % (self.bits.len() as u64 * 64);
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        if self.bits[word] & mask != 0 {
            self.repeated.counts.insert(content, 0);
        }
        self.bits[word] |= mask;
    }

    /// Counts of what came more than once, from nothing on.
    pub fn found(self) -> Repeats {
        self.repeated
    }
}

impl Repeats {
    /// How many of this content came before; from now on one more.
    pub fn next(&mut self, content: u64) -> u32 {
        let count = match self.is_closed {
            true => self.counts.get_mut(&content),
            false => Some(self.counts.entry(content).or_default()),
        };
        count.map_or(0, |count| {
            *count += 1;
            *count - 1
        })
    }
}

/// Of a message's JSON, the same whatever spaces stand between its parts.
pub(super) fn content(json: &[u8]) -> u64 {
    FixedState::default().hash_one(&*compact(json.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_counted_and_what_comes_once_is_the_first() {
        let all: Vec<u64> = (0..10_000u64).map(|n| content(format!("{}", n / 2).as_bytes())).collect();
        let once = content(b"once");
        let mut finder = Finder::new(all.len() as u64);
        all.iter().chain([&once]).for_each(|content| finder.see(*content));
        let mut repeats = finder.found();
        let mut open = Repeats::default();
        for (n, content) in all.iter().enumerate() {
            assert_eq!(repeats.next(*content), n as u32 % 2);
            assert_eq!(open.next(*content), n as u32 % 2);
        }
        assert_eq!(repeats.next(once), 0);
    }
}
