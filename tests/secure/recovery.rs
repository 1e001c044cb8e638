//! What was wrong is put right, and the same session goes on; meanwhile others are not held up.

use std::time::{Duration, Instant};

use rollcall::{Kind, deliver::Session, kafka::settings::Settings};
use serde_json::json;

use super::deliver;
use crate::{
    deliver::Stage,
    support::{
        certificates::{Pair, Subject},
        kafka,
        secured::{Resource, grant, secured, set_password},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_and_delivery_goes_on_once_it_is_granted() {
    let kafka = secured();
    let address = &kafka.broker.address;
    let cases = [
        ("no-topic", "not allowed on the topic"),
        ("no-transactions", "not allowed to use the transactional id"),
        ("no-cursor", "not allowed on the topic"),
    ];
    for (user, told) in cases {
        let stage = Stage::on(address, 20, 1).await;
        stage.seal(1..=20, []).await;
        kafka::create_topic(address, &stage.cursor_topic, 1, &[("cleanup.policy", "compact")]);
        let transactions = format!("rollcall-{}", stage.stream().await);
        let resources = [
            Resource::Topic(&stage.topic),
            Resource::Transactions(&transactions),
            Resource::Topic(&stage.cursor_topic),
        ];
        let missing = match user {
            "no-topic" => resources[0],
            "no-transactions" => resources[1],
            _ => resources[2],
        };
        for resource in resources.into_iter().filter(|resource| *resource != missing) {
            grant(address, user, resource);
        }
        let settings = json!({"mechanism": "plain", "username": user, "password": format!("{user}-secret")});
        let mut target = stage.target();
        target.settings = Settings::parse("kafka", &kafka.settings("SECURE", settings)).expect("settings");
        let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");
        let begun = Instant::now();
        let error = session.deliver(&|_| true).await.expect_err("not allowed");
        assert!(error.message.contains(told), "{user}: {} is not: {told}", error.message);
        assert_eq!(error.kind, Kind::Settings, "{user}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{user}: {:?}", begun.elapsed());
        assert_eq!(stage.told(), [], "{user}: something was told");

        grant(address, user, missing);
        session.deliver(&|_| true).await.expect("the same session goes on");
        stage.assert_told_once_and_in_order(20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_goes_on_without_a_restart_when_a_password_or_certificate_is_put_right() {
    let kafka = secured();
    let stage = Stage::on(&kafka.broker.address, 20, 1).await;
    stage.seal(1..=10, []).await;
    set_password(&kafka.broker.address, "rotated", "old");
    let mut target = stage.target();
    let settings = json!({"mechanism": "scram-sha-256", "username": "rotated", "password": "new"});
    target.settings = Settings::parse("kafka", &kafka.settings("SASL", settings)).expect("settings");
    for resource in
        [Resource::Topic(&stage.topic), Resource::Transactions("rollcall-"), Resource::Topic(&stage.cursor_topic)]
    {
        grant(&kafka.broker.address, "rotated", resource);
    }
    let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");
    let error = session.deliver(&|_| true).await.expect_err("the password is not yet changed");
    assert!(error.message.contains("refuses the user 'rotated'"), "{error:?}");
    set_password(&kafka.broker.address, "rotated", "new");
    session.deliver(&|_| true).await.expect("the same session goes on");
    stage.assert_told_once_and_in_order(10);

    // A client's certificate in files, both changed while the session lives.
    let stage = Stage::on(&kafka.broker.address, 20, 1).await;
    stage.seal(1..=20, []).await;
    let folder = tempfile::tempdir().expect("a folder");
    let write = |pair: &Pair| {
        std::fs::write(folder.path().join("cert.pem"), pair.certificate()).expect("writable");
        std::fs::write(folder.path().join("key.pem"), pair.key()).expect("writable");
    };
    let client = |valid_days| kafka.authority.issue(&Subject { name: "client", valid_days, ..Subject::default() });
    write(&client((-30, -1)));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = json!({"mechanism": "client-cert-auth", "ssl_cert": path("cert.pem"), "ssl_key": path("key.pem")});
    let mut target = stage.target();
    target.settings = Settings::parse("kafka", &kafka.settings("CERTIFIED", settings)).expect("settings");
    let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");
    let error = session.deliver(&|_| true).await.expect_err("expired");
    assert!(error.message.contains("expired"), "{error:?}");
    write(&client((-1, 90)));
    session.deliver(&|_| true).await.expect("the same session goes on");
    stage.assert_told_once_and_in_order(20);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_waits_for_a_broker_to_renew_its_certificate_and_goes_on_without_a_restart() {
    let kafka = secured();
    let stage = Stage::on(&kafka.broker.address, 20, 1).await;
    stage.seal(1..=20, []).await;
    let settings = json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"});
    let mut target = stage.target();
    target.settings = Settings::parse("kafka", &kafka.settings("RENEWED", settings)).expect("settings");
    let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");
    let begun = Instant::now();
    let error = session.deliver(&|_| true).await.expect_err("expired");
    assert!(error.message.contains("shows a certificate that has expired"), "{error:?}");
    assert_eq!(error.kind, Kind::Wait, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // The broker takes a moment until it shows the new one; whoever waits and tries again gets in.
    kafka.show_certificate("RENEWED", "renewed");
    let deadline = Instant::now() + kafka::PATIENCE;
    while let Err(error) = session.deliver(&|_| true).await {
        assert_eq!(error.kind, Kind::Wait, "{error:?}");
        assert!(Instant::now() < deadline, "the same session does not go on: {error:?}");
    }
    stage.assert_told_once_and_in_order(20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_down_does_not_hold_up_another() {
    let kafka = secured();
    let (down, up) = (Stage::on(&kafka.broker.address, 5, 1).await, Stage::on(&kafka.broker.address, 5, 1).await);
    down.seal(1..=5, []).await;
    up.seal(1..=5, []).await;
    let nobody = format!("127.0.0.1:{}", kafka::free_port());
    let plain = json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"});
    let mut unreachable = kafka.settings("SASL", plain.clone());
    unreachable.insert("brokers".into(), nobody.into());
    let reachable = kafka.settings("SASL", plain);
    let begun = Instant::now();
    let told = |outcome| (outcome, begun.elapsed());
    let ((failed, _), (delivered, after)) = tokio::join!(async { told(deliver(&down, &unreachable).await) }, async {
        told(deliver(&up, &reachable).await)
    });
    let error = failed.expect_err("nobody is there");
    assert!(error.message.contains("nothing listens there"), "{error:?}");
    assert_eq!(error.kind, Kind::Wait);
    delivered.expect("delivered");
    assert!(after < Duration::from_secs(10), "{after:?}");
    up.assert_told_once_and_in_order(5);
    // The cause is removed.
    deliver(&down, &reachable).await.expect("delivered");
    down.assert_told_once_and_in_order(5);
}
