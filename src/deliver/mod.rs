//! (being written)
pub mod settings;
pub mod status;
