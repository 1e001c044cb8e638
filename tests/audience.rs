//! The audience language: the published queries, its errors, and its meaning held against random histories.

mod check;
mod conditions;
mod corpus;
mod errors;
mod explain;
mod meaning;
mod properties;
