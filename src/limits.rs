//! How much is too much? Every limit on input, in one place, with its reason.

/// Bytes of a configuration file: thousands of audiences fit, a mistaken path to a dump does not.
pub const CONFIG_BYTES: usize = 4 << 20;
/// Values (scalars, lists, maps) of a configuration file after its YAML aliases are expanded: stops alias bombs.
pub const CONFIG_NODES: usize = 200_000;
/// Depth of nesting in a configuration file.
pub const CONFIG_DEPTH: usize = 64;
/// Problems told of one configuration file; the rest are counted.
pub const CONFIG_PROBLEMS: usize = 25;
/// Bytes of a file that `${file:…}` takes in: keys and certificates are a few thousand.
pub const SECRET_FILE_BYTES: u64 = 64 << 10;
/// Audiences of one configuration.
pub const AUDIENCES: usize = 10_000;
/// Mappings of one destination, as in Segment.
pub const MAPPINGS: usize = 50;
/// ID Sync entries of one audience, as in Segment.
pub const ID_SYNCS: usize = 5;
/// Characters of an audience's name.
pub const AUDIENCE_NAME_CHARS: usize = 255;
/// Bytes of an audience's key.
pub const AUDIENCE_KEY_BYTES: usize = 255;
/// Number properties of one event that `store.promote` gives a column.
pub const PROMOTED_PER_EVENT: usize = 2;
/// Identify events for one change of one profile, over all identifiers that ID Sync chooses.
pub const IDENTIFIES_PER_CHANGE: usize = 100;
/// Bytes of a schedule's text: the longest sensible crontab line is a few hundred.
pub const SCHEDULE_BYTES: usize = 1_000;
/// The longest period of `every`, in seconds: a year. A longer one is a typing error.
pub const PERIOD_SECONDS: u32 = 366 * 86_400;
/// The longest jitter, in seconds: an hour. It spreads load; it is not a way to move a schedule.
pub const JITTER_SECONDS: u32 = 3_600;
/// How late a tick may start under `catch_up: skip` before it counts as missed, in seconds.
pub const TICK_GRACE_SECONDS: i64 = 60;
/// The longest wait before a failed run is tried again, in seconds.
pub const RETRY_SECONDS: i64 = 3_600;

/// Characters in a definition (published: 10k).
pub const DEFINITION_CHARS: usize = 10_000;
/// Primary expressions, that is comparisons, in a definition, those within `where(…)` included (published).
pub const DEFINITION_COMPARISONS: usize = 50;
/// Parentheses, `NOT`s and `where(…)`s within each other; keeps every walk of the tree far from the end of the stack.
pub const DEFINITION_DEPTH: usize = 48;
/// Events within events: parent, child, grandchild.
pub const EVENT_NESTING: usize = 3;
/// The longest duration, in days (a hundred years): products in microseconds stay within 64 bits.
pub const SPAN_DAYS: u64 = 36_525;
/// Problems reported for one text; the rest would be noise.
pub const PROBLEMS: usize = 20;
/// Audiences that one comparison may refer to: each doubles the number of conditions it becomes.
pub const REFERENCES_PER_COMPARISON: usize = 4;
/// Length of an audience's key.
pub const KEY_CHARS: usize = 255;
/// Length of a text that is read as a number.
pub const NUMBER_CHARS: usize = 64;
/// Future instants tried by `explain` when it looks for the one at which time alone changes the answer.
pub const EXPLAIN_INSTANTS: usize = 5_000;
