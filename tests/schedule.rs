//! When an audience is computed: schedules, and what is due.

mod due;
mod fresh;
mod model;
mod random;
mod text;
mod verb;
mod zones;
