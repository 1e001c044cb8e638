//! What tests stand on: a shared Postgres, a real Apache Kafka, databases of their own.
pub mod kafka;
#![allow(dead_code)]

pub mod postgres;
