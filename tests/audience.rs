//! The audience language: the published queries, its errors, and its meaning held against random histories.

mod conditions;
mod corpus;
mod errors;
mod properties;
