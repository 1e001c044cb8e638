//! The show: five instances, two hundred audiences, a thousand ticks, under a clock that steps forwards, backwards and over
//! clock changes, while instances die and others start. Each tick is sealed once, and none is missed.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::{
    clock::Clock,
    config::{self, Config, Surroundings},
    schedule::{CatchUp, Schedule},
    serve::Server,
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::support::{kafka::PATIENCE, postgres::Database};

const AUDIENCES: usize = 200;
const TICKS: i64 = 1_000;
const INSTANCES: usize = 5;

/// Zones, of which the first three change their clocks within the days of the show.
const ZONES: [&str; 5] =
    ["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "America/St_Johns"];

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Most at a minute of the day of their own, some together, some in the hours that clock changes skip or repeat.
fn schedule_of(n: usize) -> String {
    let (minute, hour, zone) = (n * 37 % 60, n * 5 % 24, ZONES[n / 8 % ZONES.len()]);
    match n % 8 {
        0 => format!("{minute} {hour} * * *"),
        1 | 2 => format!("CRON_TZ={zone} {minute} {hour} * * *"),
        3 => format!("every {}h", 6 + n % 9),
        4 => format!("CRON_TZ={zone} 30 */12 * * *"),
        5 => format!("CRON_TZ={zone} {minute} 2 * * *"),
        6 => "{every: 1d, jitter: 1h}".into(),
        _ => format!("{{cron: '{minute} {hour} * * *', timezone: {zone}, catch_up: skip}}"),
    }
}

/// Every fifth refers to the one before, so some refer to one that refers to another. Nobody need wait for a tick that is
/// skipped or starts late.
fn refers(n: usize) -> Option<usize> {
    let other = n.checked_sub(1)?;
    let is_prompt = !schedule_of(other).contains("skip") && !schedule_of(other).contains("jitter");
    ((n % 5 == 4 || n % 20 == 3) && is_prompt).then_some(other)
}

fn config() -> Config {
    let audience = |n: usize| {
        let query = match refers(n) {
            Some(other) => format!("trait('a_{other:03}') = 'true' AND trait('n') >= {}", n % 3),
            None => format!("trait('n') >= {}", n % 4),
        };
        format!("  - {{name: A {n:03}, key: a_{n:03}, query: \"{query}\", schedule: {}}}\n", schedule_of(n))
    };
    let text = format!("audiences:\n{}", (0..AUDIENCES).map(audience).collect::<String>());
    let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    config::parse("the show", &text, &around).unwrap()
}

fn number(key: &str) -> usize {
    key[2..].parse().unwrap()
}

struct Show {
    database: Database,
    clock: Clock,
    schedules: Vec<Schedule>,
    servers: Vec<Server>,
    started: usize,
    dice: Dice,
    /// The latest time that the clock has shown while all was settled.
    latest: DateTime<Utc>,
}

impl Show {
    async fn start() -> Show {
        let database = Database::fresh().await;
        // Only one instance seals at a time; but safety must not depend on it. So the lock can be made one that everybody gets.
        sqlx::raw_sql(
            "create table show (anybody_may_seal boolean not null);
             insert into show values (false);
             create function public.pg_try_advisory_lock(key bigint) returns boolean language sql as $$
                 select anybody_may_seal or pg_catalog.pg_try_advisory_lock(key) from show $$;
             insert into profiles (id, traits) select id, jsonb_build_object('n', id % 5) from generate_series(1, 20) id;
             insert into identifiers (type, value, profile_id, added_at)
                 select 'user_id', 'u' || id, id, '2020-01-01' from generate_series(1, 20) id",
        )
        .execute(&database.pool)
        .await
        .unwrap();
        let schedules: Vec<Schedule> =
            config().audiences.iter().map(|audience| audience.schedule.as_ref().unwrap().parse("a").unwrap()).collect();
        let latest = "2026-03-28T20:00:00Z".parse().unwrap();
        let clock = Clock::standing_at(latest);
        let mut show = Show { database, clock, schedules, servers: Vec::new(), started: 0, dice: Dice(5), latest };
        for _ in 0..INSTANCES {
            show.another().await;
        }
        show
    }

    async fn pool(&self) -> PgPool {
        let options = self.database.options().options([("search_path", "public,pg_catalog")]);
        PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap()
    }

    async fn another(&mut self) {
        self.servers.push(Server::start(self.pool().await, self.clock.clone(), config()).await.unwrap());
        self.started += 1;
    }

    /// An instance dies wherever it is: its leases are not given back, and end some time later. Another one starts.
    async fn replace(&mut self) {
        let victim = self.dice.below(INSTANCES as u64) as usize;
        drop(self.servers.swap_remove(victim));
        self.another().await;
    }

    /// Leases end, also of instances that live and do not know it yet.
    async fn end_leases(&self) {
        self.execute("update leases set expires_at = clock_timestamp() where hashtext(name) % 2 = 0").await;
    }

    /// Whoever works is held fast amid its evaluation, its lease ends, and another takes over; then all of them go on at once.
    async fn take_over(&mut self) {
        let mut gate = self.database.pool.begin().await.unwrap();
        sqlx::raw_sql("lock table profiles in access exclusive mode").execute(&mut *gate).await.unwrap();
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.count("select count(*) from schedules where state = 'running' and attempt > 1").await == 0 {
            assert!(Instant::now() < deadline, "nobody takes over");
            if self.count("select count(*) from schedules where state = 'running'").await == 0 {
                self.clock.step(TimeDelta::minutes(5));
            }
            self.execute(
                "update leases set expires_at = clock_timestamp()
                 where name in (select lease from schedules where state = 'running')",
            )
            .await;
            self.clock.advance(Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        gate.commit().await.unwrap();
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.database.pool).await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }

    fn delay(&self, n: usize) -> TimeDelta {
        self.schedules[n].delay(&format!("a_{n:03}"))
    }

    /// Mostly some minutes on; sometimes half a day, or back. Time passes a little with it.
    fn step(&mut self) {
        self.clock.advance(Duration::from_secs(2));
        let minutes = match self.dice.below(20) {
            0 => -(self.dice.below(180) as i64),
            1 => self.dice.below(720) as i64,
            _ => self.dice.below(30) as i64,
        };
        let seconds = if self.dice.one_in(3) { self.dice.below(60) as i64 } else { 0 };
        self.clock.step(TimeDelta::minutes(minutes) + TimeDelta::seconds(seconds));
        if self.dice.one_in(4) {
            // Onto a full quarter of an hour.
            let over = self.clock.now().timestamp() % 900;
            self.clock.step(TimeDelta::seconds(-over));
        }
    }

    /// The tick that every audience must be sealed for by `latest`, where it must catch up.
    fn due(&self, latest: DateTime<Utc>) -> Vec<Option<DateTime<Utc>>> {
        let due = |(n, schedule): (usize, &Schedule)| {
            let due = schedule.last_at_or_before(latest - self.delay(n)).unwrap().at;
            (schedule.catch_up() == CatchUp::Once).then_some(due)
        };
        self.schedules.iter().enumerate().map(due).collect()
    }

    /// Waits until the latest tick of every audience that must catch up is sealed, and nothing is under way.
    async fn settle(&mut self) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let latest = self.latest.max(self.clock.now());
            let due = self.due(latest);
            for _ in 0..20 {
                let rows: Vec<(String, DateTime<Utc>, String)> = sqlx::query_as(
                    "select a.key, s.scheduled_for, s.state from schedules s join audiences a on a.id = s.audience_id",
                )
                .fetch_all(&self.database.pool)
                .await
                .unwrap();
                let known: HashMap<usize, _> =
                    rows.into_iter().map(|(key, at, state)| (number(&key), (at, state))).collect();
                let behind = (0..AUDIENCES).find(|n| match (known.get(n), due[*n]) {
                    (Some((_, state)), _) if state != "done" => true,
                    (Some((at, _)), Some(due)) => *at < due,
                    (None, due) => due.is_some(),
                    (Some(_), None) => false,
                });
                let Some(behind) = behind else {
                    self.latest = latest;
                    return;
                };
                let row = known.get(&behind);
                assert!(Instant::now() < deadline, "a_{behind:03} stays behind at {latest}: {row:?}");
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            // Whoever waits wakes by and by, without time passing faster than leases can be renewed.
            self.clock.advance(Duration::from_secs(2));
        }
    }

    async fn ticks(&self) -> i64 {
        self.count("select count(distinct scheduled_for) from runs").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_instances_seal_each_of_a_thousand_ticks_of_two_hundred_audiences_once() {
    let mut show = Show::start().await;
    show.settle().await;
    while show.ticks().await < TICKS / 2 {
        if show.dice.one_in(40) {
            show.replace().await;
        }
        show.step();
        show.settle().await;
    }
    println!("orderly: {} ticks until {}", show.ticks().await, show.latest);
    let orderly = show.count("select max(id) from runs").await;

    // From here on nothing but the guarded statements keeps two from sealing the same: turns are everybody's, instances die
    // in the middle, leases end under who works.
    show.execute("update show set anybody_may_seal = true").await;
    while show.ticks().await < TICKS {
        if show.dice.one_in(20) {
            show.take_over().await;
            show.settle().await;
        }
        show.step();
        if show.dice.one_in(40) {
            tokio::task::yield_now().await;
            show.replace().await;
        }
        if show.dice.one_in(3) {
            show.end_leases().await;
        }
        show.settle().await;
    }

    let runs: Vec<(i64, String, DateTime<Utc>, i32, String)> = sqlx::query_as(
        "select r.id, a.key, r.scheduled_for, r.attempt, r.snapshot from runs r join audiences a on a.id = r.audience_id
         order by r.id",
    )
    .fetch_all(&show.database.pool)
    .await
    .unwrap();
    let mut last = BTreeMap::new();
    let (mut together, mut taken_over) = (HashMap::new(), 0);
    for (id, key, at, attempt, snapshot) in &runs {
        let n = number(key);
        let schedule = &show.schedules[n];
        assert_eq!(schedule.last_at_or_before(*at).unwrap().at, *at, "{key}: {at} is no tick of {schedule}");
        if let Some(before) = last.insert(n, *at) {
            assert!(before < *at, "{key}: {at} was sealed after {before}");
        }
        taken_over += i32::from(*attempt > 1);
        if *id > orderly {
            continue;
        }
        if let Some(reference) = refers(n) {
            let needed = show.schedules[reference].last_at_or_before(*at).unwrap().at;
            let must = show.schedules[reference].catch_up() == CatchUp::Once;
            assert!(!must || last.get(&reference) >= Some(&needed), "{key} at {at} went before a_{reference:03}");
        }
        if show.delay(n).is_zero() && *attempt == 1 && refers(n).is_none() {
            let first: &String = together.entry(*at).or_insert(snapshot);
            assert_eq!(first, snapshot, "those due at {at} share one snapshot");
        }
    }
    let changed = "2026-04-05T18:00:00Z".parse::<DateTime<Utc>>().unwrap();
    assert!(show.latest > changed, "{}: over the clock changes of Berlin, Lord Howe and Santiago", show.latest);
    assert!(taken_over > 0, "nothing was taken over");
    println!(
        "{} runs, {} ticks, until {}, {} instances, {taken_over} runs of later attempts",
        runs.len(),
        show.ticks().await,
        show.latest,
        show.started
    );
}
