//! How does the program speak with Kafka? Settings, sign-in, TLS, clients, topics, and what is said of trouble.
//!
//! ```text
//!  settings ──► properties ──► cluster (a client, its tokens) ──► topics
//!                                   └─► diagnosis, handshake: why there is no connection
//! ```
//!
//! Must never send a record, nor log a secret.

mod aws;
pub mod cluster;
pub mod diagnosis;
pub mod handshake;
pub mod in_process;
mod oauth;
pub mod properties;
pub mod settings;
pub mod tls;
mod token;
mod tokens;
pub mod topic;
pub mod topics;
pub mod trouble;
