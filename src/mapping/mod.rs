//! What record does an event become? Trigger, directives, coercion, Send fields. Pure: no store, no clock, no network.
mod record;
pub use record::{Outcome, Record, Rejection};
