//! Row 57: a mapping that is edited while a run is being told.

use rollcall::{deliver::Session, ids::Position};
use serde_json::json;

use super::{Stage, crash::deliver, fields, mapping, with};
use crate::support::kafka;

/// The old mapping tells whole events. The new one tells users alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_told_by_one_mapping_and_what_is_left_of_the_run_by_the_edited_one() {
    for (fault, by_the_old) in [("after_records@2:abort", 20), ("after_commit@2:abort", 40)] {
        let stage = Stage::new(60, 1).await;
        stage.give(1..=60, json!({"partition": 0})).await;
        stage.seal(1..=60, []).await;
        let (status, log) = deliver(&stage, fault);
        assert!(!status.success(), "{log}");
        let edited = with(fields(&stage.topic), "payload", json!({"user": {"@path": "$.userId"}}));
        let target = stage.target_with(vec![mapping("picky", &edited)]);
        let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
        let told = session.deliver(&|_| true).await.unwrap();
        assert_eq!((told.from, told.to), (Position(by_the_old), Position(60)));
        for (position, record) in kafka::read_committed(&stage.broker, &stage.topic).iter().enumerate() {
            assert_eq!(record.header("rollcall-position"), Some(&*position.to_string()), "once, and in order");
            let is_new = record.json()["user"].is_string();
            assert_eq!(is_new, position as i64 >= by_the_old, "{position} after {fault}");
        }
    }
}

/// What the old one put aside and no commit has passed stays aside: whoever mended the mapping tells it by a retry.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_mapping_put_aside_is_not_told_by_the_edited_one_unasked() {
    let stage = Stage::new(20, 1).await;
    stage.give(1..=20, json!({"partition": 0})).await;
    stage.give([3], json!({"partition": "none"})).await;
    stage.seal(1..=20, []).await;
    let (status, log) = deliver(&stage, "after_quarantine:abort");
    assert!(!status.success(), "{log}");
    let target = stage.target_with(vec![mapping("picky", &fields(&stage.topic))]);
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let told = session.deliver(&|_| true).await.unwrap();
    assert_eq!((told.to, told.records, told.quarantined), (Position(20), 19, 0));
}
