//! A log that was edited by hand: what is told has been held against its chain, so nothing of it is told.

use roaring::RoaringBitmap;
use rollcall::{
    deliver::{Session, unhalt},
    fault::Safeguard,
    ids::{DestinationId, Position},
    membership::diff,
};

use serde_json::json;

use super::{
    Stage,
    crash::{Settings, output, start},
    halts::assert_halted,
};
use crate::support::kafka;

fn bytes<const N: usize>(ids: [u32; N]) -> Vec<u8> {
    diff::encode(&RoaringBitmap::from(ids))
}

/// A destination that was told one run, and has a second one to be told.
async fn stage() -> Stage {
    let stage = Stage::new(20, 1).await;
    stage.seal([1, 5, 9], []).await;
    stage.deliver().await.unwrap();
    stage.seal([2, 6, 12], [1]).await;
    stage
}

async fn assert_damaged(stage: &Stage) {
    let error = stage.deliver().await.unwrap_err();
    assert_halted(stage, &error, "log_damaged").await;
    assert_eq!(kafka::read_uncommitted(&stage.broker, &stage.topic).len(), 3, "nothing is sent on a guess");
}

/// Row 29: one byte of a run's bitmap is another one, its length is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_bitmap_changed_at_the_same_length_halts_and_tells_no_stranger() {
    let stage = stage().await;
    let (sealed, edited) = (bytes([2, 6, 12]), bytes([2, 6, 13]));
    assert_eq!(sealed.iter().zip(&edited).filter(|(a, b)| a != b).count(), 1, "one byte");
    assert_eq!(sealed.len(), edited.len());
    let edit = async |bytes: &[u8]| {
        sqlx::query("update runs set entered = $1 where id = 2").bind(bytes).execute(stage.pool()).await.unwrap();
    };
    edit(&edited).await;
    assert_damaged(&stage).await;
    edit(&sealed).await;
    assert_eq!(stage.deliver().await.unwrap().to, Position(7), "mended, it goes on by itself");
    stage.assert_told_once_and_in_order(7);
}

/// Row 29: rows of the log are altered, deleted, or there twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_log_that_was_altered_deleted_or_doubled_halts() {
    for edit in [
        "update deltas set after_position = 0, backfill_id = null, identified_since = '1:1:' where run_id = 2",
        "update deltas set run_id = 1, entered = (select entered from runs where id = 2),
                           exited = (select exited from runs where id = 2) where run_id = 2",
        "update deltas set chain = set_byte(chain, 0, get_byte(chain, 0) # 1) where run_id = 2",
        "update runs set exited = entered, entered = exited where id = 2",
        "delete from deltas where run_id = 2",
        // Lost, and another one stands behind its place.
        "delete from deltas where run_id = 2;
         insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, nonce, chain)
         select 1, 7, 11, 2, '', gen_random_uuid(), chain from destinations",
        // There twice, at a place that overlaps the next.
        "insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, nonce, chain)
         select 1, 4, 8, 2, '', nonce, chain from deltas where run_id = 2;
         delete from deltas where from_position = 3",
    ] {
        let stage = stage().await;
        sqlx::raw_sql(edit).execute(stage.pool()).await.unwrap();
        assert_damaged(&stage).await;
    }
}

/// A row behind the log's end is there twice as well: nobody looks before there is something to tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_doubled_behind_the_logs_end_halts_once_something_is_sealed() {
    let stage = stage().await;
    stage.deliver().await.unwrap();
    let double =
        "insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, nonce, chain)
                  select 1, 7, 11, 2, '', gen_random_uuid(), chain from deltas where run_id = 2";
    sqlx::query(double).execute(stage.pool()).await.unwrap();
    sqlx::query("update destinations set next_position = 11").execute(stage.pool()).await.unwrap();
    let error = stage.deliver().await.unwrap_err();
    assert_halted(&stage, &error, "log_damaged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_a_later_page_halts_after_the_pages_before_it_are_told() {
    let stage = Stage::new(100, 1).await;
    stage.seal(1..=50, []).await;
    stage.seal(51..=100, []).await;
    sqlx::query("update runs set entered = $1 where id = 2")
        .bind(diff::encode(&(50..=99).collect()))
        .execute(stage.pool())
        .await
        .unwrap();
    let mut target = stage.target();
    target.page_changes = 50;
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_halted(&stage, &error, "log_damaged").await;
    stage.assert_told_once_and_in_order(50);
    assert_eq!(stage.mirror().await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_over_with_a_damaged_log_is_told_memberships_anew_instead_of_the_log() {
    let stage = stage().await;
    sqlx::query("update runs set entered = $1 where id = 1")
        .bind(bytes([1, 5, 8]))
        .execute(stage.pool())
        .await
        .unwrap();
    let anew = unhalt::start_over(stage.pool(), DestinationId(1)).await.unwrap();
    assert_eq!(anew, unhalt::Anew::Memberships);
    let delivered = stage.deliver().await.unwrap();
    assert_eq!((delivered.to, delivered.end), (Position(0), Position(0)), "nothing of the damaged log is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_computing_the_chain_anew_a_stranger_is_told() {
    let stage = Stage::new(20, 1).await;
    stage.give(1..=20, json!({"partition": 0})).await;
    stage.seal([1, 5, 9], []).await;
    sqlx::query("update runs set entered = $1").bind(bytes([1, 5, 8])).execute(stage.pool()).await.unwrap();
    let (status, log) =
        output(start(&stage, &Settings { without: Some(Safeguard::ChainComputedAnew), ..Settings::default() }));
    assert!(status.success(), "{log}");
    assert!(stage.told().contains(&(2, "u8".to_owned(), true)), "nobody put him there but the damage");
}
