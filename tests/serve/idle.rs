//! What does an idle `serve` cost? Statements and memory, over an hour of fake time.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rollcall::{
    clock::Clock,
    config::{self, Surroundings},
    limits,
    serve::Server,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::support::{kafka, postgres::Database};

/// Counts the bytes that each thread has in use: those that it took and did not give back.
struct Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed to the system's allocator as it is; counting touches nothing but a number of the thread's own, which needs
// no allocation and no destructor.
#[allow(clippy::undocumented_unsafe_blocks, reason = "the argument above is that of all three")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.set(IN_USE.get() + layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get() - layout.size() as isize);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.set(IN_USE.get() + size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Counts the statements that sqlx says it has run.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicU64>);

impl Statements {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// On one thread, whose memory and statements are those of the server alone.
#[tokio::test]
async fn an_idle_instance_asks_the_database_little_and_keeps_nothing_over_an_hour() {
    let db = Database::fresh().await;
    let topic = kafka::topic(kafka::broker(), "idle", 1);
    let destination = |name: &str| {
        format!(
            "  {name}:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    cursor_topic: {topic}.cursors\n    \
             mappings: [{{name: all, mapping: {{topic: {topic}, payload: {{\"@path\": $.}}}}}}]\n",
            kafka::broker()
        )
    };
    let destinations: String = ["a", "b", "c", "d"].map(destination).concat();
    let audience = |n| format!("  - {{name: Audience {n}, query: \"trait('n') = '{n}'\", schedule: '@daily'}}\n");
    let audiences: String = (0..20).map(audience).collect();
    let text = format!("space_id: spa_test\ndestinations:\n{destinations}audiences:\n{audiences}");
    let config =
        config::parse("test", &text, &Surroundings { variable: &|_| None, file: &|_| unreachable!() }).unwrap();

    let statements = Statements::default();
    let _counted = tracing::subscriber::set_default(tracing_subscriber::registry().with(statements.clone()));
    let clock = Clock::standing_at("2024-05-03T12:00:00Z".parse().unwrap());
    let server = Server::start(db.pool.clone(), clock.clone(), config).await.unwrap();
    // Lets `seconds` pass, each of them until whoever it woke has come to rest.
    let pass = async |seconds: u64| {
        for _ in 0..seconds {
            clock.advance(Duration::from_secs(1));
            let mut before = statements.count();
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let now = statements.count();
                if now == before {
                    break;
                }
                before = now;
            }
        }
    };
    let deadline = std::time::Instant::now() + kafka::PATIENCE;
    loop {
        pass(1).await;
        let told: i64 = sqlx::query_scalar("select count(*) from leases").fetch_one(&db.pool).await.unwrap();
        let runs: i64 = sqlx::query_scalar("select count(*) from runs").fetch_one(&db.pool).await.unwrap();
        if told >= 5 && runs == 20 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told} leases, {runs} runs");
    }
    // At rest: buffers of what is under way come and go with each look.
    let in_use = async || {
        let mut least = isize::MAX;
        for _ in 0..60 {
            pass(1).await;
            least = least.min(IN_USE.get());
        }
        least
    };
    pass(600).await;
    let used = in_use().await;
    let asked = statements.count();
    pass(3_600).await;
    let asked = statements.count() - asked;
    let grown = in_use().await - used;
    server.stop().await;
    // Renewals of five leases; and each second a look at four destinations: where the live lane's log ends, and at the backfills.
    let renewals = 3_600 * 4 / limits::LEASE_SECONDS * 5;
    assert!(asked > renewals / 2, "it works: {asked}");
    assert!(asked < 3_600 * 20, "{asked} statements in an hour");
    assert!(grown < 20_000, "{grown} bytes more after an hour than before it");
}
