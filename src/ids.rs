//! Which row or place is meant? Newtypes for ids and positions, so that one is never passed for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type, serde::Serialize, serde::Deserialize)]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(/// `audiences.id`.
    AudienceId(i64));
id!(/// `runs.id`.
    RunId(i64));
id!(/// `destinations.id`: one lane of a destination.
    DestinationId(i32));
id!(/// `backfills.id`.
    BackfillId(i64));
id!(/// A place between two changes of a destination's log: the log is `[0, end)` without a gap.
    Position(i64));

/// `profiles.id`: dense and below 2³², so that a set of profiles is one small bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId(pub u32);

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
