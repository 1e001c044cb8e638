//! When an audience is computed: schedules, what is due, leases and firing.

mod model;
mod random;
mod zones;
