//! Too much at once, a Postgres that does not answer, and connections that say nothing.

use std::time::Duration;

use rollcall::limits;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Api, KEY, answered, track};

/// A batch of nearly the size of the largest.
fn large(name: &str) -> Value {
    let message = |n: usize| {
        let mut message = track(&format!("{name}-{n}"), "ann");
        message["properties"]["text"] = "x".repeat(30_000).into();
        message
    };
    json!({"batch": (0..16).map(message).collect::<Vec<_>>(), "writeKey": KEY})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_now_is_asked_for_again_and_then_stored_once() {
    let api = Api::start().await;
    // Nobody can write while another transaction holds what every writer takes first.
    let mut other = sqlx::PgConnection::connect_with(&api.db.options()).await.unwrap();
    let mut holds = other.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(hashtextextended('rollcall.promotions', 0))";
    sqlx::query(lock).execute(&mut *holds).await.unwrap();
    let mut requests = JoinSet::new();
    let batches = 100;
    for n in 0..batches {
        let request = api.request("/v1/batch").body(large(&format!("b{n}")).to_string());
        requests.spawn(async move { (n, answered(request).await) });
    }
    let (mut full, mut away) = (Vec::new(), Vec::new());
    while let Some(done) = requests.join_next().await {
        let (n, answered) = done.unwrap();
        assert!(answered.headers.contains_key("retry-after"), "{answered:?}");
        match answered.status {
            429 => full.push(n),
            503 => away.push(n),
            _ => panic!("{answered:?}"),
        }
        assert!(answered.body["code"].is_string() && answered.body["message"].is_string(), "{answered:?}");
    }
    // As many were let in as there is room for, the others told at once.
    let room = limits::INTAKE_BYTES / large("b10").to_string().len();
    assert!(away.len() <= room && away.len() > room / 2 && !full.is_empty(), "{} {} {room}", away.len(), full.len());
    assert_eq!(api.count("select count(*) from messages").await, 0);
    holds.rollback().await.unwrap();
    for n in full.into_iter().chain(away) {
        let deadline = Instant::now() + Duration::from_secs(60);
        // What was let in before may still be on its way.
        while api.post("/v1/batch", &large(&format!("b{n}"))).await.status != 200 {
            assert!(Instant::now() < deadline);
        }
    }
    assert_eq!(api.count("select count(*) from messages").await, 16 * batches);
    assert_eq!(api.count("select count(*) from events").await, 16 * batches);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_say_nothing_or_never_end_keep_nobody_out() {
    let api = Api::start().await;
    let mut open = Vec::new();
    for n in 0..1_000 {
        let mut stream = TcpStream::connect(api.tracking.address()).await.unwrap();
        let begun = match n % 3 {
            0 => "",
            1 => "POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Le",
            _ => "POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{\"type\":",
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        open.push(stream);
    }
    for n in 0..50 {
        let message = track(&format!("m{n}"), "ann");
        assert_eq!(
            timeout(Duration::from_secs(10), api.post("/v1/track", &message)).await.expect("an answer in time").status,
            200
        );
    }
    assert_eq!(api.count("select count(*) from messages").await, 50);
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_when_it_is_told_to_stop() {
    let api = Api::start().await;
    let mut requests = JoinSet::new();
    for n in 0..40 {
        let request =
            api.request("/v1/track").basic_auth(KEY, Some("")).body(track(&format!("m{n}"), "ann").to_string());
        requests.spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) });
    }
    let Api { db, tracking, .. } = api;
    tracking.stop().await;
    let mut stored = 0;
    while let Some(answer) = requests.join_next().await {
        match answer.unwrap() {
            Ok(status) => stored += i64::from(status == 200),
            // It came too late to be heard; its client knows that it was not.
            Err(error) => assert!(error.status().is_none(), "{error}"),
        }
    }
    let kept: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&db.pool).await.unwrap();
    assert!(kept >= stored, "{kept} kept of {stored} that were promised");
}
