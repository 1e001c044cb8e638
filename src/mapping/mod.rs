//! What record does an event become? Trigger, directives, coercion, Send fields. Pure: no store, no clock, no network.
pub mod coerce;
pub mod js;
mod json;
mod record;

pub use json::{Json, Members};
pub use record::{Outcome, Record, Rejection};
