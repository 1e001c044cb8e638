//! A run that changes too much is held: nobody is told of it until a person has decided.

use std::collections::{BTreeSet, HashMap};

use rollcall::{
    audience::{catalogue::Catalogue, check::Known},
    config::{self, Config},
    ids::RunId,
    membership::{
        guard::Counts,
        run::{Run, RunState},
    },
    registry::register::{self, Registered},
    runs::{
        held, history,
        seal::{Tick, seal},
    },
};
use serde_json::json;

use crate::{
    support::{kafka, postgres::Database},
    sync::{World, fold, order},
};

/// Profiles who are in by a trait, two audiences of which one refers to the other, and a destination that is only told in the log.
struct Store {
    db: Database,
    audiences: Vec<Registered>,
}

const AUDIENCES: &str = "
  - {name: Members, query: \"trait('in') = 'yes'\"}
  - {name: Others, query: \"NOT trait('members') = 'true'\", guard: off}
";

fn config(guard: &str, audiences: &str) -> Config {
    let destinations = "{kafka: {settings: {brokers: 'b:1'}, mappings: []}}";
    let text = format!("guard: {guard}\ndestinations: {destinations}\naudiences:{audiences}");
    let nothing = |_: &str| None;
    let no_file = |_: &str| unreachable!();
    config::parse("test", &text, &config::Surroundings { variable: &nothing, file: &no_file }).unwrap()
}

impl Store {
    /// 20 profiles, all of them in, under this guard.
    async fn new(guard: &str) -> Store {
        let db = Database::fresh().await;
        sqlx::raw_sql(
            r#"insert into profiles (id, traits) select id, '{"in": "yes"}' from generate_series(1, 20) id;
               insert into identifiers (type, value, profile_id, added_at)
               select 'user_id', 'u' || id, id, '2024-01-01' from generate_series(1, 20) id;"#,
        )
        .execute(&db.pool)
        .await
        .unwrap();
        let catalogue = Catalogue::of(&config(guard, AUDIENCES), &Known::default());
        assert!(catalogue.refused.is_empty(), "{:?}", catalogue.refused);
        let audiences = register::register(&db.pool, "spa_test", &catalogue.audiences, &HashMap::new()).await.unwrap();
        Store { db, audiences }
    }

    /// The load that came in says that so many are in.
    async fn load(&self, members: i64) {
        sqlx::query(
            "update profiles set traits = jsonb_build_object('in', case when id <= $1 then 'yes' else 'no' end)",
        )
        .bind(members)
        .execute(&self.db.pool)
        .await
        .unwrap();
    }

    async fn run(&self) -> [Run; 2] {
        self.tick(false).await
    }

    async fn tick(&self, dry_run: bool) -> [Run; 2] {
        let t = "2024-05-01T00:00:00Z".parse().unwrap();
        let tick = Tick { audiences: &self.audiences, t, dry_run, fired: None };
        let runs = seal(&self.db.pool, tick).await.unwrap();
        let runs: Vec<Run> = runs.into_iter().map(|(_, run)| run.unwrap()).collect();
        runs.try_into().unwrap()
    }

    /// How many changes stand in the log.
    async fn told(&self) -> i64 {
        sqlx::query_scalar("select next_position from destinations").fetch_one(&self.db.pool).await.unwrap()
    }

    async fn members(&self) -> u64 {
        history::members(&self.db.pool, "members", None).await.unwrap().len()
    }

    async fn state(&self, run: Option<RunId>) -> String {
        sqlx::query_scalar("select state from runs where id = $1").bind(run).fetch_one(&self.db.pool).await.unwrap()
    }

    async fn release(&self, run: Option<RunId>) -> rollcall::Result<Run> {
        held::release(&self.db.pool, run.unwrap(), &self.audiences[0].audience, &HashMap::new()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_empties_an_audience_is_told_to_nobody_and_without_the_guard_to_everybody() {
    for (guard, state, told, members, dependants) in [
        ("{over: 10}", RunState::Held, 0, 20, 0),
        ("off", RunState::Sealed, 40, 0, 20),
        ("{share: 1}", RunState::Sealed, 40, 0, 20),
    ] {
        let store = Store::new(guard).await;
        assert_eq!(store.run().await[0].state, RunState::Sealed, "a first run is not held");
        let before = store.told().await;
        store.load(0).await;
        let would = store.tick(true).await[0].clone();
        assert_eq!((would.state, would.run), (state, None), "{guard}: a dry run says it");
        let [run, dependant] = store.run().await;
        assert_eq!((run.state, run.members, run.exited), (state, 0, 20), "{guard}");
        assert_eq!(
            (dependant.state, dependant.members),
            (RunState::Sealed, dependants),
            "{guard}: it goes by what is accepted"
        );
        assert_eq!(store.told().await - before, told, "{guard}");
        assert_eq!(store.members().await, members, "{guard}");
        let kept: i64 = sqlx::query_scalar("select count(*) from runs where held_members is not null")
            .fetch_one(&store.db.pool)
            .await
            .unwrap();
        assert_eq!(kept, i64::from(state == RunState::Held), "{guard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_entry_is_held_too() {
    let store = Store::new("{over: 5, share: 0.5}").await;
    store.load(6).await;
    store.run().await;
    store.load(20).await;
    let [run, _] = store.run().await;
    assert_eq!((run.state, run.entered), (RunState::Held, 14));
    assert!(run.held_because.unwrap().contains("14 would enter and 0 leave a membership of 6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_run_is_told_as_it_was_evaluated_and_counts_from_then_on() {
    let store = Store::new("{over: 10}").await;
    let [first, _] = store.run().await;
    store.load(5).await;
    let [held, _] = store.run().await;
    let before = store.told().await;
    // What has come in since does not matter.
    store.load(9).await;
    let released = store.release(held.run).await.unwrap();
    assert_eq!((released.state, released.members, released.exited), (RunState::Released, 5, 15));
    assert_eq!((store.told().await - before, store.members().await), (15, 5));
    assert_eq!(store.state(held.run).await, "released");
    let error = store.release(held.run).await.unwrap_err();
    assert!(error.message.contains("no longer held"), "{error}");
    assert!(held::discard(&store.db.pool, held.run.unwrap()).await.is_err());

    let [next, dependant] = store.run().await;
    assert_eq!((next.state, next.entered, dependant.members), (RunState::Sealed, 4, 11));
    let then = |run: Option<RunId>| history::members(&store.db.pool, "members", run);
    let counts =
        [then(first.run).await.unwrap().len(), then(held.run).await.unwrap().len(), then(None).await.unwrap().len()];
    assert_eq!(counts, [20, 5, 9], "the history is that of accepted runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_takes_the_place_of_a_held_one_and_a_repaired_load_is_sealed() {
    let store = Store::new("{over: 10}").await;
    store.run().await;
    store.load(0).await;
    let ([one, _], [two, _]) = (store.run().await, store.run().await);
    assert_eq!((store.state(one.run).await.as_str(), store.state(two.run).await.as_str()), ("superseded", "held"));
    let error = held::find(&store.db.pool, &one.run.unwrap().to_string()).await.unwrap_err();
    assert!(error.message.contains("was superseded") && error.message.contains("'members'"), "{error}");
    assert_eq!(held::find(&store.db.pool, "members").await.unwrap().run, two.run.unwrap(), "a key will do");

    store.load(19).await;
    let [three, _] = store.run().await;
    assert_eq!((three.state, three.exited), (RunState::Sealed, 1), "against what was accepted before");
    assert_eq!(store.state(two.run).await, "superseded");
    assert!(held::waiting(&store.db.pool).await.unwrap().is_empty());
    let error = held::find(&store.db.pool, "members").await.unwrap_err();
    assert!(error.message.contains("no run is held as 'members'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_run_is_told_to_nobody_and_the_next_one_is_judged_anew() {
    let store = Store::new("{over: 10}").await;
    store.run().await;
    let before = store.told().await;
    store.load(0).await;
    let [run, _] = store.run().await;
    held::discard(&store.db.pool, run.run.unwrap()).await.unwrap();
    assert_eq!(store.state(run.run).await, "discarded");
    assert!(store.release(run.run).await.is_err());
    let [again, _] = store.run().await;
    assert_eq!((again.state, store.told().await - before, store.members().await), (RunState::Held, 0, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_change_passes_once_and_only_if_it_is_what_was_confirmed() {
    let store = Store::new("{over: 10}").await;
    store.run().await;
    let of = &store.audiences[0];
    let confirm = |exited, version| held::confirm(&store.db.pool, of.id, version, Counts { entered: 0, exited });
    store.load(5).await;
    confirm(15, of.version + 1).await.unwrap();
    assert_eq!(store.run().await[0].state, RunState::Held, "that was another definition");
    confirm(10, of.version).await.unwrap();
    assert_eq!(store.run().await[0].state, RunState::Held, "that was another change");
    confirm(14, of.version).await.unwrap();
    assert_eq!(store.run().await[0].state, RunState::Sealed, "one more has left meanwhile");
    store.load(20).await;
    assert_eq!(store.run().await[0].state, RunState::Sealed, "five are too few to be held");
    store.load(5).await;
    assert_eq!(store.run().await[0].state, RunState::Held, "it was confirmed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refers_to_an_audience_whose_first_run_is_held_waits_for_the_decision() {
    let store = Store::new("{max_changes: 10}").await;
    let tick =
        Tick { audiences: &store.audiences, t: "2024-05-01T00:00:00Z".parse().unwrap(), dry_run: false, fired: None };
    let runs = seal(&store.db.pool, tick).await.unwrap();
    assert_eq!(runs[0].1.as_ref().unwrap().state, RunState::Held, "an absolute bound holds a first run too");
    let error = runs[1].1.as_ref().unwrap_err();
    assert!(error.message.contains("first run is held"), "{error}");
    store.release(runs[0].1.as_ref().unwrap().run).await.unwrap();
    assert_eq!((store.members().await, store.told().await), (20, 20));
}

const BUYERS: &str =
    "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 1s, guard: {over: 3}}";

fn users(range: std::ops::Range<usize>) -> BTreeSet<String> {
    range.map(|n| format!("u{n}")).collect()
}

/// Four buyers are told, then the table of orders is emptied upstream.
async fn emptied() -> World {
    let world = World::new(BUYERS).await;
    let orders: Vec<_> =
        (0..4).map(|n| order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0)).collect();
    world.import(&orders);
    world.json(&["sync"]);
    assert_eq!(world.fold()["buyers"], users(0..4));
    sqlx::query("delete from events").execute(&world.db.pool).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_is_said_everywhere_sends_nothing_and_is_told_once_it_is_released() {
    let world = emptied().await;
    let output = world.run(&["sync"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "a person must decide: {said}");
    assert!(said.contains("'buyers'") && said.contains("rollcall release"), "{said}");
    assert_eq!(world.told().len(), 4, "nothing was sent");

    let held = world.json(&["runs", "--held"]);
    assert_eq!((&held[0]["key"], &held[0]["state"], &held[0]["exited"]), (&json!("buyers"), &json!("held"), &json!(4)));
    let run = held[0]["run"].to_string();
    let text = |args: &[&str]| String::from_utf8(world.run(args).stdout).unwrap();
    assert!(text(&["status"]).contains(&format!("run {run} is held")), "{}", text(&["status"]));
    assert!(text(&["audiences"]).contains(&format!("run {run} is held")), "{}", text(&["audiences"]));
    assert_eq!(world.json(&["audiences"])[0]["last_run"]["members"], 4, "what is accepted");
    let dry = world.json(&["sync", "--dry-run"]);
    assert_eq!(dry["runs"][0]["state"], "held", "a dry run says that it would be");

    let released = world.json(&["release", "buyers"]);
    assert_eq!(
        (&released["run"], &released["state"], &released["exited"]),
        (&held[0]["run"], &json!("released"), &json!(4))
    );
    assert_eq!(world.run(&["release", &run]).status.code(), Some(4), "that is decided");
    world.json(&["sync"]);
    assert_eq!((world.fold()["buyers"].len(), world.told().len()), (0, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_holds_a_run_without_a_retry_and_goes_on_when_the_load_is_repaired() {
    let world = emptied().await;
    let log = world.folder.path().join("serve.log");
    let mut command = world.command(&["serve", "-v", "--color", "never"]);
    let mut serve = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    kafka::eventually("it says so", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines()
            .any(|line| line.contains("held: a person must decide") && line.contains("audience=\"buyers\""))
            .then_some(())
    });
    let failed: i64 = sqlx::query_scalar("select count(*) from schedules where state = 'failed'")
        .fetch_one(&world.db.pool)
        .await
        .unwrap();
    assert_eq!((failed, world.told().len()), (0, 4));
    // The next ticks hold as well; the repaired load passes by itself.
    let orders: Vec<_> =
        (0..5).map(|n| order(&format!("u{n}"), &format!("n{n}"), "2024-05-01T00:00:00Z", 1.0)).collect();
    world.import(&orders);
    kafka::eventually("the new one is told", || (fold(&world.told()).get("buyers")? == &users(0..5)).then_some(()));
    assert_eq!(world.told().len(), 5, "nobody was told to be out");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(serve.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(serve.wait().unwrap().success());
}
