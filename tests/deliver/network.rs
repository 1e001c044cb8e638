//! A network that closes, stalls, resets, goes away unheard or crawls amid a transaction (row 33).

use std::time::{Duration, Instant};

use super::crash::{Settings, expected, output, positions, stage, start};
use crate::support::{
    kafka::eventually,
    proxy::{Cut, Flow, Proxy, kafka::proxy},
};

const SOCKET_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Sixty changes in three transactions are told once and in order, though this is done to the network amid the first.
async fn told_once(trouble: impl FnOnce(&Proxy)) {
    let mut stage = stage().await;
    stage.seal(1..=60, []).await;
    let proxy = proxy(&stage.broker);
    stage.broker = proxy.address.clone();
    let timeout = SOCKET_TIMEOUT.as_millis().to_string();
    let properties = [("batch.num.messages", "1".to_owned()), ("socket.timeout.ms", timeout)];
    let properties: serde_json::Map<_, _> =
        properties.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
    let child = start(&stage, &Settings { properties: properties.clone(), ..Settings::default() });
    eventually("a transaction is half written", || (proxy.seen(&["Produce"]) >= 5).then_some(()));
    trouble(&proxy);
    // Whether the one call gets over it, or gives up and a later one goes on, as `serve` does.
    let (status, log) = output(child);
    if !status.success() {
        let (status, later) = output(start(&stage, &Settings { properties, ..Settings::default() }));
        assert!(status.success(), "{log}\n{later}");
    }
    assert!(positions(&stage).into_iter().eq(expected(60)), "{:?}", positions(&stage));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_connections_that_are_closed_reset_or_lost_unheard_repeat_and_lose_nothing() {
    for cut in [Cut::Close, Cut::Reset, Cut::HalfOpen] {
        told_once(|proxy| proxy.cut(cut)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_a_network_that_stalls_for_longer_than_a_request_may_take_repeats_and_loses_nothing() {
    told_once(|proxy| {
        proxy.flow(Flow::Stall);
        // What is tested is lateness itself, so here time has to pass.
        let until = Instant::now() + 2 * SOCKET_TIMEOUT;
        while Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
        proxy.flow(Flow::Pass);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_a_network_that_passes_one_byte_at_a_time_repeats_and_loses_nothing() {
    told_once(|proxy| proxy.flow(Flow::Slow)).await;
}
