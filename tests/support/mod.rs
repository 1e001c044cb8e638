//! What tests stand on: a shared Postgres, a real Apache Kafka, databases of their own.
#![allow(dead_code)]

pub mod certificates;
pub mod cluster;
pub mod definitions;
pub mod faults;
pub mod dice;
pub mod histories;
pub mod http;
pub mod kafka;
pub mod packages;
pub mod postgres;
pub mod relay;
pub mod proxy;
pub mod secured;
pub mod server;
pub mod verify;
