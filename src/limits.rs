//! How much is too much? Every limit on input, in one place, with its source.

/// One message, as it stands in its line (Segment: 32 KB per event).
pub const MESSAGE_MAX_BYTES: usize = 32 * 1024;
/// Longer message ids are dropped by Segment without a word; we refuse the line.
pub const MESSAGE_ID_MAX_CHARS: usize = 100;
/// Traits of one identify or group call (Segment refuses 300 and more), and properties of one event.
pub const FIELDS_MAX: usize = 300;
/// A user id, an anonymous id, an email, a group id (Segment: groupId 500). It must fit an index entry in any script.
pub const IDENTIFIER_MAX_CHARS: usize = 500;
pub const IDENTIFIER_TYPE_MAX_CHARS: usize = 60;
/// An event's name; it must fit an index entry.
pub const EVENT_NAME_MAX_CHARS: usize = 500;
/// Objects and arrays within each other in one message. Readers of JSON commonly stop at 128.
pub const NESTING_MAX: usize = 100;
/// Digits, point and exponent of one number in JSON; jsonb refuses what `numeric` cannot hold.
pub const NUMBER_MAX_CHARS: usize = 400;
pub const EXPONENT_MAX: u32 = 400;
/// The first and last year of an event (Segment: from 1970).
pub const EVENT_YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;
/// Monthly partitions of events; what falls outside goes to the default one. Each costs planning time and locks.
pub const PARTITIONS_MAX: usize = 240;
/// Messages stored in one transaction of an import, and their bytes.
pub const BATCH_MAX_MESSAGES: usize = 50_000;
pub const BATCH_MAX_BYTES: usize = 32 * 1024 * 1024;
