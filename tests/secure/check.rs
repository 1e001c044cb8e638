//! `rollcall check` and `rollcall topics`: what is in place, and how to mend the rest.

use serde_json::json;

use super::{program, text};
use crate::support::{
    kafka,
    postgres::Database,
    secured::{Resource, grant, secured},
};

#[tokio::test(flavor = "multi_thread")]
async fn check_ticks_what_is_in_place_and_says_how_to_mend_the_rest() {
    let kafka = secured();
    let address = &kafka.broker.address;
    let (topic, cursors) = (kafka::topic(address, "audience-changes", 3), kafka::unique("cursors"));
    let plain = json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"});
    let settings = kafka.settings("SECURE", plain.clone());
    let all_well = program(&settings, &topic, &cursors, &["check", "--destination", "prod"]);
    let (out, err) = (text(&all_well.stdout), text(&all_well.stderr));
    assert!(all_well.status.success(), "{out}\n{err}");
    for line in [
        "✓ destination 'prod', broker 127.0.0.1:",
        "TLSv1.3, certificate 'broker', good for 364 days",
        "login: let in; 1 brokers",
        "3 partitions, 1 replicas, records up to 1048588 bytes, min.insync.replicas 1",
        "not there yet; it is created",
        "✓ destination 'prod', transactions: allowed",
    ] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }

    // A user who may do nothing; a topic that is not there; a broker that is away.
    kafka::create_topic(address, &cursors, 1, &[("cleanup.policy", "delete")]);
    grant(address, "checked", Resource::Topic(&topic));
    let checked =
        kafka.settings("SECURE", json!({"mechanism": "plain", "username": "checked", "password": "checked-secret"}));
    let refused = program(&checked, &topic, &cursors, &["check"]);
    let out = text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(4), "{out}");
    assert!(
        out.contains("✗ destination 'prod', cursor topic") && out.contains("Allow the user Read, Write and Describe"),
        "{out}"
    );
    assert!(
        out.contains("✗ destination 'prod', transactions") && out.contains("transactional ids with the prefix"),
        "{out}"
    );
    assert!(out.contains(&format!("✓ destination 'prod', topic '{topic}'")), "{out}");

    // An id of one's own is as good as the prefix, but trying it would fence a running delivery.
    let database = Database::fresh().await;
    let insert = "insert into destinations (name) values ('prod') returning stream";
    let stream: uuid::Uuid = sqlx::query_scalar(insert).fetch_one(&database.pool).await.expect("inserted");
    let not_proven = text(&program(&checked, &topic, &cursors, &["check", "--database", &database.url()]).stdout);
    assert!(not_proven.contains("✓ destination 'prod', transactions: not proven"), "{not_proven}");
    assert!(not_proven.contains(&format!("at least on rollcall-{stream}")), "{not_proven}");

    let misspelt = program(&settings, &topic.replace("audience", "audeince"), &cursors, &["check"]);
    let out = text(&misspelt.stdout);
    assert_eq!(misspelt.status.code(), Some(4), "{out}");
    assert!(out.contains(&format!("Did you mean '{topic}'")), "{out}");
    assert!(out.contains("cleanup.policy is delete"), "{out}");

    let mut away = settings.clone();
    away.insert("brokers".into(), format!("127.0.0.1:{}", kafka::free_port()).into());
    let away = program(&away, &topic, &cursors, &["check", "--json"]);
    assert_eq!(away.status.code(), Some(5));
    assert!(text(&away.stdout).contains("KAFKA_CONNECTION_ERROR"), "{}", text(&away.stdout));
    // The checks wrote nothing.
    assert_eq!(kafka::read_uncommitted(address, &topic), []);

    let topics = program(&settings, &topic.replace("audience", "audeince"), &cursors, &["topics"]);
    assert!(topics.status.success(), "{}", text(&topics.stderr));
    assert!(text(&topics.stdout).contains(&topic), "{}", text(&topics.stdout));
    assert!(text(&topics.stderr).contains("Did you mean"), "{}", text(&topics.stderr));
}
