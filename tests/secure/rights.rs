//! Which rights does delivery need? None on consumer groups: it assigns partitions by hand and commits no offset.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall::{
    deliver::{cursor, recover::Found},
    kafka::{cluster::Cluster, settings::Settings},
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    kafka,
    secured::{Resource, grant, secured},
};

/// Another's open transaction keeps the reader waiting until it was refused the group's coordinator.
#[test]
fn the_cursor_is_read_without_a_right_on_groups_however_long_that_takes() {
    let kafka = secured();
    let address = &kafka.broker.address;
    let topic = kafka::topic(address, "cursors", 1);
    grant(address, "no-cursor", Resource::Topic(&topic));
    let login = json!({"mechanism": "plain", "username": "no-cursor", "password": "no-cursor-secret"});
    let settings = Settings::parse("secured", &kafka.settings("SECURE", login)).expect("settings");
    let cluster = Cluster::open("secured", &settings).expect("a cluster");

    let patience = Duration::from_secs(20);
    let mut config = kafka::config(address);
    config.remove("group.id");
    config.remove("enable.auto.commit");
    config.set("transactional.id", kafka::unique("another"));
    let another: BaseProducer = config.create().expect("a producer");
    another.init_transactions(patience).expect("initialized");
    another.begin_transaction().expect("begun");
    another.send(BaseRecord::to(&topic).key("another").payload("{}")).expect("sent");
    another.flush(patience).expect("flushed");

    let read = |seconds| cursor::read(&cluster, &topic, Uuid::from_u128(1), Duration::from_secs(seconds));
    let error = read(5).expect_err("the transaction is open");
    assert!(error.message.contains("a transaction is open there"), "{error:?}");
    another.commit_transaction(patience).expect("committed");
    assert_eq!(read(20).expect("readable").found, Found::Nothing);
}
