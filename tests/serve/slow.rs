//! Connections that say nothing, or never end what they say: others are served, and what is due is told as ever.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{BUYERS, Instance, told, users};
use crate::{
    support::http,
    sync::{World, order},
};

const CONNECTIONS: usize = 1_000;
/// From a message to its change on Kafka: a tick, a run, a page, with room for a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// What each of them may cost: its buffers, and what it has sent.
const KIBIBYTES_EACH: u64 = 64;

/// Idle, amid the head, or amid the body.
fn hang(address: SocketAddr, n: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let begun = match n % 3 {
        0 => String::new(),
        1 => "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Le".to_owned(),
        _ => format!("POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n{{{}", " ".repeat(8_000)),
    };
    stream.write_all(begun.as_bytes()).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_connections_delay_neither_other_messages_nor_the_telling() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let tracking = "tracking: {listen: \"127.0.0.1:0\", write_keys: [{name: tests, key: write-key-of-tests}]}\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + tracking).unwrap();
    let mut instance = Instance::start(&world, "one", "");
    let address = instance.address("tracking");
    let client = http::client();
    let mut buys = 0;
    // Each of these buys by one message, and is told to be in before the next one comes.
    let mut buy = async |count: usize| {
        for _ in 0..count {
            let message = order(&format!("u{buys}"), &format!("m{buys}"), "2024-05-01T00:00:00Z", 1.0);
            let sent = Instant::now();
            let request = client.post(format!("http://{address}/v1/track")).basic_auth("write-key-of-tests", Some(""));
            let answer = request.body(message.to_string()).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            buys += 1;
            told(&world, &users(0..buys));
            assert!(sent.elapsed() < DEADLINE, "{:?}", sent.elapsed());
        }
    };
    buy(2).await;
    let before = instance.peak_kibibytes();
    let mut open: Vec<TcpStream> = (0..CONNECTIONS).map(|n| hang(address, n)).collect();
    buy(3).await;
    // They go on hanging, a byte at a time.
    open.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
    buy(2).await;
    let grown = instance.peak_kibibytes().saturating_sub(before);
    assert!(grown < CONNECTIONS as u64 * KIBIBYTES_EACH, "{grown} KiB more");
    drop(open);
    instance.ends_cleanly();
}
