//! Delivery against a real Apache Kafka, from a log in a real Postgres.

use std::{collections::BTreeSet, sync::Arc};

use rollcall::{
    Result,
    clock::Clock,
    config::Delivery,
    deliver::{Delivered, Session, Target, pace::Pace},
    delta::{Chain, Link, lane::Lane},
    ids::{DestinationId, Position, RunId},
    kafka::settings::Settings,
    limits,
    mapping::Mapping,
    membership::diff,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{
    kafka::{self, Received},
    postgres::Database,
};

mod anew;
mod broker;
pub mod clients;
mod crash;
mod damaged;
mod decide;
mod edited;
mod evidence;
mod fenced;
mod halts;
mod isolated;
mod late;
mod network;
mod quarantine;
mod told;
mod topics;
mod verify;

/// A destination in a database of its own, with topics of its own on a broker.
pub struct Stage {
    pub db: Database,
    pub broker: String,
    pub topic: String,
    pub cursor_topic: String,
    pub destination: DestinationId,
}

impl Stage {
    /// On the shared broker; profiles 1 to `profiles` have the user ids `u1`, `u2`, …
    pub async fn new(profiles: i64, partitions: i32) -> Stage {
        Stage::on(kafka::broker(), profiles, partitions).await
    }

    pub async fn on(broker: &str, profiles: i64, partitions: i32) -> Stage {
        // `RUST_LOG=rollcall=debug` shows what delivery and librdkafka do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
        let db = Database::fresh().await;
        for sql in [
            "insert into profiles (id) select generate_series(1, $1)",
            "insert into identifiers (type, value, profile_id, added_at)
             select 'user_id', 'u' || id, id, '2024-01-01' from generate_series(1, $1) id",
        ] {
            sqlx::query(sql).bind(profiles).execute(&db.pool).await.unwrap();
        }
        sqlx::raw_sql(
            r#"insert into audiences (key, name, computation_id) values ('big_spenders', 'Big spenders', 'aud_1');
             insert into definitions (audience_id, version, query, options)
             values (1, 1, 'TRUE', '{"include_traits": ["pad", "partition", "key", "topic"]}');
             insert into destinations (name) values ('kafka');"#,
        )
        .execute(&db.pool)
        .await
        .unwrap();
        Stage {
            db,
            broker: broker.to_owned(),
            topic: kafka::topic(broker, "audiences", partitions),
            cursor_topic: kafka::unique("cursors"),
            destination: DestinationId(1),
        }
    }

    /// Gives a profile traits, which mappings of tests turn into trouble.
    pub async fn give(&self, profiles: impl IntoIterator<Item = i64>, traits: Value) {
        let profiles: Vec<i64> = profiles.into_iter().collect();
        sqlx::query("update profiles set traits = traits || $2 where id = any($1)")
            .bind(profiles)
            .bind(traits)
            .execute(self.pool())
            .await
            .unwrap();
    }

    pub fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    /// Appends one run to the destination's log.
    pub async fn seal(&self, entered: impl IntoIterator<Item = u32>, exited: impl IntoIterator<Item = u32>) {
        let (entered, exited) = (entered.into_iter().collect(), exited.into_iter().collect());
        let mut tx = self.db.pool.begin().await.unwrap();
        let count = diff::Change { entered, exited };
        let (entered, exited) = (diff::encode(&count.entered), diff::encode(&count.exited));
        let run: RunId = sqlx::query_scalar(
            "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                               exited_count, entered, exited, evaluate_ms)
             values (1, 1, '2024-05-03T19:42:50.066179Z', '', 0, 0, 0, $1, $2, 0) returning id",
        )
        .bind(&entered)
        .bind(&exited)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let (from, chain): (Position, Vec<u8>) =
            sqlx::query_as("select next_position, chain from destinations where id = $1")
                .bind(self.destination)
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        let to = Position(from.0 + count.len() as i64);
        let nonce: Uuid = sqlx::query_scalar("select gen_random_uuid()").fetch_one(&mut *tx).await.unwrap();
        let chain = Chain(chain).link(&Link::of(run, from..to, &entered, &exited, nonce));
        let told: Option<Vec<u8>> = sqlx::query_scalar("select members from told where audience_id = 1")
            .fetch_optional(&mut *tx)
            .await
            .unwrap();
        let told = count.apply(&told.map(|bytes| diff::decode(&bytes).unwrap()).unwrap_or_default());
        sqlx::query(
            "insert into told (destination_id, audience_id, run_id, members) values ($1, 1, $2, $3)
             on conflict (destination_id, audience_id) do update set run_id = excluded.run_id, members = excluded.members",
        )
        .bind(self.destination)
        .bind(run)
        .bind(diff::encode(&told))
        .execute(&mut *tx)
        .await
        .unwrap();
        for sql in [
            "insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, chain, nonce)
             values ($1, $2, $3, $4, '', $5, $6)",
            "update destinations set next_position = $3, chain = $5
             where id = $1 and $2 >= 0 and $4 > 0 and $6::uuid is not null",
        ] {
            let query = sqlx::query(sql).bind(self.destination).bind(from).bind(to).bind(run).bind(&chain.0);
            query.bind(nonce).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    pub fn target(&self) -> Target {
        self.target_with(vec![whole_event(&self.topic)])
    }

    pub fn target_with(&self, mappings: Vec<Mapping>) -> Target {
        target(&self.broker, &self.cursor_topic, mappings, json!({}))
    }

    pub async fn session(&self) -> Session {
        Session::start(self.db.pool.clone(), self.target()).await.unwrap()
    }

    pub async fn deliver(&self) -> Result<Delivered> {
        self.session().await.deliver(&|_| true).await
    }

    /// What consumers of committed records see: position, user and whether they entered, partition by partition.
    pub fn told(&self) -> Vec<(i64, String, bool)> {
        kafka::read_committed(&self.broker, &self.topic).iter().map(change).collect()
    }

    /// Fails unless each position of the log was told once, and in its order within each partition.
    pub fn assert_told_once_and_in_order(&self, positions: i64) {
        let received = kafka::read_committed(&self.broker, &self.topic);
        let mut last = std::collections::HashMap::new();
        let mut all = BTreeSet::new();
        for record in &received {
            let (position, ..) = change(record);
            if let Some(before) = last.insert(record.partition, position) {
                assert!(before < position, "{position} comes after {before}");
            }
            assert!(all.insert(position), "{position} was told twice");
        }
        assert!(all.into_iter().eq(0..positions), "{} of {positions} were told", received.len());
    }

    pub async fn mirror(&self) -> i64 {
        sqlx::query_scalar("select cursor_position from deliveries where destination_id = 1")
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    pub async fn stream(&self) -> Uuid {
        sqlx::query_scalar("select stream from destinations where id = 1").fetch_one(self.pool()).await.unwrap()
    }
}

pub fn target(broker: &str, cursor_topic: &str, mappings: Vec<Mapping>, extra: serde_json::Value) -> Target {
    let settings = json!({"brokers": broker, "mechanism": "none", "ssl_enabled": false, "properties": extra});
    let settings = Settings::parse("kafka", settings.as_object().unwrap()).unwrap();
    Target {
        name: "kafka".into(),
        space_id: "spa_1".into(),
        delivery: Delivery::ExactlyOnce,
        cursor_topic: cursor_topic.to_owned(),
        settings,
        mappings: mappings.into(),
        page_changes: limits::PAGE_CHANGES,
        lane: Lane::Live,
        pace: Arc::new(Pace::new(Clock::system(), None)),
        backfill_above: limits::BACKFILL_ABOVE,
        in_process: false,
    }
}

/// The whole Identify as the value, the user id as the key.
pub fn whole_event(topic: &str) -> Mapping {
    mapping("everything", &fields(topic))
}

/// The fields of [`whole_event`], to be changed.
pub fn fields(topic: &str) -> Value {
    json!({
        "topic": topic, "payload": {"@path": "$."}, "key": {"@path": "$.userId"}, "headers": {"source": "test"},
    })
}

/// Fields with one of them changed.
pub fn with(mut fields: Value, name: &str, value: Value) -> Value {
    fields[name] = value;
    fields
}

pub fn mapping(name: &str, fields: &Value) -> Mapping {
    let config = json!({"name": name, "subscribe": "type = \"identify\"", "mapping": fields});
    Mapping::compile(name, &serde_json::from_value(config).unwrap()).unwrap()
}

fn change(record: &Received) -> (i64, String, bool) {
    let event = record.json();
    (
        record.header("rollcall-position").unwrap().parse().unwrap(),
        event["userId"].as_str().unwrap().to_owned(),
        event["traits"]["big_spenders"].as_bool().unwrap(),
    )
}
