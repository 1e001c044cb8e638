//! What does one event become for one mapping? The result types that delivery consumes.

/// A Kafka record, ready to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    /// The partition asked for (`partition`, else `default_partition`); otherwise the key's hash decides, or round robin.
    pub partition: Option<i32>,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970; `None` leaves it to the producer.
    pub timestamp_ms: Option<i64>,
}

/// What a mapping says about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Record(Record),
    /// The trigger does not match.
    Unsubscribed,
    /// The trigger matches, but no valid record comes of it.
    Rejected(Rejection),
}

/// Why no record can come of an event: a stable code and a text without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: &'static str,
    pub detail: String,
}
