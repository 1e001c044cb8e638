//! Requests as libraries in the field send them.

use std::time::{Duration, Instant};

use rollcall::clock::Clock;
use serde_json::{Value, json};

use super::{Api, track};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_batch_that_is_no_json_costs_itself() {
    let api = Api::start().await;
    let body = format!(
        r#"{{"batch": [{}, {{"type": "track", "userId": "u", "event": "E", "properties": {{"n": NaN}}}}, {}], "sentAt": "2024-01-01T00:00:00Z"}}"#,
        track("1", "u"),
        track("2", "u")
    );
    let answered = api.post_text("/v1/batch", body).await;
    assert_eq!(answered.status, 200, "{:?}", answered.body);
    assert_eq!(answered.body["refused"][0]["index"], 1, "{:?}", answered.body);
    assert_eq!(api.count("select count(*) from events").await, 2);
    let answered = api.post_text("/v1/batch", format!(r#"{{"batch": [{}, {{"type": "tra"#, track("3", "u"))).await;
    assert_eq!(answered.status, 400);
    assert!(answered.body.to_string().contains("in batch[1]"), "{:?}", answered.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_cannot_be_read_gives_way_to_the_arrival_and_is_listed() {
    let api = Api::start().await;
    let mut wrong = track("1", "u");
    wrong["timestamp"] = json!("Tuesday");
    let mut buggy = track("2", "u");
    buggy["timestamp"] = json!("2024-05-01T10:20:27.029:Z");
    api.stored("/v1/batch", &json!({"batch": [wrong, buggy]})).await;
    let recent = "select count(*) from events where occurred_at > now() - interval '1 day'";
    assert_eq!(api.count(recent).await, 1);
    assert_eq!(api.count("select count(*) from events where occurred_at = '2024-05-01 10:20:27.029Z'").await, 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while api.count("select count(*) from refusals where field = 'timestamp' and messages = 1").await == 0 {
        assert!(Instant::now() < deadline, "the time is listed in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_time_in_numbers_corrects_the_clock_as_one_in_text_does() {
    let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    for sent_at in
        [json!("2023-11-14T21:13:20Z"), json!(1_699_996_400), json!(1_699_996_400_000_i64), json!("1699996400")]
    {
        let api = Api::with("", Clock::standing_at(at)).await;
        // An hour behind, and the event a minute before it was sent.
        let mut message: Value = track("1", "u");
        message["timestamp"] = json!("2023-11-14T21:12:20Z");
        message["sentAt"] = sent_at.clone();
        api.stored("/v1/track", &message).await;
        let (_, stored, _) = api.events().await.remove(0);
        assert_eq!((at - stored).num_seconds(), 60, "{sent_at}");
    }
}
