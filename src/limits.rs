//! How much is too much? Every limit on input, in one place.

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
/// How long one condition may run, in milliseconds; longer, and the audiences that use it fail, the others do not.
pub const CONDITION_TIMEOUT_MS: u64 = 600_000;
/// Memory of each sort and hash of a condition's query, in MiB.
pub const CONDITION_WORK_MEM_MIB: u32 = 64;
