//! Which audiences, traits and destinations are there, as the store knows them?
//!
//! Must never compute anything: the configuration is written down, and what it said before is read.

pub mod configured;
pub mod register;
pub mod seen;
