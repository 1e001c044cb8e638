//! (being written)
pub mod settings;
