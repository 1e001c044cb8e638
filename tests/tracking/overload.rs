//! Too much at once, a Postgres that does not answer, and connections that say nothing.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rollcall::limits;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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
        let request = api.request("/v1/batch").basic_auth(KEY, Some("")).body(large(&format!("b{n}")).to_string());
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

/// A connection that has sent nearly all of a large body, with these headers, and goes on no more.
async fn held_open(api: &Api, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.tracking.address()).await.unwrap();
    let body = format!("{{\"batch\": [\"{}", "x".repeat(500_000));
    let head = format!("POST /v1/batch HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 520000\r\n\r\n");
    timeout(Duration::from_secs(10), stream.write_all((head + &body).as_bytes())).await.expect("it is read").unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn row_68_bodies_held_open_take_the_bytes_of_nobody_whose_body_comes() {
    let api = Api::start().await;
    // Twice what all bodies together may hold, by those without a key and by those who know one that browsers show to everybody.
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{KEY}:")));
    let (mut open, since) = (Vec::new(), Instant::now());
    for n in 0..2 * limits::INTAKE_BYTES / 500_000 {
        open.push(held_open(&api, if n % 2 == 0 { "" } else { &basic }).await);
    }
    for n in 0..20 {
        let mut message = track(&format!("m{n}"), "ann");
        assert_eq!(api.post("/v1/track", &message).await.status, 200, "the key in the header");
        message["messageId"] = format!("b{n}").into();
        message["writeKey"] = KEY.into();
        let answered = answered(api.request("/v1/track").body(message.to_string())).await;
        assert_eq!(answered.status, 200, "the key in the body: {answered:?}");
    }
    assert_eq!(api.count("select count(*) from messages").await, 40);
    assert!(since.elapsed() < Duration::from_secs(limits::TRACKING_REQUEST_SECONDS), "they are still held");
    // Nobody waits for them for long.
    for mut stream in open {
        let mut answer = Vec::new();
        timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("it is ended").ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("too_slow") || answer.contains("overloaded") || answer.is_empty(), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_68_a_body_that_hardly_comes_is_not_waited_for_and_one_with_a_wrong_key_is_not_kept() {
    let api = Api::start().await;
    let mut slow = TcpStream::connect(api.tracking.address()).await.unwrap();
    slow.write_all(b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 4096];
    let limit = Duration::from_secs(limits::TRACKING_PAUSE_SECONDS + 8);
    let length =
        timeout(limit, slow.read(&mut answer)).await.expect("an answer before the request's own limit").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    assert!(answer.contains("503") && answer.contains("too_slow") && answer.contains("retry-after"), "{answer}");
    let mut message = track("m", "ann");
    message["writeKey"] = KEY.into();
    let wrong = api.request("/v1/track").basic_auth("nobody's key", Some("")).body(message.to_string());
    assert_eq!(answered(wrong).await.status, 401, "who signs in by a wrong key is not asked for another");
    let token = api.request("/v1/track").bearer_auth("a token of OAuth").body(message.to_string());
    assert_eq!(answered(token).await.status, 200, "a token may stand beside the key");
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
