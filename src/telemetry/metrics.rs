//! Which numbers does the program give of its work? Every metric in one list, by Prometheus' conventions.
//!
//! Counters and histograms are what this process did since it started; gauges are what is the case now, mostly as the database
//! says, so every instance gives the same. Labels are keys and names of the configuration and fixed words, nothing else: there
//! are as many series as the configuration has audiences and destinations, and its streams have partitions. `docs/metrics.md` is
//! held against the list by a test.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// One metric, which has a series for each value of its labels.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Type,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! list {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: &str = $name;
        )*

        /// All of them, in the order of the flow.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: Type::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

list! {
    PULLS = "rollcall_pulls_total", Counter, ["outcome", "source"],
        "Pulls of SQL sources by this instance, by outcome: `finished` or `failed`.";
    PULLED = "rollcall_pulled_rows_total", Counter, ["outcome", "source"],
        "Rows of SQL sources that this instance read, by outcome: `stored`, `repeated`, `suppressed` or `refused`.";
    TRACKING_REQUESTS = "rollcall_tracking_requests_total", Counter, ["outcome"],
        "Requests of the tracking API that this instance answered, by outcome.";
    INTAKE_MESSAGES = "rollcall_intake_messages_total", Counter, ["outcome"],
        "Messages that this instance was sent by the tracking API, by outcome: `stored`, `repeated`, `suppressed`, `refused` or `dropped`.";
    INTAKE_BYTES = "rollcall_intake_bytes", Gauge, [],
        "Bytes of the requests of the tracking API that this instance holds now.";
    INTAKE_COMMIT = "rollcall_intake_commit_seconds", Histogram, [],
        "Time of a transaction that stores messages of the tracking API.";
    STREAM_RECORDS = "rollcall_stream_records_total", Counter, ["outcome", "stream"],
        "Records that this instance took in, by outcome: `stored`, `repeated`, `suppressed` or `refused`.";
    STREAM_GAPS = "rollcall_stream_gaps_total", Counter, ["reason", "stream"],
        "Partitions that went on elsewhere than where they had stopped, by reason: `out_of_range` if records were gone, `recreated` if the topic is another one.";
    STREAM_LAG = "rollcall_stream_lag_records", Gauge, ["partition", "stream", "topic"],
        "Records that can be read and are not taken in yet, in offsets.";
    STREAM_SILENT = "rollcall_stream_silent_seconds", Gauge, ["stream"],
        "How long ago an instance last looked at the partition of the stream that waits longest.";
    TICKS = "rollcall_ticks_total", Counter, ["outcome"],
        "Ticks that fired here, by outcome: `fired` for the first time, `retried` after a failure, `taken_over` from another instance.";
    RUNS = "rollcall_runs_total", Counter, ["audience", "outcome"],
        "Runs of this instance, by outcome: `sealed`, `held` or `failed`.";
    ENTERED = "rollcall_entered_total", Counter, ["audience"],
        "Profiles that entered, in runs sealed by this instance.";
    EXITED = "rollcall_exited_total", Counter, ["audience"],
        "Profiles that exited, in runs sealed by this instance.";
    EVALUATE = "rollcall_evaluate_seconds", Histogram, [],
        "Time to evaluate the audiences of one tick, which share their scans.";
    MEMBERS = "rollcall_audience_members", Gauge, ["audience"],
        "Members, as of the last run.";
    ATTEMPTS = "rollcall_audience_failed_attempts", Gauge, ["audience"],
        "Attempts that failed since the last run that was sealed; 0 if none.";
    HELD = "rollcall_audience_held", Gauge, ["audience"],
        "1 while a run is held and waits for a person.";
    TRUE_AS_OF = "rollcall_audience_true_as_of_timestamp_seconds", Gauge, ["audience"],
        "When the audience was last true: the instant of the last run that every destination has been told.";
    LAG = "rollcall_audience_freshness_lag_seconds", Gauge, ["audience"],
        "How long ago the audience was last true.";
    OVERDUE = "rollcall_audience_overdue_seconds", Gauge, ["audience"],
        "For how long the audience is overdue: its `fresh_within` has passed. 0 while it is fresh.";
    OLDEST_OVERDUE = "rollcall_oldest_overdue_seconds", Gauge, [],
        "For how long the audience that waits longest is overdue. 0 while all are fresh.";
    TOLD_CHANGES = "rollcall_told_changes_total", Counter, ["destination"],
        "Changes that this instance told, each a profile that entered or exited.";
    TOLD_RECORDS = "rollcall_told_records_total", Counter, ["destination"],
        "Records that this instance told.";
    QUARANTINED = "rollcall_quarantined_total", Counter, ["destination"],
        "Records that this instance put aside, because they can never be delivered.";
    TRANSACTION = "rollcall_transaction_seconds", Histogram, ["destination"],
        "Time from the begin to the commit of a transaction.";
    DOUBTS = "rollcall_doubts_total", Counter, ["destination"],
        "Transactions whose end was in doubt, so that delivery recovered from the cursor.";
    LAG_CHANGES = "rollcall_destination_lag_changes", Gauge, ["destination"],
        "Changes that are sealed and not yet told.";
    LAG_SECONDS = "rollcall_destination_lag_seconds", Gauge, ["destination"],
        "How long ago the oldest run was sealed that is not told in full. 0 if all is told.";
    HALTED = "rollcall_destination_halted", Gauge, ["destination"],
        "1 while the destination is halted and waits for a person.";
    IN_QUARANTINE = "rollcall_destination_quarantined_records", Gauge, ["destination"],
        "Records in quarantine that are told to nobody.";
    LEASES = "rollcall_lease_held", Gauge, ["lease"],
        "1 for each lease that this instance holds: `ticker`, or `destination:` or `source:` and its name.";
    RELOADS = "rollcall_reloads_total", Counter, ["outcome"],
        "Configurations read again, by outcome: `applied` or `refused`.";
    LOADED = "rollcall_configuration_timestamp_seconds", Gauge, [],
        "When the configuration in force was read.";
    DATABASE = "rollcall_database_up", Gauge, [],
        "1 if the database answered the last time it was asked for these numbers. If not, what it says is left out.";
    BUILD = "rollcall_build_info", Gauge, ["version"],
        "1, with the version of the program.";
    CPU = "process_cpu_seconds_total", Gauge, [],
        "CPU time that the process has used.";
    MEMORY = "process_resident_memory_bytes", Gauge, [],
        "Memory of the process that is in use.";
    FILES = "process_open_fds", Gauge, [],
        "Open files and connections of the process.";
    STARTED = "process_start_time_seconds", Gauge, [],
        "When the process began to serve.";
}

/// What collects the numbers of this process, and writes them down. Without [`start`] counting costs next to nothing, and is lost.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// A gauge that is not set again within this time is that of an audience, destination or lease that is gone. All gauges are set for
/// each answer.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// Begins to count, if that has not begun.
pub fn start() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let buckets = |builder: PrometheusBuilder, metric: &str, seconds: &[f64]| {
            let metric = Matcher::Full(metric.to_owned());
            builder.set_buckets_for_metric(metric, seconds).expect("a list of bounds that is not empty")
        };
        let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(GONE_AFTER));
        let builder = buckets(builder, EVALUATE, &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0]);
        let builder = buckets(builder, TRANSACTION, &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]);
        let builder = buckets(builder, INTAKE_COMMIT, &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]);
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("something else counts already");
        }
        for Metric { name, kind, help, .. } in ALL {
            match kind {
                Type::Counter => metrics::describe_counter!(*name, *help),
                Type::Gauge => metrics::describe_gauge!(*name, *help),
                Type::Histogram => metrics::describe_histogram!(*name, *help),
            }
        }
        for outcome in ["fired", "retried", "taken_over"] {
            metrics::counter!(TICKS, "outcome" => outcome).absolute(0);
        }
        for outcome in ["applied", "refused"] {
            metrics::counter!(RELOADS, "outcome" => outcome).absolute(0);
        }
        let answers = ["stored", "stored_in_part", "dropped", "invalid", "unauthorized", "not_found", "full", "away"];
        for outcome in answers {
            metrics::counter!(TRACKING_REQUESTS, "outcome" => outcome).absolute(0);
        }
        for outcome in ["stored", "repeated", "suppressed", "refused", "dropped"] {
            metrics::counter!(INTAKE_MESSAGES, "outcome" => outcome).absolute(0);
        }
        drop(metrics::histogram!(INTAKE_COMMIT));
        handle
    })
}

/// Series that count from nothing on are there before the first event: what comes out of nowhere is no increase to Prometheus.
pub fn expect_audience(key: &str) {
    for outcome in ["sealed", "held", "failed"] {
        metrics::counter!(RUNS, "audience" => key.to_owned(), "outcome" => outcome).increment(0);
    }
    for counter in [ENTERED, EXITED] {
        metrics::counter!(counter, "audience" => key.to_owned()).increment(0);
    }
}

/// As [`expect_audience`].
pub fn expect_source(name: &str) {
    for outcome in ["finished", "failed"] {
        metrics::counter!(PULLS, "source" => name.to_owned(), "outcome" => outcome).increment(0);
    }
    pulled_rows(name, [0; 4]);
}

/// As [`expect_audience`].
pub fn expect_destination(name: &str) {
    for counter in [TOLD_CHANGES, TOLD_RECORDS, QUARANTINED, DOUBTS] {
        metrics::counter!(counter, "destination" => name.to_owned()).increment(0);
    }
}

/// As [`expect_audience`].
pub fn expect_stream(name: &str) {
    for outcome in TAKEN_IN {
        metrics::counter!(STREAM_RECORDS, "outcome" => outcome, "stream" => name.to_owned()).increment(0);
    }
    for reason in ["out_of_range", "recreated"] {
        metrics::counter!(STREAM_GAPS, "reason" => reason, "stream" => name.to_owned()).increment(0);
    }
}

/// What may become of a record of a stream, or of a row of a source.
const TAKEN_IN: [&str; 4] = ["stored", "repeated", "suppressed", "refused"];

/// Records of a stream were taken in here, so many of each outcome in the order of the list.
pub fn taken_in(stream: &str, records: [u64; 4]) {
    for (outcome, records) in TAKEN_IN.into_iter().zip(records) {
        metrics::counter!(STREAM_RECORDS, "outcome" => outcome, "stream" => stream.to_owned()).increment(records);
    }
}

/// A partition of a stream goes on elsewhere than where it had stopped; `reason` is `out_of_range` or `recreated`.
pub fn gap(stream: &str, reason: &'static str) {
    metrics::counter!(STREAM_GAPS, "reason" => reason, "stream" => stream.to_owned()).increment(1);
}

/// How far a partition of a stream is behind.
pub fn lag(stream: &str, topic: &str, partition: i32, records: i64) {
    let (partition, stream, topic) = (partition.to_string(), stream.to_owned(), topic.to_owned());
    metrics::gauge!(STREAM_LAG, "partition" => partition, "stream" => stream, "topic" => topic).set(records as f64);
}

/// One gauge, with at most one label.
pub fn set(name: &'static str, label: Option<(&'static str, &str)>, value: f64) {
    match label {
        None => metrics::gauge!(name).set(value),
        Some((label, of)) => metrics::gauge!(name, label => of.to_owned()).set(value),
    }
}

/// A source was pulled here; `outcome` is `finished` or `failed`.
pub fn pulled(source: &str, outcome: &'static str) {
    metrics::counter!(PULLS, "source" => source.to_owned(), "outcome" => outcome).increment(1);
}

/// Rows of a source were stored here, known, dropped, refused.
pub fn pulled_rows(source: &str, counts: [u64; 4]) {
    for (outcome, count) in TAKEN_IN.into_iter().zip(counts) {
        metrics::counter!(PULLED, "source" => source.to_owned(), "outcome" => outcome).increment(count);
    }
}

/// A configuration was read again; `outcome` is `applied` or `refused`.
pub fn reloaded(outcome: &'static str) {
    metrics::counter!(RELOADS, "outcome" => outcome).increment(1);
}

/// A tick fired here; `outcome` is `fired`, `retried` or `taken_over`.
pub fn fired(outcome: &'static str) {
    metrics::counter!(TICKS, "outcome" => outcome).increment(1);
}

/// A run was sealed here.
pub fn sealed(audience: &str, entered: u64, exited: u64) {
    metrics::counter!(RUNS, "audience" => audience.to_owned(), "outcome" => "sealed").increment(1);
    metrics::counter!(ENTERED, "audience" => audience.to_owned()).increment(entered);
    metrics::counter!(EXITED, "audience" => audience.to_owned()).increment(exited);
}

/// A run was held or failed here; `outcome` says which.
pub fn not_sealed(audience: &str, outcome: &'static str) {
    metrics::counter!(RUNS, "audience" => audience.to_owned(), "outcome" => outcome).increment(1);
}

/// A tick's audiences were evaluated here.
pub fn evaluated(took: Duration) {
    metrics::histogram!(EVALUATE).record(took);
}

/// A transaction was committed here.
pub fn told(destination: &str, changes: u64, records: u64, took: Duration) {
    metrics::counter!(TOLD_CHANGES, "destination" => destination.to_owned()).increment(changes);
    metrics::counter!(TOLD_RECORDS, "destination" => destination.to_owned()).increment(records);
    metrics::histogram!(TRANSACTION, "destination" => destination.to_owned()).record(took);
}

/// Records were put aside here.
pub fn quarantined(destination: &str, records: u64) {
    metrics::counter!(QUARANTINED, "destination" => destination.to_owned()).increment(records);
}

/// The end of a transaction was in doubt here.
pub fn doubted(destination: &str) {
    metrics::counter!(DOUBTS, "destination" => destination.to_owned()).increment(1);
}
