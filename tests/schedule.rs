//! When an audience is computed: schedules, what is due, leases and firing.

mod due;
mod fire;
mod fresh;
mod lease;
mod model;
mod random;
mod text;
mod verb;
mod zones;
