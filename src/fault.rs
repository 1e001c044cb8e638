//! Where may the process be made to die, to prove that nothing is lost? Every point, in one list.
//!
//! `ROLLCALL_FAULT=after_begin:abort` dies there as by `kill -9` (no destructor, no flush); `after_begin@3:abort` the third time it
//! gets there; `after_begin:stop` stops there (SIGSTOP) until it is told to go on, as a long pause of the machine would.
//! Without the variable a point costs one load. Never anything but these two: a fault that cleans up proves nothing.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place between two steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $point,)* }

        impl Point {
            /// All points, in the order of the flow.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// The name in `ROLLCALL_FAULT`.
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)* }
            }
        }
    };
}

points! {
    /// Taking in: a batch of a stream is read, nothing of it is written.
    AfterBatchRead = "after_batch_read",
    /// The batch is written with the offsets after it, not yet committed.
    BeforeTakenIn = "before_taken_in",
    AfterTakenIn = "after_taken_in",
    /// Pulling: a page of rows is written with the place after it, not yet committed.
    BeforePage = "before_page",
    AfterPage = "after_page",
    /// Evaluating: the first rows of an answer have come, others are on their way.
    AmidAnswer = "amid_answer",
    /// Sealing: the run and its ranges are written, not yet committed.
    BeforeSeal = "before_seal",
    AfterSeal = "after_seal",
    /// Backfilling: a slice is in the log, not yet committed.
    BeforeSlice = "before_slice",
    AfterSlice = "after_slice",
    /// Delivery: older instances are fenced, the cursor is not yet read.
    AfterFence = "after_fence",
    AfterCursorRead = "after_cursor_read",
    AfterQuarantine = "after_quarantine",
    AfterBegin = "after_begin",
    AfterFirstCursor = "after_first_cursor",
    /// Half of the transaction's records are handed over.
    AmidRecords = "amid_records",
    AfterRecords = "after_records",
    AfterLastCursor = "after_last_cursor",
    AfterDrain = "after_drain",
    AfterCommit = "after_commit",
    AfterMirror = "after_mirror",
    /// Forgetting: the rows are deleted, not yet committed.
    BeforeErased = "before_erased",
    /// Nobody has looked yet for what others say of them.
    AfterErased = "after_erased",
}

struct Plan {
    point: Point,
    /// Which time it acts, from 1.
    nth: u32,
    stop: bool,
    hits: AtomicU32,
}

/// Does what `ROLLCALL_FAULT` says of this point, which is nothing when it is unset.
pub fn point(here: Point) {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let Some(plan) = PLAN.get_or_init(|| parse(&std::env::var("ROLLCALL_FAULT").ok()?)) else { return };
    if plan.point == here && plan.hits.fetch_add(1, Ordering::Relaxed) + 1 == plan.nth {
        if plan.stop {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        } else {
            std::process::abort();
        }
    }
}

fn parse(text: &str) -> Option<Plan> {
    let (place, act) = text.split_once(':')?;
    let (name, nth) = place.split_once('@').unwrap_or((place, "1"));
    let point = *Point::ALL.iter().find(|point| point.name() == name)?;
    let stop = match act {
        "abort" => false,
        "stop" => true,
        _ => return None,
    };
    Some(Plan { point, nth: nth.parse().ok()?, stop, hits: AtomicU32::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_point_its_turn_and_its_act() {
        let plan = parse("amid_records@3:abort").expect("a plan");
        assert_eq!((plan.point, plan.nth, plan.stop), (Point::AmidRecords, 3, false));
        assert!(parse("after_fence:stop").is_some_and(|plan| plan.stop && plan.nth == 1));
        assert!(parse("nowhere:abort").is_none());
        assert!(parse("after_fence:sleep").is_none());
    }
}
