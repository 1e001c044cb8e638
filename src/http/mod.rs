//! What does the program answer over HTTP? Listeners with the guards that each of them needs, and the routes behind them.
//!
//! It reads stores and writes requests; it computes and emits nothing. Only this folder knows axum and hyper.
//!
//! ```text
//!  Listener::bind(name, address)      the configuration has refused an exposed address without a token
//!     └ start(routes, Guards)         any axum Router; answers until `Running::stop`
//!         │
//!         ├ at most HTTP_CONNECTIONS; one more closes the one that has been idle the longest
//!         ├ a head is read within HTTP_HEAD_SECONDS and HTTP_HEAD_BYTES; a connection ends after HTTP_CONNECTION_SECONDS
//!         └ a request is answered within `Guards::request` (503), its body is at most `Guards::body_bytes` (413)
//! ```
//!
//! Routes that only some may ask are wrapped by [`token::required`]. [`Running::stop`] lets the requests under way end and takes no
//! new ones.

mod connections;
mod listener;
pub mod operations;
pub mod report;
mod rate;
pub mod profiles;
pub mod token;
pub mod tracking;

pub use listener::{Guards, Listener, Running};
