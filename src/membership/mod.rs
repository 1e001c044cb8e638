//! Who is in each audience, as it was last computed, and how do two such answers differ?
//!
//! Bitmaps of profile ids, and what is said of them. Must never compute an audience, nor tell anybody.

pub mod diff;
pub mod guard;
pub mod merges;
pub mod run;
pub mod standing;
pub mod stored;

pub use run::PassedOver;
