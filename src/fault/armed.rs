//! What do the variables of a test say? Compiled only with the feature `faults`, so that no released program reads them.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{Point, Safeguard};

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
    let Some(plan) = PLAN.get_or_init(|| parse(&env::var("ROLLCALL_FAULT").ok()?)) else { return };
    if plan.point == here && plan.hits.fetch_add(1, Ordering::Relaxed) + 1 == plan.nth {
        if plan.stop {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        } else {
            std::process::abort();
        }
    }
}

/// Whether `ROLLCALL_SWITCH_OFF` names this safeguard.
pub fn is_off(safeguard: Safeguard) -> bool {
    static OFF: OnceLock<String> = OnceLock::new();
    let off = OFF.get_or_init(|| env::var("ROLLCALL_SWITCH_OFF").unwrap_or_default());
    off.split(',').any(|name| name == safeguard.name())
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
