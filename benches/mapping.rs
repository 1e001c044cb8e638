//! How many events a second does one core map? `cargo bench --bench mapping`.
//!
//! divan shows time and allocations an event. Before it, events per CPU-second are printed, counted on the CPU time of this
//! thread, so that a busy machine does not change them. The peer's own code reaches 200,000 and 50,000 on such machines.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use rollcall::{
    config::{self, OnExit},
    js::Json,
    mapping::{Event, Known, Mapping, Outcome, Reads},
};
use serde_json::{Value, json};

/// Counts allocations while divan runs. The rates are measured without, because counting costs as much as mapping.
struct Counted;

static PROFILER: AllocProfiler = AllocProfiler::system();
static COUNTING: AtomicBool = AtomicBool::new(false);

// SAFETY: both allocators hand on to the system's, so that either may free what the other gave.
#[allow(clippy::undocumented_unsafe_blocks, reason = "the argument above is that of all three")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { if COUNTING.load(Relaxed) { PROFILER.alloc(layout) } else { System.alloc(layout) } }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { if COUNTING.load(Relaxed) { PROFILER.dealloc(at, layout) } else { System.dealloc(at, layout) } }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe {
            if COUNTING.load(Relaxed) { PROFILER.realloc(at, layout, size) } else { System.realloc(at, layout, size) }
        }
    }
}

#[global_allocator]
static ALLOC: Counted = Counted;

/// A 600-byte Identify, as Engage sends it.
const IDENTIFY: &str = r#"{"context":{"integrations":{"personas":false},"personas":{"computation_class":"audience","computation_id":"aud_2djnfxHHnYGVQfOAEBroQ9Ti87N","computation_key":"first_time_buyers","namespace":"spa_o1E9fAxCkCzjp6rLG1ptWR","space_id":"spa_o1E9fAxCkCzjp6rLG1ptWR"}},"integrations":{"All":false,"Kafka":true},"messageId":"personas_2fyFNSKX4MjAbsNJF5ZnNzCq0OV","originalTimestamp":"2024-05-03T19:42:50.066179Z","sentAt":null,"timestamp":"2024-05-03T19:42:50.066Z","traits":{"first_time_buyers":true,"email":"ada@example.org","plan":"gold","city":"Paris","ltv":1204.5},"type":"identify","userId":"usr_8842"}"#;

/// What stands between two parts of the event.
fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = IDENTIFY.split_once(start).expect("a start");
    rest.split_once(end).expect("an end").0
}

/// The same for all events of a run.
static CONTEXT: LazyLock<Json<'static>> =
    LazyLock::new(|| Json::read(between(r#""context":"#, r#","integrations":{"All""#)).expect("JSON"));

/// What its writer knows of it.
static KNOWN: LazyLock<Known<'static>> = LazyLock::new(|| Known {
    kind: Some("identify"),
    user_id: Some("usr_8842"),
    anonymous_id: None,
    message_id: Some("personas_2fyFNSKX4MjAbsNJF5ZnNzCq0OV"),
    timestamp: Some("2024-05-03T19:42:50.066Z"),
    event: None,
    context: Some(&CONTEXT),
    traits: Some(between(r#""traits":"#, r#","type""#)),
    member: Some(true),
});

fn event() -> Event<'static> {
    Event::known(IDENTIFY, *KNOWN)
}

fn compile(mapping: Value) -> Mapping {
    let mapping = mapping.as_object().cloned().unwrap_or_default();
    let config =
        config::Mapping { name: "bench".into(), enabled: true, subscribe: None, mapping, on_exit: OnExit::Record };
    Mapping::compile("bench", &config).expect("a valid mapping")
}

fn default_mapping() -> Mapping {
    compile(json!({"topic": "audiences", "payload": {"@path": "$."}, "key": {"@path": "$.userId"}}))
}

fn rich_mapping() -> Mapping {
    compile(json!({
        "topic": {"@template": "audience.{{context.personas.computation_key}}"},
        "key": {"@if": {"exists": {"@path": "$.userId"}, "then": {"@path": "$.userId"}, "else": {"@path": "$.anonymousId"}}},
        "payload": {"@merge": {"direction": "right", "objects": [
            {"@path": "$.traits"},
            {"city": {"@case": {"operator": "upper", "value": {"@path": "$.traits.city"}}}, "at": {"@path": "$.timestamp"},
             "member": {"@path": "$.traits.first_time_buyers"}},
        ]}},
        "headers": {"class": {"@path": "$.context.personas.computation_class"}, "content-type": "application/json"},
    }))
}

fn apply(mapping: &Mapping) -> Outcome {
    mapping.apply(black_box(&event()))
}

#[divan::bench]
fn identify_by_the_default_mapping(bencher: Bencher) {
    let mapping = default_mapping();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| apply(&mapping));
}

#[divan::bench]
fn identify_by_a_rich_mapping(bencher: Bencher) {
    let mapping = rich_mapping();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| apply(&mapping));
}

/// Parsed once for all of them.
#[divan::bench]
fn identify_by_twenty_rich_mappings(bencher: Bencher) {
    let mappings: Vec<Mapping> = (0..20).map(|_| rich_mapping()).collect();
    let reads = Reads::of(&mappings);
    bencher.counter(ItemsCount::new(20u32)).bench_local(|| {
        let event = Event::known(IDENTIFY, *KNOWN).read_by(&reads);
        mappings.iter().for_each(|mapping| drop(black_box(mapping.apply(black_box(&event)))));
    });
}

#[divan::bench]
fn parsed_event_by_the_default_mapping(bencher: Bencher) {
    let mapping = default_mapping();
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| Event::parse(black_box(IDENTIFY)).map(|event| mapping.apply(&event)));
}

/// Nanoseconds that this thread has run (Linux; the first number of its schedstat).
fn cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn main() {
    const EVENTS: u32 = 1_000_000;
    for (name, mapping) in [("default", default_mapping()), ("rich", rich_mapping())] {
        assert!(matches!(apply(&mapping), Outcome::Record(_)));
        let start = cpu_ns();
        for _ in 0..EVENTS {
            black_box(apply(&mapping));
        }
        if let (Some(start), Some(end)) = (start, cpu_ns()) {
            let rate = f64::from(EVENTS) / (end - start) as f64 * 1e9;
            println!("{name} mapping: {rate:.0} events per CPU-second ({} bytes an event)", IDENTIFY.len());
        }
    }
    COUNTING.store(true, Relaxed);
    divan::main();
}
