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
/// How much later than its tick an audience may be true before it is overdue, where `fresh_within` does not say: as long as the
/// schedule's period, but not less than a run usually takes, nor longer than a person would wait.
pub const FRESH_GRACE_LEAST: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
pub const FRESH_GRACE_MOST: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// How long the ticker may say nothing before `/healthz` takes it for dead, in seconds. It looks every few seconds, and waits for an
/// absent database for half a minute.
pub const TICKER_SILENT_SECONDS: u64 = 120;
/// How long the ticker may say nothing before `/readyz` says that this instance does not work, in seconds: several of its looks.
pub const READY_SILENT_SECONDS: u64 = 20;
/// How long the database may take to answer a question about health, in seconds; probes commonly wait for a second or more.
pub const HEALTH_SECONDS: u64 = 3;
/// How long what the database said of health and freshness is told again, in seconds: however often it is asked, the database is not.
pub const HEALTH_KEPT_SECONDS: u64 = 2;
/// How long a statement waits for a lock, in seconds: longer than whoever holds it may be stopped, so that it is not given up just before
/// its turn.
pub const LOCK_SECONDS: u64 = 60;
/// How long work waits for one of the pool's sessions, in seconds.
pub const CONNECTION_SECONDS: u64 = 30;
/// How long one statement may take that somebody waits for who only looks, in seconds; and how long he waits for a session before.
pub const READ_SECONDS: u64 = 5;
/// Sessions of those who only look, all together.
pub const READ_CONNECTIONS: u32 = 4;
/// How often the server looks whether whoever asked is still there, while it works on an answer, in seconds.
pub const GONE_SECONDS: u64 = 5;
/// How long an evaluation's transaction may idle, in seconds: as long as a statement elsewhere, and what is waited beyond.
pub const EVALUATION_IDLE_SECONDS: u64 = (CONDITION_TIMEOUT_MS + 120_000) / 1_000;
/// How long a lease lasts without being renewed, in seconds: how long the work of a dead instance waits for another.
pub const LEASE_SECONDS: u64 = 15;
/// The longest wait before a destination that is away is tried again, and the wait after it halted, in seconds.
pub const DESTINATION_RETRY_SECONDS: u64 = 60;
/// How long `sync` waits for another instance that has a destination's lease and tells nothing, in seconds.
pub const ANOTHER_SECONDS: u64 = 60;
/// How often delivery looks whether each topic is still the one that was told to: before it tells, and while it has nothing to tell,
/// in milliseconds.
pub const TOPICS_TELLING_MS: u64 = 1_000;
pub const TOPICS_IDLE_MS: u64 = 10_000;
/// How long what is under way may take to end when the program is told to stop, in seconds; then it is abandoned.
pub const STOP_SECONDS: u64 = 7;
/// Connections to one listener at a time. One more closes the one that has been without a request the longest, so whoever opens
/// many and says nothing keeps nobody out; each holds [`HTTP_HEAD_BYTES`] at most.
pub const HTTP_CONNECTIONS: usize = 1_000;
/// Bytes of a request's first line and headers.
pub const HTTP_HEAD_BYTES: usize = 16 << 10;
/// How long a connection may take to send a request's first line and headers, and how long it may stay open between requests, in
/// seconds. Longer than the minute for which the usual load balancers keep one open, lest it is closed as they send.
pub const HTTP_HEAD_SECONDS: u64 = 75;
/// How long a request may take, with its body, in seconds.
pub const HTTP_REQUEST_SECONDS: u64 = 30;
/// How long a connection is kept, in seconds: then it is closed after the request it is at, so that clients spread anew.
pub const HTTP_CONNECTION_SECONDS: u64 = 600;
/// Bytes of a request's body, where the listener takes no messages.
pub const HTTP_BODY_BYTES: usize = 64 << 10;
/// Characters of a token that guards a listener, at least.
pub const HTTP_TOKEN_CHARS: usize = 16;
/// Tries of a run that are sealed together with what else is due. Later ones are sealed alone: whatever takes the whole
/// transaction down each time then stops only itself.
pub const ATTEMPTS_TOGETHER: i32 = 2;
/// How long ids of messages are kept if nothing else is said, in days: whoever sends again does so within it.
pub const MESSAGE_IDS_DAYS: u32 = 366;
/// The longest time to keep anything, in days: a century. A longer one is a typing error.
pub const RETENTION_DAYS: u32 = 36_525;
/// Files and connections that `serve` lets itself have open, if the system does.
pub const OPEN_FILES: u64 = 65_536;
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
/// Bytes that one scan of events may keep of profiles: ten sums of ten million people fit. With more it reads twice.
pub const SCAN_BYTES: usize = 1 << 30;
/// Bytes of new values, of all traits of a run together, that wait as they are for the old ones; further ones are compressed.
pub const VALUES_BYTES: usize = 256 << 20;
/// Values that one trait tells together (published for SQL traits), and the bytes that they may take.
pub const COLUMNS: usize = 25;
pub const COLUMNS_BYTES: usize = 16 * 1024;
/// Rows of a SQL trait (published).
pub const SQL_ROWS: u64 = 25_000_000;
/// Rows of a statement that are looked up at a time, where it runs in another database.
pub const SQL_PAGE_ROWS: usize = 10_000;
/// Bytes of values from another database that wait before they are put in the order of profiles and compressed.
pub const SQL_WAITING_BYTES: usize = 64 << 20;
/// Entries of a unique list, as the peer's; in alphabetical order, so that which ones does not depend on when they came.
pub const UNIQUE_ITEMS: usize = 50;
/// Problems reported for one text; the rest would be noise.
pub const PROBLEMS: usize = 20;
/// Audiences that one comparison may refer to: each doubles the number of conditions it becomes.
pub const REFERENCES_PER_COMPARISON: usize = 4;
/// Length of a text that is read as a number.
pub const NUMBER_CHARS: usize = 64;
/// Failed runs of an audience that are kept to be listed: four days of tries, which are an hour apart at last.
pub const FAILED_RUNS_KEPT: i64 = 100;
/// Future instants tried by `explain` when it looks for the one at which time alone changes the answer.
pub const EXPLAIN_INSTANTS: usize = 5_000;
/// How long one condition may run, in milliseconds; longer, and the audiences that use it fail, the others do not.
pub const CONDITION_TIMEOUT_MS: u64 = 600_000;
/// Memory of each sort and hash of a condition's query, in MiB.
pub const CONDITION_WORK_MEM_MIB: u32 = 64;

/// One message, as it stands in its line (Segment: 32 KB per event).
pub const MESSAGE_BYTES: usize = 32 * 1024;
/// Bytes of a file that are tried as one row or one message: enough for columns that no message keeps. Beyond, it is read on at the
/// next line.
pub const RECORD_BYTES: usize = 4 * MESSAGE_BYTES;
/// Longer message ids are dropped by Segment without a word; we refuse the line.
pub const MESSAGE_ID_CHARS: usize = 100;
/// Traits of one identify or group call, or properties of one event (Segment drops more than 300).
pub const FIELDS: usize = 300;
/// A user id, an anonymous id, an email, a group id (Segment: groupId 500). It must fit an index entry in any script.
pub const IDENTIFIER_CHARS: usize = 500;
pub const IDENTIFIER_TYPE_BYTES: usize = 60;
/// Values of one identifier type on one profile, unless the configuration says otherwise (Segment's default).
pub const IDENTIFIERS_PER_TYPE: usize = 5;
/// Identifiers of one profile, and profiles merged into one (Segment's limits): beyond, it is no person but a shared id.
pub const IDENTIFIERS_PER_PROFILE: usize = 1_000;
pub const MERGES_PER_PROFILE: i32 = 100;
/// An event's name; it must fit an index entry.
pub const EVENT_NAME_CHARS: usize = 500;
/// Objects and arrays within each other in one message. Readers of JSON commonly stop at 128.
pub const JSON_DEPTH: usize = 100;
/// Digits, point and exponent of one number in JSON; jsonb refuses what `numeric` cannot hold.
pub const JSON_NUMBER_CHARS: usize = 400;
pub const JSON_EXPONENT: u32 = 400;
/// The first and last year of an event (Segment: from 1970).
pub const EVENT_YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;
/// Monthly partitions of events; what falls outside goes to the default one. Each costs planning time and locks.
pub const PARTITIONS: usize = 240;
/// Messages stored in one transaction of an import, and their bytes.
pub const BATCH_MESSAGES: usize = 50_000;
pub const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// More changes of one audience than this, entered or exited, are left to a backfill, and go out in slices of as many: seconds of
/// telling, so that what must follow a slice waits no longer, and few enough writes of the bitmaps for millions.
pub const BACKFILL_ABOVE: u32 = 50_000;
/// Changes told in one Kafka transaction: many enough that its commit hardly counts, few enough to be quick to repeat.
pub const PAGE_CHANGES: usize = 5_000;

/// The same in the bulk lane: fewer, so that the live lane's next transaction finds processor and database free the sooner.
pub const BULK_PAGE_CHANGES: usize = 2_000;

/// Bytes of records in one transaction, and of what is read of profiles for it: big traits make pages shorter.
pub const PAGE_BYTES: usize = 16 << 20;

/// Records of one run that may be quarantined, or one in a hundred of its changes if that is more: beyond it the
/// mapping or the topic is wrong, not a few profiles, and the destination halts.
pub const QUARANTINED_PER_RUN: i64 = 1_000;

/// Differences of each kind that `rollcall verify` lists; all are counted.
pub const VERIFY_DIFFERENCES: u64 = 100;

/// Doubts in a row without anything told between them, before delivery gives up until it is next asked.
pub const DOUBTS_IN_A_ROW: u32 = 3;

/// Requests a second that the Profile API answers; the peer's.
pub const PROFILE_REQUESTS_A_SECOND: u32 = 100;
/// Items in one answer of the Profile API, and the days of events that it shows; the peer's.
pub const PROFILE_ITEMS: usize = 200;
pub const PROFILE_EVENT_DAYS: i64 = 14;
/// People named in one `rollcall forget`: each is a transaction, and the erasing of all of them is one.
pub const FORGOTTEN_AT_ONCE: usize = 100_000;
/// Bytes of the requests that live ingestion holds at a time, from the first byte of each to its answer. Beyond it clients are told to
/// come again. Read, parsed and on their way into Postgres they take about five times as much.
pub const INTAKE_BYTES: usize = 32 << 20;
/// Bytes of the bodies of those who have shown no write key that anybody has: enough for hundreds of browsers at a time, whose library
/// puts the key into the body, and little beside what all others share.
pub const STRANGERS_BYTES: usize = 8 << 20;
/// Live messages stored in one transaction: many enough that its commit hardly counts, few enough to be answered soon.
pub const INTAKE_MESSAGES: usize = 5_000;
/// How long a live request waits for its commit, in seconds: below the 10 that clients wait for an answer.
pub const INTAKE_PATIENCE_SECONDS: u64 = 8;
/// How long one transaction of live messages may take, in seconds, before its connection is given up.
pub const INTAKE_WRITE_SECONDS: u64 = 30;
/// Records of a stream that are taken in by one transaction, and their bytes. Three such batches are in memory at a time: one is read,
/// one waits, one is stored.
pub const STREAM_RECORDS: usize = 10_000;
pub const STREAM_BYTES: usize = 8 << 20;
/// How long the first record of a batch waits for others, in milliseconds.
pub const STREAM_LINGER_MS: u64 = 50;
/// How long one transaction of a stream may take, in seconds, before its connection is given up.
pub const STREAM_WRITE_SECONDS: u64 = 60;
/// The longest wait before a stream that failed is tried again, in seconds.
pub const STREAM_RETRY_SECONDS: u64 = 15;
/// Bytes of a request of the tracking API, unpacked. Segment says 500 KB; its Rust library fills batches to 512 KiB and wraps them.
pub const TRACKING_BYTES: usize = 528 << 10;
/// Messages of one batch, as in Segment.
pub const TRACKING_MESSAGES: usize = 2_500;
/// Bytes of a request that is refused unread which are taken and thrown away, so that its sender hears why.
pub const TRACKING_DISCARDED_BYTES: usize = 8 << 20;
/// How long a body may pause, in seconds, and the bytes a second of it that must come beyond that: what the slowest telephone sends.
pub const TRACKING_PAUSE_SECONDS: u64 = 5;
pub const TRACKING_BYTES_A_SECOND: usize = 16 << 10;
/// How long a request of the tracking API may take, with its body, in seconds.
pub const TRACKING_REQUEST_SECONDS: u64 = 20;
/// Connections to the tracking API at a time: clients keep theirs open.
pub const TRACKING_CONNECTIONS: usize = 5_000;
/// Characters of a write key, at least; Segment's have 32. Browsers show theirs to everybody, so it guards against mistakes only.
pub const WRITE_KEY_CHARS: usize = 8;
/// Refusals told in the answer to one batch; the rest are counted.
pub const TRACKING_REFUSALS: usize = 25;

/// Characters of a SQL source's name, which message ids begin with.
pub const SOURCE_NAME_CHARS: usize = 40;
/// Rows of a SQL source that are fetched and stored together; each has at most the bytes of a message.
pub const PULL_ROWS: usize = 2_000;
/// How long one statement on a SQL source's database may take, in milliseconds: the first page waits for its sort.
pub const PULL_TIMEOUT_MS: u64 = 600_000;
/// How far before its last value a cursor column is read again when nothing is said: an hour of a time, and of a number as much as
/// transactions of an hour hold in most databases.
pub const PULL_LOOKBACK_SECONDS: u64 = 3_600;
pub const PULL_LOOKBACK_NUMBERS: u64 = 10_000;

/// Mappings of one destination, unless its `max_mappings` says otherwise; the peer's limit.
pub const MAPPINGS_PER_DESTINATION: usize = 50;
/// Bytes of one event that `rollcall map` reads; several times the record that Kafka takes unless told otherwise.
pub const MAPPED_EVENT_BYTES: usize = 4 << 20;
/// How deep a mapping may nest; deeper ones are refused when the configuration is read.
pub const MAPPING_DEPTH: usize = 100;
/// Nodes of one mapping.
pub const MAPPING_NODES: usize = 10_000;
/// Characters of a `@liquid` template; the peer's limit.
pub const LIQUID_TEMPLATE_CHARS: usize = 1_000;
/// Steps that rendering one `@liquid` template may take; stands for the peer's 500 ms, but the same on every machine.
pub const LIQUID_STEPS: usize = 100_000;
/// Bytes that one `@liquid` template may become, and any text on the way.
pub const LIQUID_OUTPUT_BYTES: usize = 1 << 20;
/// Bytes of a trigger.
pub const TRIGGER_BYTES: usize = 64 << 10;
/// How deep a trigger may nest.
pub const TRIGGER_DEPTH: usize = 100;

/// Comparisons of one definition of which is told how many people they decide about who lack the trait: each is a query more.
pub const GAPS: usize = 10;
