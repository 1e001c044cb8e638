//! The protocol of delivery against a model of Postgres and Kafka: the real session, a random story for each seed.
//!
//! `ROLLCALL_PROTOCOL_SEEDS=100000` tells more of them; `ROLLCALL_PROTOCOL_SEED=4711` tells one, with all that happens in it.

mod actors;
mod broker;
mod client;
mod database;
mod log;
mod outside;
mod statements;
mod steps;
mod story;
mod witness;
mod world;

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use rollcall::deliver::Target;
use serde_json::json;

use self::world::Safeguard;

/// Stories in an ordinary test run.
const SEEDS: u64 = 1_500;

/// Stories that found something: the mirror that races with a new stream, the late commit, the zombie of an old stream, the database
/// that goes back between two pages, the change that does not wait for the other lane. What is found next is kept here too.
const KEPT: [u64; 6] = [1, 9, 13, 174, 208, 24501];

fn target() -> Target {
    crate::deliver::target("localhost:1", world::CURSORS, vec![crate::deliver::whole_event(log::TOPIC)], json!({}))
}

fn number(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().expect("a number"))
}

#[test]
fn every_story_keeps_the_invariants_and_comes_to_rest() {
    if let Some(seed) = number("ROLLCALL_PROTOCOL_SEED") {
        story::run(seed, &target(), None, true).unwrap_or_else(|wrong| panic!("{wrong}"));
        return;
    }
    let first = number("ROLLCALL_PROTOCOL_FIRST").unwrap_or(0);
    let seeds = number("ROLLCALL_PROTOCOL_SEEDS").unwrap_or(SEEDS);
    let (next, told, began) = (AtomicU64::new(first), AtomicU64::new(0), Instant::now());
    let wrong = thread::scope(|scope| {
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let target = target();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + seeds {
                            return None;
                        }
                        match story::run(seed, &target, None, false) {
                            Ok(pages) => told.fetch_add(pages, Ordering::Relaxed),
                            Err(wrong) => return Some(wrong),
                        };
                    }
                })
            })
            .collect();
        workers.into_iter().find_map(|worker| worker.join().expect("no panic"))
    });
    println!("{seeds} stories, {} transactions told, {:?}", told.into_inner(), began.elapsed());
    if let Some(wrong) = wrong {
        panic!("{wrong}\nROLLCALL_PROTOCOL_SEED=… tells the whole story");
    }
}

#[test]
fn stories_that_once_went_wrong_do_so_no_more() {
    for seed in KEPT {
        story::run(seed, &target(), None, false).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// The seed of the first story that goes wrong without a safeguard, among many.
fn first_without(safeguard: Safeguard) -> Option<(u64, String)> {
    let target = target();
    (0..20_000).find_map(|seed| Some((seed, story::run(seed, &target, Some(safeguard), false).err()?)))
}

#[test]
fn without_any_one_of_its_safeguards_a_story_goes_wrong() {
    for safeguard in [
        Safeguard::Guard,
        Safeguard::RetiredFenced,
        Safeguard::NewProducer,
        Safeguard::Fencing,
        Safeguard::CursorAfterFence,
        Safeguard::OtherLane,
        Safeguard::History,
    ] {
        let (_, wrong) = first_without(safeguard).unwrap_or_else(|| panic!("{safeguard:?} is not missed"));
        println!("without {safeguard:?}: {wrong}");
    }
}
