//! A stream is reached as a destination is, and needs no more than to read its topic.

use std::{fs, sync::Arc};

use rollcall::{Kind, clock::Clock, config, serve::streaming::Streaming};
use serde_json::{Value, json};

use super::{orders, produce};
use crate::{
    support::{
        kafka,
        secured::{Resource, grant, secured},
    },
    sync::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_needs_a_right_on_its_topic_and_none_on_a_group() {
    let cluster = secured();
    let topic = kafka::topic(&cluster.broker.address, "events", 1);
    grant(&cluster.broker.address, "no-topic", Resource::Topic(&topic));
    let mut plain = kafka::config(&cluster.broker.address);
    plain.remove("group.id");
    plain.remove("enable.auto.commit");
    produce(&plain.create().unwrap(), &topic, 1, &orders(0..20));
    let login = |password: &str| json!({"mechanism": "plain", "username": "no-topic", "password": password});
    let settings = |password: &str| Value::from(cluster.settings("SECURE", login(password)));

    let world = World::new("").await;
    let path = world.folder.path().join("rollcall.yaml");
    let configure = |password: &str, topics: Value| {
        let streams = json!({"shop": {"settings": settings(password), "topics": topics}});
        let http = json!({"listen": "127.0.0.1:0"});
        fs::write(&path, json!({"http": http, "streams": streams}).to_string()).unwrap();
        config::load(&path).unwrap()
    };
    let config = configure("no-topic-secret", json!([topic]));
    let streaming = Streaming::start(world.db.pool.clone(), Clock::system(), &config).await.unwrap();
    let stored = async || -> i64 {
        sqlx::query_scalar("select count(*) from messages").fetch_one(&world.db.pool).await.unwrap()
    };
    kafka::eventually("all is read", || (kafka::block_on(stored()) == 20).then_some(()));
    streaming.stop().await;
    let checked = world.json(&["check"]);
    let of_stream = |found: &&Value| found["subject"] == "stream 'shop'";
    assert_eq!(checked.as_array().unwrap().iter().find(of_stream).unwrap()["detail"], "1 partitions");

    configure("no-topic-secret", json!([topic, "forbidden-to-it"]));
    let output = world.run(&["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("not allowed on the topic") && text.contains("DESCRIBE and READ"), "{text}");

    let config = configure("wrong", json!([topic]));
    let stream = rollcall::stream::Stream::of("shop", &config.streams["shop"], &Arc::default()).unwrap();
    let error = Arc::new(stream).look().await.unwrap_err();
    assert_eq!(error.kind, Kind::Settings, "{error}");
    assert!(!format!("{error:?}").contains("\"wrong\""), "{error:?}");
}
