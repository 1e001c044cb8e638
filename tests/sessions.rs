//! What a session with Postgres must not do: stall, carry somebody's transaction along, wait for ever, or hold others up.

mod clock;
mod crowd;
mod idle;
mod migrations;
mod needed;
mod paused;
mod pooler;
mod returned;
mod revoked;
mod turn;

use std::time::Duration;

use rollcall::database::{self, Sessions};
use socket2::SockRef;

use crate::support::{postgres::Database, relay::Relay};

/// Of our connections to this port: whether Nagle's algorithm is off.
fn sends_at_once(port: u16) -> Vec<bool> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = files.filter_map(|file| file.unwrap().file_name().to_str()?.parse().ok());
    let leads_there = |socket: &SockRef<'_>| {
        socket.peer_addr().ok().and_then(|peer| peer.as_socket()).is_some_and(|peer| peer.port() == port)
    };
    numbers
        .filter_map(|number| {
            // SAFETY: nothing of another thread's file is touched but an option that is read.
            let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            let socket = SockRef::from(&file);
            leads_there(&socket).then(|| socket.tcp_nodelay().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_by_tcp_sends_what_is_written_at_once() {
    let db = Database::fresh().await;
    let relay = Relay::start(&db, Duration::ZERO).await;
    let one = database::connect(&relay.options()).await.unwrap();
    assert_eq!(sends_at_once(relay.port), [true], "a session of its own");
    let pool = database::pool(relay.options(), Sessions::Work, 2);
    let (first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert_eq!(sends_at_once(relay.port), [true; 3], "those of a pool");
    let elsewhere = database::connect_elsewhere(&relay.options()).await.unwrap();
    assert_eq!(sends_at_once(relay.port), [true; 4], "somebody else's database");
    drop((one, first, second, elsewhere));
}
