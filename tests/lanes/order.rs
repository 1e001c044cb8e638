//! Random seals, slices, deliveries of either lane, decisions and restarts against a model: each person's changes in each audience are
//! told in the order in which they were sealed, and in the end a consumer knows who is in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rollcall::{
    audience::{catalogue::Catalogue, check::Known},
    config::{self, Surroundings},
    deliver::{claim::Claim, unhalt},
    delta::{
        self, Now, Reader,
        backfill::{self, Decision},
        lane::Lane,
    },
    ids::{BackfillId, Position},
    registry::register::{self, Registered, Terms},
    runs::seal::{self, Tick},
};
use sqlx::PgPool;

use crate::support::postgres::Database;

const PEOPLE: i64 = 24;
/// More than this is a backfill's.
const ABOVE: u32 = 4;
const AUDIENCES: &str = "
destinations:
  kafka:
    settings: {brokers: 'localhost:9092', mechanism: none, ssl_enabled: false}
    mappings: [{name: all, mapping: {topic: t, payload: {'@path': $.}}}]
audiences:
  - {name: First, query: \"trait('a') = 'in'\"}
  - {name: Second, query: \"trait('b') = 'in'\"}
";

#[derive(Debug, Clone)]
enum Step {
    /// These people are in the audience from now on, and nobody else.
    Seal(usize, Vec<i64>),
    Slice,
    /// The lane is told some changes; whether the mirror hears of it at once.
    Tell(Lane, usize, bool),
    Decide(Decision),
    Resync(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Bulk)];
    let people = prop::collection::vec(1..=PEOPLE, 0..PEOPLE as usize);
    prop_oneof![
        4 => (0..2usize, people).prop_map(|(audience, people)| Step::Seal(audience, people)),
        4 => Just(Step::Slice),
        5 => (lane, 1..8usize, any::<bool>()).prop_map(|(lane, count, mirrored)| Step::Tell(lane, count, mirrored)),
        1 => prop_oneof![Just(Decision::Pause), Just(Decision::Resume)].prop_map(Step::Decide),
        1 => (0..2usize).prop_map(Step::Resync),
    ]
}

/// An audience, a profile, and whether it entered.
type Change = (String, u32, bool);

struct Model {
    pool: PgPool,
    audiences: Vec<Registered>,
    t: DateTime<Utc>,
    members: [BTreeSet<i64>; 2],
    /// All changes as they were sealed, over both lanes; and how far each lane's log is taken in.
    sealed: Vec<Change>,
    ends: BTreeMap<Lane, Position>,
    /// Where each lane's cursor in Kafka is, and what a consumer got.
    cursors: BTreeMap<Lane, Position>,
    told: Vec<Change>,
}

impl Model {
    async fn new(db: &Database) -> Model {
        let pool = db.pool.clone();
        sqlx::query(
            "insert into profiles (id, traits) select generate_series(1, $1), '{\"a\": \"out\", \"b\": \"out\"}'",
        )
        .bind(PEOPLE)
        .execute(&pool)
        .await
        .unwrap();
        sqlx::query(
            "insert into identifiers (type, value, profile_id, added_at)
             select 'user_id', 'u' || id, id, '2024-01-01' from generate_series(1, $1) id",
        )
        .bind(PEOPLE)
        .execute(&pool)
        .await
        .unwrap();
        let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
        let config = config::parse("test", AUDIENCES, &around).unwrap();
        let catalogue = Catalogue::of(&config, &Known::default());
        assert!(catalogue.refused.is_empty(), "{:?}", catalogue.refused);
        let terms = HashMap::from([("kafka".to_owned(), terms())]);
        let audiences = register::register(&pool, "spa_test", &catalogue.audiences, &terms).await.unwrap();
        let t = "2024-05-01T00:00:00Z".parse().unwrap();
        let (sealed, told) = (Vec::new(), Vec::new());
        Model {
            pool,
            audiences,
            t,
            members: Default::default(),
            sealed,
            ends: BTreeMap::new(),
            cursors: BTreeMap::new(),
            told,
        }
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Seal(audience, people) => {
                self.members[*audience] = people.iter().copied().collect();
                let sql = "update profiles set traits = jsonb_set(traits, array[$1], to_jsonb(
                               case when id = any($2) then 'in' else 'out' end)), xid = pg_current_xact_id()";
                sqlx::query(sql).bind(["a", "b"][*audience]).bind(people).execute(&self.pool).await.unwrap();
                self.t += TimeDelta::seconds(1);
                let audiences = std::slice::from_ref(&self.audiences[*audience]);
                let tick = Tick { audiences, t: self.t, dry_run: false, fired: None };
                seal::seal(&self.pool, tick).await.unwrap().remove(0).1.unwrap();
            }
            Step::Slice => drop(backfill::top_up(&self.pool, "kafka", &terms(), self.t).await.unwrap()),
            Step::Tell(lane, count, mirrored) => self.tell(*lane, *count, *mirrored).await,
            Step::Decide(decision) => {
                let open = backfill::list(&self.pool, 1).await.unwrap().first().map_or(BackfillId(0), |row| row.id);
                backfill::decide(&self.pool, open, *decision).await.ok();
            }
            Step::Resync(audience) => {
                let key = &self.audiences[*audience].audience.key;
                backfill::resync(&self.pool, key, "kafka", None, None).await.ok();
            }
        }
        self.take_in().await;
    }

    /// What was appended by the last step: to one lane after the other, and to one audience in one lane.
    async fn take_in(&mut self) {
        for lane in [Lane::Live, Lane::Bulk] {
            let Some(head) = delta::find(&self.pool, "kafka", lane).await.unwrap() else { continue };
            let mut reader = Reader::new(head.destination);
            let from = *self.ends.get(&lane).unwrap_or(&Position(0));
            // A reader heeds what must be told before; here only the log is looked at.
            let (_, changes) = read(&mut reader, &self.pool, from, usize::MAX, false).await;
            self.sealed.extend(changes);
            self.ends.insert(lane, head.end);
        }
    }

    async fn tell(&mut self, lane: Lane, count: usize, mirrored: bool) {
        let Some(head) = delta::find(&self.pool, "kafka", lane).await.unwrap() else { return };
        let from = *self.cursors.get(&lane).unwrap_or(&Position(0));
        let (to, changes) = read(&mut Reader::new(head.destination), &self.pool, from, count, true).await;
        self.told.extend(changes);
        self.cursors.insert(lane, to);
        if mirrored {
            let claim = Claim::take(&self.pool, head.destination, head.stream).await.unwrap().unwrap();
            assert!(claim.mirror(&self.pool, to).await.unwrap());
        }
    }

    /// Until nothing is left: the lanes in turn.
    async fn tell_all(&mut self) {
        let mut idle = 0;
        for _ in 0..500 {
            let before = (self.told.len(), self.sealed.len());
            for row in backfill::list(&self.pool, 100).await.unwrap() {
                backfill::decide(&self.pool, row.id, Decision::Resume).await.ok();
            }
            for step in [Step::Slice, Step::Tell(Lane::Bulk, 3, true), Step::Tell(Lane::Live, 5, true)] {
                self.run(&step).await;
            }
            // A round may do no more than let a mirror hear of what was told before.
            idle = if (self.told.len(), self.sealed.len()) == before { idle + 1 } else { 0 };
            if idle == 3 {
                return;
            }
        }
        panic!("it never ends");
    }

    fn in_order(&self, told: &[Change]) -> Result<(), TestCaseError> {
        let (sealed, told) = (by_person(&self.sealed), by_person(told));
        for (who, changes) in &told {
            prop_assert!(sealed[who].starts_with(changes), "{who:?}: sealed {:?}, told {changes:?}", sealed[who]);
        }
        Ok(())
    }
}

fn terms() -> Terms {
    Terms { mapping_version: String::new(), backfill_above: ABOVE }
}

async fn read(reader: &mut Reader, pool: &PgPool, from: Position, limit: usize, heed: bool) -> (Position, Vec<Change>) {
    let (mut next, mut changes) = (from, Vec::new());
    if !heed {
        reader.take_as_told(Position(i64::MAX));
    }
    while changes.len() < limit {
        let Some(page) = reader.page(pool, next, limit - changes.len()).await.unwrap() else { break };
        next = page.to();
        let key = &page.run.key;
        changes.extend(page.changes.iter().map(|(profile, now)| (key.clone(), profile.0, *now == Now::In)));
    }
    (next, changes)
}

fn by_person(changes: &[Change]) -> BTreeMap<(&str, u32), Vec<bool>> {
    let mut people: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    for (audience, profile, entered) in changes {
        people.entry((audience.as_str(), *profile)).or_default().push(*entered);
    }
    people
}

async fn holds(steps: &[Step], again: &[Step]) -> Result<(), TestCaseError> {
    let db = Database::fresh().await;
    let mut model = Model::new(&db).await;
    for step in steps {
        model.run(step).await;
        model.in_order(&model.told)?;
    }
    model.tell_all().await;
    let told = std::mem::take(&mut model.told);
    prop_assert_eq!(by_person(&told), by_person(&model.sealed));
    for (index, members) in model.members.iter().enumerate() {
        let key = &model.audiences[index].audience.key;
        let folded =
            by_person(&told).into_iter().filter(|((audience, _), told)| audience == key && told.last() == Some(&true));
        let folded: BTreeSet<i64> = folded.map(|((_, profile), _)| i64::from(profile)).collect();
        prop_assert_eq!(&folded, members, "audience {}", key);
    }
    // And told again from the beginning, in an order of the lanes that is not that of the first time.
    let head = delta::head(&model.pool, "kafka", Lane::Live).await.unwrap();
    unhalt::start_over(&model.pool, head.destination).await.unwrap();
    model.cursors.clear();
    let sealed = model.sealed.len();
    for step in again.iter().filter(|step| matches!(step, Step::Tell(..))) {
        model.run(step).await;
        model.in_order(&model.told)?;
    }
    model.tell_all().await;
    prop_assert_eq!(model.told.len(), sealed);
    prop_assert_eq!(by_person(&model.told), by_person(&model.sealed));
    Ok(())
}

#[test]
fn each_persons_changes_are_told_in_the_order_of_their_sealing_whatever_the_lanes_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 6, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let steps = || prop::collection::vec(step(), 20..50);
    TestRunner::new(config)
        .run(&(steps(), steps()), |(steps, again)| runtime.block_on(holds(&steps, &again)))
        .unwrap_or_else(|failure| panic!("{failure}"));
}
