//! `rollcall map` (being written)
pub mod vectors;
