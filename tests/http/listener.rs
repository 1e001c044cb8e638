//! The guards of a listener: bytes, time, connections, the token, and how it stops.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::post};
use rollcall::{
    config::{self, Config, Surroundings},
    http::{Guards, Listener, Running, token},
    limits,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

async fn start(routes: Router, guards: Guards) -> Running {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    Listener::bind("test", any).await.unwrap().start(routes, guards)
}

fn echo() -> Router {
    Router::new().route("/", post(|body: String| async { body }))
}

/// Sends `request` and reads until the other side closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn posting(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn answers(running: &Running) {
    assert!(raw(running.address(), &posting("hello")).await.ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_also_if_it_does_not_say_how_long_it_is() {
    let running = start(echo(), Guards { body_bytes: 10, ..Guards::default() }).await;
    answers(&running).await;
    assert!(raw(running.address(), &posting("hello, world")).await.starts_with("HTTP/1.1 413 "));
    let chunked = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nc\r\nhello, world\r\n0\r\n\r\n";
    assert!(raw(running.address(), chunked).await.starts_with("HTTP/1.1 413 "));
    running.stop().await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let running = start(echo(), Guards::default()).await;
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(limits::HTTP_HEAD_BYTES));
    assert!(raw(running.address(), &head).await.starts_with("HTTP/1.1 431 "));
    answers(&running).await;
}

#[tokio::test]
async fn a_request_whose_body_does_not_come_is_ended() {
    let running = start(echo(), Guards { request: Duration::from_millis(50), ..Guards::default() }).await;
    let half = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello";
    assert!(raw(running.address(), half).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_head_keep_nobody_out() {
    let running = start(echo(), Guards { connections: 8, ..Guards::default() }).await;
    let mut silent = Vec::new();
    for n in 0..40 {
        let mut stream = TcpStream::connect(running.address()).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();
        }
        silent.push(stream);
    }
    answers(&running).await;
    // Those that came first have made room: the end of the stream is to be read on them.
    let read = silent[0].read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn who_is_at_a_request_is_not_closed_for_somebody_else_and_may_end_when_the_listener_stops() {
    let (began, mut begun) = mpsc::channel(1);
    let (go, goes) = tokio::sync::watch::channel(false);
    let slow = Router::new().route(
        "/",
        post(move || {
            let (began, mut goes) = (began.clone(), goes.clone());
            async move {
                began.send(()).await.unwrap();
                goes.wait_for(|go| *go).await.unwrap();
                "at last"
            }
        }),
    );
    let running = start(slow, Guards { connections: 2, ..Guards::default() }).await;
    let address = running.address();
    let first = tokio::spawn(raw(address, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"));
    begun.recv().await.unwrap();
    for _ in 0..5 {
        TcpStream::connect(address).await.unwrap();
    }
    let stopped = tokio::spawn(running.stop());
    // It listens no more once it was told to stop.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.send_replace(true);
    assert!(first.await.unwrap().ends_with("at last"));
    stopped.await.unwrap();
}

#[tokio::test]
async fn only_who_carries_the_token_is_answered() {
    let config: Config = config::parse(
        "test",
        "http: {token: 0123456789abcdef}",
        &Surroundings { variable: &|_| None, file: &|_| unreachable!() },
    )
    .unwrap();
    let open = Router::new().route("/open", post(|| async { "open" }));
    let routes = token::required(echo(), config.http.token.as_ref()).merge(open);
    let running = start(routes, Guards::default()).await;
    let ask = async |path: &str, authorization: &str| {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{authorization}\r\n");
        raw(running.address(), &head).await[9..12].to_owned()
    };
    assert_eq!(ask("/", "").await, "401");
    assert_eq!(ask("/", "Authorization: Bearer 0123456789abcdee\r\n").await, "401");
    assert_eq!(ask("/", "Authorization: Bearer 0123456789abcdef0\r\n").await, "401");
    assert_eq!(ask("/", "Authorization: Basic 0123456789abcdef\r\n").await, "401");
    assert_eq!(ask("/", "Authorization: Bearer 0123456789abcdef\r\n").await, "200");
    assert_eq!(ask("/", "authorization: bearer 0123456789abcdef\r\n").await, "200");
    assert_eq!(ask("/open", "").await, "200");
    assert_eq!(ask("/nothing", "").await, "404");
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_wrong_setting() {
    let running = start(echo(), Guards::default()).await;
    let error = Listener::bind("test", running.address()).await.unwrap_err();
    assert_eq!(error.kind, rollcall::Kind::Settings);
    assert!(error.to_string().contains(&running.address().to_string()), "{error}");
}
