//! Whom do we mean? Audience definitions: parse, check, print, key, conditions. Pure: no store, no clock, no network.
pub mod ast;
pub mod conditions;
pub mod options;
