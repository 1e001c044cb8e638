//! A destination with a rate limit is told no faster, on a clock that the test moves.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::DateTime;
use rollcall::{
    clock::Clock,
    deliver::{Session, pace::Pace},
};

use crate::deliver::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_told_a_page_each_tenth_of_a_second_and_stops_when_it_is_asked_to() {
    let stage = Stage::new(50, 1).await;
    stage.seal(1..=50, []).await;
    let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
    let mut target = stage.target();
    target.pace = Arc::new(Pace::new(clock.clone(), NonZeroU32::new(100)));
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    // Each asking without progress is a wait; after three of them the clock moves, and in the end it is to stop.
    let (asked, at) = (AtomicU32::new(0), AtomicU32::new(0));
    let go_on = |told: &rollcall::deliver::Delivered| {
        let to = told.to.0 as u32;
        let elapsed = clock.monotonic();
        assert!(to <= 10 + at.load(Ordering::Relaxed), "{to} at {elapsed:?}");
        if to == 30 {
            return false;
        }
        if to > 0 && asked.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            clock.advance(Duration::from_millis(50));
            at.fetch_add(5, Ordering::Relaxed);
        }
        true
    };
    let told = session.deliver(&go_on).await.unwrap();
    assert_eq!((told.to.0, told.end.0), (30, 50));
    assert!(at.load(Ordering::Relaxed) >= 20, "thirty events take two tenths of a second after the first page");
    stage.assert_told_once_and_in_order(30);
}
