//! Settings and mechanisms against a secured Apache Kafka: who gets in, who does not, and what he is told.

use std::time::{Duration, Instant};

use rollcall::{
    Kind, Result,
    deliver::{
        Delivered, Session,
        cluster::Cluster,
        settings::{Pem, Settings, Tls},
        tls, topics,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    deliver::Stage,
    support::{
        certificates::{Pair, Subject},
        kafka,
        secured::{AWS_SECRET, Resource, grant, secured, set_password},
    },
};

mod replicas;

/// Asks the cluster for its topics: what every mechanism must be able to do, and no refused one can.
fn topics(settings: &Map<String, Value>) -> Result<usize> {
    let settings = Settings::parse("secured", settings)?;
    let cluster = Cluster::open("secured", &settings)?;
    topics::metadata(&cluster, Duration::from_secs(20)).map(|metadata| metadata.topics().len())
}

/// Each way not to get in, with what is said and which kind of error it is.
#[test]
fn each_refusal_has_its_own_message_within_seconds() {
    let kafka = secured();
    let plain = || json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"});
    let with = |mut settings: Value, more: Value| {
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    let stranger = Pair::authority("Somebody else's authority");
    let client = |authority: &Pair, valid_days| {
        let pair = authority.issue(&Subject { name: "client", valid_days, ..Subject::default() });
        json!({"mechanism": "client-cert-auth", "ssl_cert": pair.certificate(), "ssl_key": pair.key()})
    };
    let nobody = format!("127.0.0.1:{}", kafka::free_port());
    let settings = Kind::Settings;
    let cases = [
        (
            "SASL",
            with(plain(), json!({"password": "wrong"})),
            settings,
            "refuses the user 'plain' or its password (plain)",
        ),
        (
            "SASL",
            json!({"mechanism": "scram-sha-256", "username": "scram", "password": "wrong"}),
            settings,
            "refuses the user 'scram' or its password (scram-sha-256)",
        ),
        (
            "SECURE",
            json!({"mechanism": "scram-sha-512", "username": "scram", "password": "wrong"}),
            settings,
            "refuses the user 'scram' or its password (scram-sha-512)",
        ),
        ("MSK", plain(), settings, "does not offer the mechanism plain"),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "wrong", "region": "eu-west-1"}),
            settings,
            "refuses the key of accessKeyId",
        ),
        (
            "SECURE",
            with(plain(), json!({"ssl_ca": stranger.certificate()})),
            settings,
            "shows a certificate of an authority that is not trusted",
        ),
        (
            "SECURE",
            with(plain(), json!({"ssl_ca": ""})),
            settings,
            "shows a certificate of an authority that is not trusted",
        ),
        ("EXPIRED", plain(), settings, "shows a certificate that has expired"),
        ("SELFSIGNED", plain(), settings, "shows a certificate that it signed itself"),
        ("ELSEWHERE", plain(), settings, "shows a certificate for another host"),
        ("CERTIFIED", json!({"mechanism": "none"}), settings, "wants a client certificate"),
        ("CERTIFIED", client(&stranger, (-1, 365)), settings, "refuses the certificate of ssl_cert"),
        ("CERTIFIED", client(&kafka.authority, (-30, -2)), settings, "the client's certificate in ssl_cert expired on"),
        ("SASL", with(plain(), json!({"ssl_enabled": true})), Kind::Wait, "closes the connection"),
        ("SECURE", with(plain(), json!({"ssl_enabled": false, "ssl_ca": ""})), Kind::Wait, "closes the connection"),
        ("SASL", json!({"mechanism": "none"}), Kind::Wait, "closes the connection"),
        (
            "SASL",
            with(plain(), json!({"brokers": nobody})),
            Kind::Wait,
            "refuses the connection: nothing listens there",
        ),
        (
            "SASL",
            with(plain(), json!({"brokers": "no-such-host.invalid:9092"})),
            Kind::Wait,
            "has a name that no address is known for",
        ),
    ];
    for (listener, settings, kind, told) in cases {
        let begun = Instant::now();
        let given = kafka.settings(listener, settings);
        let error = topics(&given).err().unwrap_or_else(|| panic!("{listener}: {told}: got in"));
        assert!(error.message.contains(told), "{listener}: {} is not: {told}", error.message);
        assert_eq!(error.kind, kind, "{}", error.message);
        assert!(begun.elapsed() < Duration::from_secs(12), "{told}: {:?}", begun.elapsed());
    }
}

#[test]
fn verification_can_be_switched_off_for_a_self_signed_certificate() {
    let kafka = secured();
    for listener in ["SELFSIGNED", "EXPIRED", "ELSEWHERE"] {
        let settings = json!({"mechanism": "plain", "username": "plain", "password": "plain-secret",
            "ssl_reject_unauthorized_ca": false, "ssl_ca": ""});
        topics(&kafka.settings(listener, settings)).expect("got in");
    }
}

/// Delivers a sealed log by these settings, read back at the listener for masters.
async fn deliver(stage: &Stage, settings: &Map<String, Value>) -> Result<Delivered> {
    let mut target = stage.target();
    target.settings = Settings::parse("kafka", settings)?;
    Session::start(stage.pool().clone(), target).await?.deliver(&|_| true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mechanism_delivers_exactly_once() {
    let kafka = secured();
    let client = kafka.authority.issue(&Subject { name: "client", ..Subject::default() });
    let issuer = http::answers(|request| {
        match request.contains("grant_type=client_credentials") && request.contains("Basic cm9ib3Q6cm9ib3Qtc2VjcmV0") {
            true => (200, json!({"access_token": unsigned_token("robot"), "expires_in": 300}).to_string()),
            false => (401, json!({"error": "invalid_client"}).to_string()),
        }
    });
    let lender = http::answers(|request| {
        match request.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Frollcall") {
            true => (
                200,
                "<Credentials><AccessKeyId>ASIALENT</AccessKeyId><SecretAccessKey>lent-secret</SecretAccessKey>\
                       <SessionToken>a+session/token=</SessionToken></Credentials>"
                    .to_owned(),
            ),
            false => (403, "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>".to_owned()),
        }
    });
    let aws =
        json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": AWS_SECRET, "region": "eu-west-1"});
    let mut role = aws.clone();
    role["authorizationIdentity"] = "arn:aws:iam::123456789012:role/rollcall".into();
    role["sts_endpoint"] = lender.into();
    let oauth = json!({"mechanism": "oauthbearer", "oauth_token_endpoint": issuer, "oauth_client_id": "robot", "oauth_client_secret": "robot-secret"});
    let scram = |mechanism: &str| json!({"mechanism": mechanism, "username": "scram", "password": "scram-secret"});
    let cases = [
        ("SASL", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SASL", scram("scram-sha-256")),
        ("SASL", scram("scram-sha-512")),
        ("SASL", oauth.clone()),
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SECURE", scram("scram-sha-256")),
        ("SECURE", scram("scram-sha-512")),
        ("SECURE", oauth),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(),
            "ssl_key": client.encrypted_key("open sesame"), "ssl_key_passphrase": "open sesame"}),
        ),
        ("TLS", json!({"mechanism": "none"})),
        ("MSK", aws),
        ("MSK", role),
    ];
    for (listener, settings) in cases {
        let stage = Stage::on(&kafka.broker.address, 40, 2).await;
        stage.seal(1..=30, []).await;
        let settings = kafka.settings(listener, settings);
        let mechanism = format!("{listener} {}", settings["mechanism"]);
        deliver(&stage, &settings).await.unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        stage.seal(31..=40, 1..=10).await;
        deliver(&stage, &settings).await.unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        stage.assert_told_once_and_in_order(50);
    }
}

/// A JWS without a signature, which Kafka's own validator for development takes.
fn unsigned_token(subject: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as base64};
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let claims = json!({"sub": subject, "iat": now, "exp": now + 300});
    format!("{}.{}.", base64.encode(r#"{"alg":"none"}"#), base64.encode(claims.to_string()))
}

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

/// A web server of one answer.
mod http {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    /// Its URL. The request's first line, headers and body, in one text, are what it answers to.
    pub fn answers(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
                let mut request = String::new();
                while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
                let length =
                    request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).expect("the body");
                request.push_str(&String::from_utf8_lossy(&body));
                let (status, text) = answer(&request);
                let length = text.len();
                let head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                drop(stream.write_all((head + &text).as_bytes()));
            }
        });
        url
    }
}

#[test]
fn certificates_are_read_in_every_form_that_people_paste_and_wrong_ones_are_named() {
    let authority = Pair::authority("Forms");
    let (pair, other) = (authority.issue(&Subject::default()), authority.issue(&Subject::default()));
    let bare = |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>().join(" ");
    let chain = pair.certificate() + &authority.certificate();
    let inner =
        chain.trim().trim_start_matches("-----BEGIN CERTIFICATE-----").trim_end_matches("-----END CERTIFICATE-----");
    let read = |certificate: &str, key: &str, passphrase: Option<&str>| {
        let pem = |text: &str| Some(Pem::Text(text.into()));
        let key_passphrase = passphrase.map(Into::into);
        let tls =
            Tls { ca: None, certificate: pem(certificate), key: pem(key), key_passphrase, reject_unauthorized: true };
        tls::read(&tls).map(|material| material.identity().expect("an identity").0.matches("BEGIN").count())
    };
    let encrypted = pair.encrypted_key("open sesame");
    assert_eq!(read(&pair.certificate(), &pair.key(), None).expect("whole"), 1);
    assert_eq!(read(&bare(&pair.certificate()), &bare(&pair.key()), None).expect("bare"), 1);
    assert_eq!(read(inner, &pair.key(), None).expect("a chain without its ends"), 2);
    assert_eq!(read(&chain, &bare(&encrypted), Some("open sesame")).expect("encrypted and bare"), 2);
    for (certificate, key, passphrase, told) in [
        (&pair.certificate(), &other.key(), None, "is not the key of the first certificate"),
        (&pair.certificate(), &encrypted, Some("wrong"), "no private key that can be read"),
        (&pair.certificate(), &encrypted, None, "no private key that can be read"),
        (&"nonsense".to_owned(), &pair.key(), None, "ssl_cert holds no certificate"),
    ] {
        let error = read(certificate, key, passphrase).expect_err(told);
        assert!(error.message.contains(told), "{error:?}");
    }
    let soon = authority.issue(&Subject { valid_days: (-1, 12), ..Subject::default() });
    let tls = Tls { ca: Some(Pem::Text(soon.certificate().into())), ..Tls::default() };
    let warnings = tls::read(&tls).expect("readable").warnings(chrono::Utc::now());
    assert!(warnings.len() == 1 && warnings[0].contains("'broker' in ssl_ca expires in 1"), "{warnings:?}");
}

/// Runs the program in a folder with this configuration of one destination.
fn program(settings: &Map<String, Value>, topic: &str, cursor_topic: &str, args: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().expect("a folder");
    let config = json!({"destinations": {"prod": {
        "settings": settings, "cursor_topic": cursor_topic,
        "mappings": [{"name": "changes", "mapping": {"topic": topic, "payload": {"@path": "$."}}}],
    }}});
    std::fs::write(folder.path().join("rollcall.yaml"), config.to_string()).expect("writable");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder.path()).args(args).env_remove("DATABASE_URL").env("RUST_LOG", "trace");
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_ticks_what_is_in_place_and_says_how_to_mend_the_rest() {
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

#[test]
fn no_secret_is_ever_printed_even_at_trace_level() {
    let kafka = secured();
    let canary = |name: &str| format!("canary-{name}-7f3a");
    let client = kafka.authority.issue(&Subject { name: "client", ..Subject::default() });
    let key = client.key();
    let key_body = key.lines().nth(1).expect("a body").to_owned();
    let issuer = http::answers(|_| (401, json!({"error": "invalid_client"}).to_string()));
    let cases = [
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": canary("password")})),
        ("SECURE", json!({"mechanism": "scram-sha-512", "username": "scram", "password": canary("password")})),
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(), "ssl_key": key, "ssl_key_passphrase": canary("passphrase")}),
        ),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(), "ssl_key": canary("key"), "ssl_key_passphrase": canary("passphrase")}),
        ),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": canary("aws"), "region": "eu-west-1"}),
        ),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": canary("aws"), "region": "eu-west-1",
            "authorizationIdentity": "arn:aws:iam::1:role/x", "sts_endpoint": issuer}),
        ),
        (
            "SASL",
            json!({"mechanism": "oauthbearer", "oauth_token_endpoint": issuer, "oauth_client_id": "robot", "oauth_client_secret": canary("oauth")}),
        ),
        (
            "SASL",
            json!({"mechanism": "plain", "username": "plain", "password": canary("password"), "pasword": canary("typo")}),
        ),
        (
            "SASL",
            json!({"mechanism": "plain", "username": "plain", "password": canary("password"), "properties": {"linger.ms": canary("property")}}),
        ),
    ];
    let mut librdkafka_spoke = false;
    for (listener, mut settings) in cases {
        let object = settings.as_object_mut().expect("an object");
        object.entry("properties").or_insert_with(|| json!({"debug": "all"}));
        let settings = kafka.settings(listener, settings);
        for args in [&["check", "-vv"][..], &["topics", "--json", "-vv", "--log-format", "json"]] {
            let output = program(&settings, "changes", "cursors", args);
            let all = text(&output.stdout) + &text(&output.stderr);
            librdkafka_spoke |= all.contains("librdkafka") && all.contains("Connected to");
            for secret in ["canary", "plain-secret", AWS_SECRET, "lent-secret", &key_body] {
                let at = all.find(secret);
                assert!(
                    at.is_none(),
                    "{listener} {args:?} {}: {}",
                    settings["mechanism"],
                    &all[at.unwrap_or(0).saturating_sub(300)..][..400]
                );
            }
        }
    }
    assert!(librdkafka_spoke, "librdkafka's own debugging is not in what was looked at");
}
