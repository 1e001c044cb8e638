//! The servers beneath are hurt: Postgres is killed, filled, restored, failed over; Kafka's disk is full; memory is short.

mod disks;
mod failover;
mod huge;
mod restarts;
mod restored;

use sqlx::postgres::PgConnectOptions;

use crate::{
    support::{
        kafka::{self, Received},
        postgres::Database,
        server::Server,
    },
    sync::World,
};

/// A world on a server of the test's own, in a database called `name`.
pub async fn world(server: &Server, name: &str, audiences: &str) -> World {
    server.execute(format!("create database {name}")).await;
    world_at(server.options().database(name), audiences).await
}

/// A world in a database that is empty.
pub async fn world_at(options: PgConnectOptions, audiences: &str) -> World {
    let topic = kafka::topic(kafka::broker(), "audiences", 3);
    let world = World { db: Database::at(options).await, topic, folder: tempfile::tempdir().unwrap() };
    world.configure(audiences);
    world
}

/// The records of the stream that is told now: `unhalt --start-over` begins another.
pub async fn of_this_stream(world: &World) -> Vec<Received> {
    let stream = "select stream::text from destinations where name = 'kafka' and lane = 'live'";
    let stream: String = sqlx::query_scalar(stream).fetch_one(&world.db.pool).await.unwrap();
    let mut told = world.told();
    told.retain(|record| record.header("rollcall-stream") == Some(&stream));
    told
}
