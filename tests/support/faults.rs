//! Which test dies at which fault point? A new point does not compile before it is said here on which way it lies, and each way
//! has a test that dies at all of its points.

use rollcall::fault::Point;

/// What a process does as it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `serve` takes in a stream: `streams::deaths`.
    Stream,
    /// `pull`: `pull::killed`.
    Pull,
    /// `serve` computes by a schedule: `serve::deaths`.
    Serve,
    /// `sync`: `sync::trouble`.
    Sync,
    /// `sync` tells a backfill: `lanes::backfill`.
    Backfill,
    /// A delivery by itself, with records that are put aside or refused: `deliver::crash`, `deliver::isolated`.
    Delivery,
    /// `serve` erases somebody: `serve::forgetting`.
    Forget,
}

/// The ways on which a point lies.
fn ways(point: Point) -> &'static [Way] {
    match point {
        Point::AfterBatchRead | Point::BeforeTakenIn | Point::AfterTakenIn => &[Way::Stream],
        Point::BeforePage | Point::AfterPage => &[Way::Pull],
        Point::AfterFire => &[Way::Serve],
        Point::BeforeLease | Point::AfterLease | Point::AmidAnswer | Point::BeforeSeal | Point::AfterSeal => {
            &[Way::Serve, Way::Sync]
        }
        Point::BeforeSlice | Point::AfterSlice => &[Way::Backfill],
        Point::AfterQuarantine | Point::AfterRefused | Point::AfterProbe => &[Way::Delivery],
        Point::AfterFence
        | Point::AfterCursorRead
        | Point::AfterBegin
        | Point::AfterFirstCursor
        | Point::AmidRecords
        | Point::AfterRecords
        | Point::AfterLastCursor
        | Point::AfterDrain
        | Point::AfterCommit
        | Point::AfterMirror => &[Way::Delivery, Way::Sync],
        Point::BeforeErased | Point::AfterErased => &[Way::Forget],
    }
}

/// The points of a way, by their names in `ROLLCALL_FAULT`, in the order of the flow.
pub fn points(way: Way) -> Vec<&'static str> {
    let on_the_way = Point::ALL.iter().filter(|point| ways(**point).contains(&way));
    on_the_way.map(|point| point.name()).collect()
}

/// Fails unless these faults, as in `ROLLCALL_FAULT`, name every point of a way.
pub fn assert_all_named(way: Way, faults: &[impl AsRef<str>]) {
    let point = |fault: &str| fault.split(['@', ':']).next().unwrap_or_default().to_owned();
    let named: Vec<String> = faults.iter().map(|fault| point(fault.as_ref())).collect();
    let forgotten: Vec<_> = points(way).into_iter().filter(|point| !named.iter().any(|known| known == point)).collect();
    assert!(forgotten.is_empty(), "nobody dies at {forgotten:?}");
}
