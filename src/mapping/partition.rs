//! Which partition does a record go to? The record's own, else the hash of its key, else round robin that fills batches.

/// murmur2 with Kafka's seed, over the key's bytes: what Java's client and KafkaJS compute.
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java hashes arrays, whose length is an i32; keys that are longer cannot be sent anyway.
    let mut hash = SEED ^ (key.len() as u32);
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a key among `count` (at least one).
pub fn partition_for_key(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count.max(1)
}

/// Why a record has no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The topic has no such partition.
    Partition { asked: i32, count: i32 },
    /// The topic has no partition at all.
    Topic,
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Absent::Partition { asked, count } => {
                write!(f, "partition {asked} is asked for, but the topic's {count} partitions are 0 to {}", count - 1)
            }
            Absent::Topic => f.write_str("the topic has no partition"),
        }
    }
}

/// Chooses partitions of one topic.
///
/// Records without key and partition stay on one partition until a batch is full and then move on (KIP-480), so that
/// batches are large. Partitions without a leader are passed over, unless none has one.
#[derive(Debug, Clone, Default)]
pub struct Partitioner {
    sticky: i32,
    /// Bytes put on the sticky partition so far.
    filled: usize,
}

impl Partitioner {
    /// The partition for a record of `bytes` that asks for `partition` or has a `key`. `leaders` holds, by partition, whether
    /// it has a leader.
    pub fn choose(
        &mut self,
        partition: Option<i32>,
        key: Option<&[u8]>,
        bytes: usize,
        batch_bytes: usize,
        leaders: &[bool],
    ) -> Result<i32, Absent> {
        let count = i32::try_from(leaders.len()).unwrap_or(i32::MAX);
        match (partition, key) {
            _ if count == 0 => Err(Absent::Topic),
            (Some(asked), _) if (0..count).contains(&asked) => Ok(asked),
            (Some(asked), _) => Err(Absent::Partition { asked, count }),
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => {
                if self.filled > 0 && self.filled + bytes > batch_bytes {
                    self.sticky = (self.sticky + 1) % count;
                    self.filled = 0;
                }
                self.filled += bytes;
                let led = (0..count).map(|ahead| (self.sticky + ahead) % count).find(|at| leaders[*at as usize]);
                self.sticky = led.unwrap_or(self.sticky % count);
                Ok(self.sticky)
            }
        }
    }
}
