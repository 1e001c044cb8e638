//! Each reason to halt, reached on a real broker and a real Postgres, and the way out of it.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall::{
    Kind,
    deliver::{Delivered, Session, recover::Reason, unhalt},
    ids::{DestinationId, Position},
};

use serde_json::json;
use tokio::runtime::Handle;

use super::{Stage, fields, mapping, with};
use crate::support::kafka;

/// A destination that was told five changes and has five more to be told.
async fn half_told() -> Stage {
    let stage = Stage::new(20, 1).await;
    stage.seal(1..=5, []).await;
    stage.deliver().await.unwrap();
    stage.seal(6..=10, []).await;
    stage
}

/// Fails unless a delivery ended by this error halted, and says so to everybody.
pub async fn assert_halted(stage: &Stage, error: &rollcall::Error, name: &str) {
    assert_eq!(error.kind, Kind::Halted, "{error}: {:?}", std::error::Error::source(error));
    assert!(error.message.contains(name), "{error}");
    let reason = Reason::ALL.into_iter().find(|reason| reason.name() == name).unwrap();
    assert_eq!(error.help.as_deref(), Some(reason.remedy()));
    let state: (String, Option<String>) =
        sqlx::query_as("select state, halt_reason from deliveries").fetch_one(stage.pool()).await.unwrap();
    assert_eq!(state, ("halted".to_owned(), Some(name.to_owned())));
}

async fn assert_halts(stage: &Stage, reason: Reason) {
    let before = kafka::read_uncommitted(&stage.broker, &stage.topic).len();
    let error = stage.deliver().await.unwrap_err();
    assert_halted(stage, &error, reason.name()).await;
    assert_eq!(kafka::read_uncommitted(&stage.broker, &stage.topic).len(), before, "nothing is sent on a guess");
}

async fn assert_starts_over(stage: &Stage, changes: i64) {
    let before = kafka::read_committed(&stage.broker, &stage.topic).len();
    unhalt::start_over(stage.pool(), DestinationId(1)).await.unwrap();
    let delivered = stage.deliver().await.unwrap();
    assert_eq!((delivered.from, delivered.to), (Position(0), Position(changes)));
    assert_eq!(kafka::read_committed(&stage.broker, &stage.topic).len(), before + changes as usize);
    assert_live(stage).await;
}

async fn assert_live(stage: &Stage) {
    let state: (String, Option<String>) =
        sqlx::query_as("select state, halt_reason from deliveries").fetch_one(stage.pool()).await.unwrap();
    assert_eq!(state, ("live".to_owned(), None));
}

async fn execute(stage: &Stage, sql: &'static str) {
    sqlx::raw_sql(sql).execute(stage.pool()).await.unwrap();
}

fn write_cursor(stage: &Stage, key: &str, value: &str) {
    let producer: BaseProducer = kafka::config(&stage.broker).create().unwrap();
    producer.send(BaseRecord::to(&stage.cursor_topic).partition(0).key(key).payload(value)).unwrap();
    producer.flush(kafka::PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_a_backup_halts_as_cursor_ahead() {
    let stage = half_told().await;
    stage.deliver().await.unwrap();
    execute(
        &stage,
        "delete from deltas where from_position = 5;
         update destinations set next_position = 5, chain = (select chain from deltas);
         update deliveries set cursor_position = 5",
    )
    .await;
    assert_halts(&stage, Reason::CursorAhead).await;
    assert_starts_over(&stage, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_that_went_on_otherwise_halts_as_chain_differs() {
    let stage = half_told().await;
    stage.deliver().await.unwrap();
    execute(
        &stage,
        "delete from deltas where from_position = 5;
         update destinations set next_position = 5, chain = (select chain from deltas);
         update deliveries set cursor_position = 5",
    )
    .await;
    stage.seal(11..=18, []).await;
    assert_halts(&stage, Reason::ChainDiffers).await;
    assert_starts_over(&stage, 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_lives_on_notices_that_its_database_was_restored() {
    let stage = half_told().await;
    let mut session = stage.session().await;
    session.deliver(&|_| true).await.unwrap();
    execute(
        &stage,
        "delete from deltas where from_position = 5;
         update destinations set next_position = 5, chain = (select chain from deltas);
         update deliveries set cursor_position = 5",
    )
    .await;
    stage.seal(11..=18, []).await;
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert!(error.message.contains("chain_differs"), "{error}");
}

/// What it reads next fits its place, but continues a history that nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_database_goes_back_between_two_pages_tells_nothing_of_the_other_history() {
    let stage = Stage::new(20, 1).await;
    stage.seal(1..=5, []).await;
    stage.seal(6..=10, []).await;
    let mut target = stage.target();
    target.page_changes = 5;
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let goes_back = async || {
        let back = "delete from deltas where from_position = 5;
             update destinations set next_position = 5, chain = (select chain from deltas)";
        execute(&stage, back).await;
        stage.seal(11..=20, []).await;
    };
    let go_on = |told: &Delivered| {
        // The second page is made already, of the run that is lost now.
        if told.to == Position(5) {
            tokio::task::block_in_place(|| Handle::current().block_on(goes_back()));
        }
        true
    };
    let error = session.deliver(&go_on).await.unwrap_err();
    assert!(error.message.contains(Reason::ChainDiffers.name()), "{error}");
    assert_eq!(stage.told().len(), 10, "nothing of the other history is told");
    assert_starts_over(&stage, 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_kafka_lost_halt_as_cursor_behind() {
    let stage = half_told().await;
    execute(&stage, "update deliveries set cursor_position = 8").await;
    assert_halts(&stage, Reason::CursorBehind).await;
    execute(&stage, "update deliveries set cursor_position = 5").await;
    assert_eq!(stage.deliver().await.unwrap().from, Position(5));
    assert_live(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cursor_topic_halts_as_cursor_lost() {
    let stage = half_told().await;
    kafka::delete_topic(&stage.broker, &stage.cursor_topic);
    assert_halts(&stage, Reason::CursorLost).await;
    assert_starts_over(&stage, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_topic_deleted_before_its_first_mirror_still_halts() {
    let stage = half_told().await;
    execute(&stage, "update deliveries set cursor_position = 0").await;
    kafka::delete_topic(&stage.broker, &stage.cursor_topic);
    assert_halts(&stage, Reason::TopicRecreated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_cursor_topic_halts_the_stream_he_speaks_for() {
    let stage = half_told().await;
    let stream = stage.stream().await.to_string();
    write_cursor(&stage, "somebody else", "hello");
    write_cursor(&stage, &stream, "hello");
    assert_halts(&stage, Reason::CursorUnreadable).await;
    let other = r#"{"stream":"00000000-0000-0000-0000-000000000001","next":5,"run":1,"chain":"00"}"#;
    write_cursor(&stage, &stream, other);
    assert_halts(&stage, Reason::OtherStream).await;
    assert_starts_over(&stage, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_without_an_end_halts_as_torn_transaction() {
    let stage = half_told().await;
    let stream = stage.stream().await;
    write_cursor(&stage, &stream.to_string(), &format!(r#"{{"stream":"{stream}","next":5}}"#));
    assert_halts(&stage, Reason::TornTransaction).await;
    assert_starts_over(&stage, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_halts_until_the_old_one_is_forgotten() {
    let stage = half_told().await;
    kafka::delete_topic(&stage.broker, &stage.topic);
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[]);
    assert_halts(&stage, Reason::TopicRecreated).await;
    assert!(unhalt::forget_topic(stage.pool(), DestinationId(1), &stage.topic).await.unwrap());
    assert_eq!(stage.deliver().await.unwrap().from, Position(5));
    assert_live(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_rejects_everybody_halts_and_skips_nobody() {
    let stage = Stage::new(1_200, 1).await;
    stage.seal(1..=1_200, []).await;
    // A user id is no partition number.
    let rejects = mapping("strict", &with(fields(&stage.topic), "partition", json!({"@path": "$.userId"})));
    let target = stage.target_with(vec![rejects]);
    let mut session = rollcall::deliver::Session::start(stage.pool().clone(), target).await.unwrap();
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_eq!(error.kind, Kind::Halted);
    assert!(error.message.contains("too_many_quarantined"), "{error}");
    let skipped: i64 = sqlx::query_scalar("select count(*) from quarantine").fetch_one(stage.pool()).await.unwrap();
    assert_eq!(skipped, 0);
    // With the mapping mended everybody is told.
    assert_eq!(stage.deliver().await.unwrap().records, 1_200);
    assert_live(&stage).await;
}
