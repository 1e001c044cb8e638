//! The rate limit of an audience counts Identify events, on a clock that the test moves: many a change under ID Sync, and what the
//! configuration says now.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use rollcall::{
    audience::{catalogue::Catalogue, check::Known},
    clock::Clock,
    config::{self, Config, Surroundings},
    deliver::{Bulk, Target, pace::Pace},
    delta::backfill::{self, State},
    registry::register,
    runs::seal::{self, Tick},
    sync,
};

use crate::support::{kafka, postgres::Database};

/// Of whom each has one to seven addresses: 160 events.
const PEOPLE: u64 = 40;
const EVENTS: u64 = 160;
const STEP: Duration = Duration::from_millis(50);

struct Limited {
    db: Database,
    topic: String,
    clock: Clock,
    /// What was told, and when.
    told: Vec<(Duration, u64)>,
    began: std::time::Instant,
}

impl Limited {
    async fn new() -> Limited {
        let db = Database::fresh().await;
        for sql in [
            "insert into profiles (id) select generate_series(1, $1)",
            "insert into identifiers (type, value, profile_id, added_at)
             select 'user_id', 'u' || id, id, '2024-01-01' from generate_series(1, $1) id",
            "insert into identifiers (type, value, profile_id, added_at)
             select 'email', n || '@u' || id, id, '2024-01-01' from generate_series(1, $1) id, generate_series(0, id % 7) n",
        ] {
            sqlx::query(sql).bind(PEOPLE as i64).execute(&db.pool).await.unwrap();
        }
        let clock = Clock::standing_at("2024-05-01T00:00:00Z".parse().unwrap());
        let began = clock.monotonic();
        Limited { db, topic: kafka::topic(kafka::broker(), "limited", 1), clock, told: Vec::new(), began }
    }

    /// `definition` is an audience or a trait, without its end.
    async fn configure(&self, kind: &str, definition: &str, rate_limit: u32) -> Config {
        let (broker, topic) = (kafka::broker(), &self.topic);
        let text = format!(
            "destinations:\n  kafka:\n    settings: {{brokers: '{broker}', mechanism: none, ssl_enabled: false}}\n    \
             cursor_topic: {topic}.cursors\n    mappings: [{{name: all, mapping: {{topic: {topic}, payload: {{'@path': $.}}}}}}]\n\
             {kind}:\n  - {{{definition}, rate_limit: {rate_limit}, id_sync: [{{id: email, strategy: all}}]}}\n"
        );
        let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
        let config = config::parse("test", &text, &around).unwrap();
        let catalogue = Catalogue::of(&config, &Known::default());
        assert!(catalogue.refused.is_empty(), "{:?}", catalogue.refused);
        sync::note(&self.db.pool, &config, &catalogue.audiences).await.unwrap();
        config
    }

    async fn seal(&self, config: &Config) {
        let catalogue = Catalogue::of(config, &Known::default());
        let registered =
            register::register(&self.db.pool, "spa_1", &catalogue.audiences, &HashMap::new()).await.unwrap();
        sync::note(&self.db.pool, config, &catalogue.audiences).await.unwrap();
        let tick = Tick { audiences: &registered, t: self.clock.now(), dry_run: false, fired: None };
        seal::seal(&self.db.pool, tick).await.unwrap().remove(0).1.unwrap();
    }

    /// As an instance that has just started.
    fn lane(&self, config: &Config) -> Bulk {
        let mut target = Target::of(config, "kafka").unwrap();
        target.pace = Arc::new(Pace::new(self.clock.clone(), None::<NonZeroU32>));
        Bulk::new(self.db.pool.clone(), &target)
    }

    /// Lets time pass until so many events are told.
    async fn tell(&mut self, lane: &mut Bulk, events: u64) {
        let mut steps = 0;
        while self.told.iter().map(|(_, events)| events).sum::<u64>() < events {
            let step = lane.step(&|_| true).await.unwrap();
            let records = step.told.map_or(0, |told| told.records);
            match records {
                0 => self.clock.advance(STEP),
                records => self.told.push((self.clock.monotonic() - self.began, records)),
            }
            steps += 1;
            assert!(steps < 2_000, "it never ends: {:?}", self.told);
        }
    }

    /// Fails unless in any stretch of time no more was told than the rate allows, and one slice; and not much less.
    fn assert_rate(&self, from: usize, per_second: f64) {
        let told = &self.told[from..];
        for (first, (from, _)) in told.iter().enumerate() {
            let mut sum = 0;
            for (to, events) in &told[first..] {
                let allowed = (*to - *from).as_secs_f64() * per_second;
                assert!(sum as f64 <= allowed + 1e-6, "{sum} before {allowed}: {told:?}");
                sum += events;
            }
        }
        let (all, [first, .., last]) = (told.iter().map(|(_, events)| *events).sum::<u64>(), told) else {
            panic!("too little was told: {told:?}")
        };
        let took = (last.0 - first.0).as_secs_f64();
        assert!(took <= all as f64 / per_second + STEP.as_secs_f64() * told.len() as f64, "{all} took {took} s");
    }

    async fn open(&self) -> usize {
        let rows = backfill::list(&self.db.pool, 100).await.unwrap();
        rows.iter().filter(|row| row.state == State::Running).count()
    }
}

const ALL: &str = "name: All, sql: \"select 'u' || g from generate_series(1, 40) g\"";

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_told_no_more_events_a_second_than_its_limit_however_many_names_a_person_has() {
    let mut stage = Limited::new().await;
    let config = stage.configure("audiences", ALL, 20).await;
    stage.seal(&config).await;
    let mut lane = stage.lane(&config);
    stage.tell(&mut lane, 40).await;
    // Whoever takes over makes no fresh start.
    lane = stage.lane(&config);
    stage.tell(&mut lane, 60).await;
    stage.assert_rate(0, 20.0);
    // A changed limit acts on what is open.
    let changed = stage.told.len();
    stage.configure("audiences", ALL, 200).await;
    stage.tell(&mut lane, EVENTS).await;
    stage.assert_rate(changed, 200.0);
    lane.step(&|_| true).await.unwrap();
    assert_eq!(stage.open().await, 0, "all is told");
    assert_eq!(kafka::read_committed(kafka::broker(), &stage.topic).len() as u64, EVENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_again_shares_the_limit_of_its_audience() {
    let mut stage = Limited::new().await;
    let config = stage.configure("audiences", ALL, 50).await;
    stage.seal(&config).await;
    backfill::resync(&stage.db.pool, "all", "kafka", None, None).await.unwrap();
    assert_eq!(stage.open().await, 2);
    let mut lane = stage.lane(&config);
    stage.tell(&mut lane, 2 * EVENTS).await;
    stage.assert_rate(0, 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trait_has_a_limit_too() {
    let mut stage = Limited::new().await;
    let number = "name: Number, sql: \"select 'u' || g as user_id, g as number from generate_series(1, 40) g\"";
    let config = stage.configure("traits", number, 40).await;
    stage.seal(&config).await;
    assert_eq!(stage.open().await, 1, "all of it is a backfill");
    let mut lane = stage.lane(&config);
    stage.tell(&mut lane, EVENTS).await;
    stage.assert_rate(0, 40.0);
}
