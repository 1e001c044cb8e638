//! The soak: instances under load, killed and stopped at random, with their Postgres and Kafka, while a person gives commands.
//!
//! A reader of committed records looks at every instant whether what is told is the log's beginning, once and in order. At the end
//! all comes to rest by itself, and adds up. One minute of it is part of every test run. For longer, by environment:
//!
//! ```sh
//! ROLLCALL_SOAK_SECONDS=3600 ROLLCALL_SOAK_KILLS=1000 ROLLCALL_SOAK_CHANGES=5000000 ROLLCALL_SOAK_BROKERS=3 ROLLCALL_SOAK_INSTANCES=3 \
//!     ROLLCALL_SOAK_PEOPLE=20000 ROLLCALL_SOAK_TRAITS=20 ROLLCALL_SOAK_PAUSE_SECONDS=30 cargo test --release soak -- --nocapture
//! ```
//!
//! It ends when all of the first three are reached. `ROLLCALL_SOAK_SEED` repeats a seed: the same faults, at about the same times.

mod load;
mod machines;
mod operator;
mod reader;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::Handle;

use self::{
    load::Load,
    machines::Machines,
    operator::Operator,
    reader::{Reader, Seen},
};
use crate::support::{dice::Dice, kafka};

/// How long the soak is, and of what size.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub seed: u64,
    seconds: u64,
    kills: u64,
    changes: u64,
    pub brokers: u64,
    pub instances: u64,
    pub people: u64,
    /// Numbers of each person that change all the time; more of them make more changes of as many messages.
    pub traits: u64,
    pub pause_seconds: u64,
}

impl Size {
    fn wanted() -> Size {
        let number = |name: &str, default| {
            env::var(format!("ROLLCALL_SOAK_{name}")).map_or(default, |text| text.parse().expect("a number"))
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        Size {
            seed: number("SEED", now),
            seconds: number("SECONDS", 60),
            kills: number("KILLS", 0),
            changes: number("CHANGES", 0),
            brokers: number("BROKERS", 1),
            instances: number("INSTANCES", 2),
            people: number("PEOPLE", 400),
            traits: number("TRAITS", 1),
            pause_seconds: number("PAUSE_SECONDS", 8),
        }
    }
}

/// What was done to them.
#[derive(Debug, Default)]
pub struct Done {
    pub kills: AtomicU64,
    pub pauses: AtomicU64,
    pub postgres: AtomicU64,
    pub brokers: AtomicU64,
    pub commands: AtomicU64,
    pub starts: AtomicU64,
    pub forgets: AtomicU64,
    pub messages: AtomicU64,
}

pub fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

/// Ends what runs beside, also where the test fails: else it would never end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long all may take to come right once nothing goes wrong any more.
const REST: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_whatever_dies_and_all_comes_right_by_itself() {
    let size = Size::wanted();
    println!("{size:?}");
    kafka::count_this_test();
    let began = Instant::now();
    let (done, ended) = (Done::default(), AtomicBool::new(false));
    let mut machines = Machines::start(size).await;
    let (load, reader) = (Load::new(&machines, size), Reader::new(&machines));
    let runtime = Handle::current();
    let seen = thread::scope(|scope| {
        let _ends = Ends(&ended);
        let loads = [scope.spawn(|| load.import(&done, &ended)), scope.spawn(|| load.track(&runtime, &done, &ended))];
        let reading = scope.spawn(|| reader.read(&done, &ended));
        tokio::task::block_in_place(|| {
            chaos(&mut machines, &reader, size, &done);
            machines.heal();
            load.stop();
            // What is under way is still stored, and computed and told after that.
            loads.into_iter().for_each(|load| load.join().expect("it ends when it is stopped"));
            machines.come_to_rest(&reader, REST);
        });
        ended.store(true, Ordering::Relaxed);
        reading.join().expect("the reader saw nothing wrong")
    });
    machines.add_up(&seen);
    report(&done, &seen, began.elapsed(), size);
    machines.end();
}

/// Things go wrong until it was enough.
fn chaos(machines: &mut Machines, reader: &Reader, size: Size, done: &Done) {
    let (mut dice, mut operator) = (Dice::of(size.seed), Operator::new(size));
    let until = Instant::now() + Duration::from_secs(size.seconds);
    let enough = |done: &Done| {
        let (kills, told) = (done.kills.load(Ordering::Relaxed), reader.told());
        Instant::now() >= until && kills >= size.kills && told >= size.changes
    };
    let mut said = Instant::now();
    while !enough(done) {
        machines.wait(Duration::from_millis(200 + dice.below(2_800) as u64));
        operator.look();
        match dice.below(100) {
            0..=54 => machines.kill(&mut dice, done),
            55..=71 => machines.pause(&mut dice, done),
            72..=76 => machines.restart_postgres(true, done),
            77..=81 => machines.restart_postgres(false, done),
            82..=86 => machines.bounce_a_broker(&mut dice, done),
            _ => operator.command(machines, &mut dice, done),
        }
        reader.is_fine();
        if said.elapsed() > Duration::from_secs(60) {
            println!("{done:?}, {} told", reader.told());
            said = Instant::now();
        }
    }
    operator.end();
}

fn report(done: &Done, seen: &Seen, took: Duration, size: Size) {
    println!("soak of {} s, seed {}: {done:?}", took.as_secs(), size.seed);
    println!(
        "{} changes told in {} transactions of {} streams, 0 lost, 0 repeated",
        seen.records, seen.transactions, seen.streams
    );
    assert!(
        seen.records > 0 && done.kills.load(Ordering::Relaxed) > 0,
        "a soak in which nothing happens proves nothing"
    );
}
