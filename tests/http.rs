//! What is answered over HTTP, and that nobody can take a listener away from the others.

mod dashboard;
mod listener;
pub mod operations;
mod profiles;
mod routes;
