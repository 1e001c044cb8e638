//! What a running `serve` lets be seen: JSON log lines, spans for a collector; and how it takes in a changed configuration itself.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, sync::mpsc};

use rollcall::telemetry::metrics;
use serde_json::Value;

use super::{
    BUYERS, Instance, buy,
    reloads::{configure, spaces},
    told, users,
};
use crate::{
    http::operations::{get, samples},
    secure::http::answers,
    support::kafka::{self, eventually},
    sync::{World, fold, order},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_log_line_about_an_audience_a_run_or_a_destination_names_it_and_spans_go_to_the_collector() {
    let audiences = format!(
        "{BUYERS}\n  - {{name: Guess, query: \"trait('by_hand') = 'true'\", schedule: every 1s}}
  - {{name: By Hand, query: \"trait('n').exists()\"}}"
    );
    let world = World::new(&audiences).await;
    let away = "  away:\n    settings: {brokers: \"127.0.0.1:1\", mechanism: none, ssl_enabled: false}\n    mappings:\n      \
                - {name: all, mapping: {topic: lost, payload: {\"@path\": $.}}}\n";
    world.configure_with(&audiences, kafka::broker(), &world.topic, away);
    let person = "a-person-whom-no-span-may-name";
    world.import(&[order(person, "m1", "2024-05-01T00:00:00Z", 1.0)]);

    let (exported, exports) = mpsc::channel();
    let collector = answers(move |request| {
        exported.send(request.to_owned()).ok();
        (200, String::new())
    });
    let mut command = world.command(&["serve", "-v", "-v", "--log-format", "json"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).env("OTEL_BSP_SCHEDULE_DELAY", "200");
    let mut instance = Instance::run(&world, "one", command);
    told(&world, &BTreeSet::from([person.to_owned()]));
    instance.logs("to be tried again");
    let mut seen = String::new();
    while ["tick", "seal", "evaluate", "transaction"].iter().any(|name| !seen.contains(name)) {
        let request = exports.recv_timeout(kafka::PATIENCE).unwrap_or_else(|_| panic!("not all exported: {seen}"));
        assert!(request.starts_with("POST /v1/traces "), "{request}");
        seen.push_str(&request);
    }
    assert!(seen.contains("rollcall") && seen.contains("destination") && seen.contains("kafka"), "{seen}");
    eventually("the failing audience is logged", || instance.log().contains("the run failed").then_some(()));
    instance.ends_cleanly();
    seen.extend(exports.try_iter());
    for secret in [person, "Order Completed"] {
        assert!(!seen.contains(secret) && !instance.log().contains(secret), "{secret} is let out");
    }

    let log = instance.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut about = [0; 3];
    for line in &lines {
        for needed in ["timestamp", "level", "target", "message"] {
            assert!(line[needed].is_string(), "{needed}: {line}");
        }
        let (target, message) = (line["target"].as_str().unwrap(), line["message"].as_str().unwrap());
        if target.starts_with("rollcall::deliver") || target == "rollcall::serve::telling" || target == "librdkafka" {
            about[0] += 1;
            assert!(line["destination"].is_string(), "which destination? {line}");
        }
        if message == "sealed" {
            about[1] += 1;
            assert!(line["run"].is_u64() || line["run"].is_i64(), "{line}");
            assert_eq!(line["audience"], "buyers", "{line}");
        }
        let concerns = line["about"].as_str().unwrap_or_default();
        if let Some(rest) = concerns.strip_prefix("audience '") {
            about[2] += 1;
            assert_eq!(line["audience"], rest.trim_end_matches('\''), "{line}");
        }
        if let Some(rest) = concerns.strip_prefix("destination '") {
            assert_eq!(line["destination"], rest.trim_end_matches('\''), "{line}");
        }
    }
    assert!(about.iter().all(|lines| *lines > 0), "{about:?}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_takes_effect_by_itself_also_where_a_link_is_swapped_and_a_wrong_one_is_refused() {
    let world = World::new(BUYERS).await;
    let folder = world.folder.path().to_owned();
    let file = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    file("client", "first");
    file("space", "spa_first");
    configure(&world, &world.topic, BUYERS);
    // As Kubernetes mounts a ConfigMap: a link to a link to a folder, of which the middle one is swapped.
    let text = fs::read_to_string(folder.join("rollcall.yaml")).unwrap();
    let publish = |name: &str, text: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("rollcall.yaml"), text).unwrap();
        symlink(name, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
    };
    publish("..1", &text);
    fs::remove_file(folder.join("rollcall.yaml")).unwrap();
    symlink("..data/rollcall.yaml", folder.join("rollcall.yaml")).unwrap();

    buy(&world, 0..2);
    let mut instance = Instance::run(&world, "one", world.command(&["serve", "-v", "--watch"]));
    told(&world, &users(0..2));
    let url = format!("{}/metrics", instance.http());
    let reloads = async |outcome: &str| {
        let deadline = std::time::Instant::now() + kafka::PATIENCE;
        loop {
            let samples = samples(&get(&url).await.1);
            let of = |sample: &&crate::http::operations::Sample| {
                sample.name == metrics::RELOADS && sample.labels[0].1 == outcome
            };
            if samples.iter().find(of).unwrap().value > 0.0 {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "not {outcome}:\n{}", instance.log());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let more = text.replace(BUYERS, &format!("{BUYERS}\n{}", BUYERS.replace("Buyers", "More")));
    publish("..2", &more);
    eventually("the new audience is told", || {
        let fold = fold(&kafka::read_committed(kafka::broker(), &world.topic));
        (fold.get("more")? == &users(0..2)).then_some(())
    });
    reloads("applied").await;
    publish("..3", &more.replace("query", "querry"));
    reloads("refused").await;
    publish("..4", &more);
    file("space", "spa_second");
    let mut buyer = 2;
    eventually("the space of the changed file is told", || {
        // What is bought before the change is taken in goes out with the old one.
        buy(&world, buyer..buyer + 1);
        buyer += 1;
        spaces(&world).contains_key("spa_second").then_some(())
    });
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn rollcall_health_asks_the_instance_on_this_machine() {
    let world =
        World::new("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: '@yearly'}").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = world.folder.path().join("rollcall.yaml");
    let listen = format!("\"0.0.0.0:{port}\", token: \"a token of this test\"");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"127.0.0.1:0\"", &listen)).unwrap();
    let nobody = world.run(&["health"]);
    assert_eq!(nobody.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nobody answers"), "{nobody:?}");
    let mut instance = Instance::run(&world, "one", world.command(&["serve", "-v", "-v"]));
    instance.logs("listening");
    for question in [&["health"][..], &["health", "ready"], &["health", "fresh"]] {
        let output = world.run(question);
        assert!(output.status.success(), "{question:?}: {output:?}");
    }
    assert_eq!(world.json(&["health", "ready"])["database"], "up", "it carries the token");
    let halt = "insert into deliveries (destination_id, stream, state, halt_reason)
                select id, stream, 'halted', 'cursor_lost' from destinations
                on conflict (destination_id) do update set state = 'halted'";
    instance.logs("delivery recovered");
    sqlx::query(halt).execute(&world.db.pool).await.unwrap();
    let unwell = eventually("it is halted", || {
        let output = world.run(&["health", "fresh"]);
        (output.status.code() == Some(5)).then_some(output)
    });
    assert!(String::from_utf8_lossy(&unwell.stderr).contains("serve is halted: kafka"), "{unwell:?}");
    assert!(world.run(&["health"]).status.success());
    instance.ends_cleanly();
}
