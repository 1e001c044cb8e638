//! Where may the process be made to die, to prove that nothing is lost? Every point, in one list.
//!
//! Only builds with the feature `faults` can be made to fail, and only the tests ask for it: in every other build a point is
//! nothing, and no variable is read. There `ROLLCALL_FAULT=after_begin:abort` dies at the point as by `kill -9` (no destructor, no
//! flush); `after_begin@3:abort` the third time it gets there; `after_begin:stop` stops there (SIGSTOP) until it is told to go on,
//! as a long pause of the machine would. Never anything but these two: a fault that cleans up proves nothing.

#[cfg(feature = "faults")]
mod armed;
mod safeguard;

pub use safeguard::Safeguard;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place between two steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $point,)* }

        #[cfg(feature = "faults")]
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
    /// Leasing: for computing, or for telling a destination. Nobody is asked yet.
    BeforeLease = "before_lease",
    /// The lease is ours, nothing is done under it.
    AfterLease = "after_lease",
    /// Scheduling: the ticks have fired here, nothing is computed yet.
    AfterFire = "after_fire",
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
    /// Kafka refused records, nothing is done about it yet.
    AfterRefused = "after_refused",
    /// A record was tried by itself, in a transaction that is not committed.
    AfterProbe = "after_probe",
    /// Forgetting: the rows are deleted, not yet committed.
    BeforeErased = "before_erased",
    /// Nobody has looked yet for what others say of them.
    AfterErased = "after_erased",
}

/// Does what `ROLLCALL_FAULT` says of this point, in a build with fault points.
#[inline]
pub fn point(here: Point) {
    #[cfg(feature = "faults")]
    armed::point(here);
    #[cfg(not(feature = "faults"))]
    let _ = here;
}
