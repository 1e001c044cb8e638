//! Health, readiness, freshness and metrics of a running `serve`.

use rollcall::telemetry::metrics::{self, Metric, Type};
use serde_json::Value;

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::kafka,
    sync::World,
};

/// Status and body of an answer.
pub async fn get(url: &str) -> (u16, String) {
    get_with(url, None).await
}

/// The same, with a token.
pub async fn get_with(url: &str, token: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let asked = tokio::task::spawn_blocking(move || {
        let mut answer = request.call().expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    });
    asked.await.unwrap()
}

async fn json(url: &str) -> (u16, Value) {
    let (status, text) = get(url).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Asks until `is_met`; the answer that was.
async fn until(url: &str, is_met: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + kafka::PATIENCE;
    loop {
        let (status, body) = json(url).await;
        if is_met(status, &body) {
            return body;
        }
        assert!(std::time::Instant::now() < deadline, "{url}: {status} {body}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// A line of the Prometheus text: name, labels, value.
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

pub fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(|label| {
            let (label, value) = label.split_once('=').unwrap();
            (label.to_owned(), value.trim_matches('"').to_owned())
        });
        Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
    };
    lines.map(sample).collect()
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has =
        |sample: &Sample, (label, value): &(&str, &str)| sample.labels.iter().any(|(l, v)| l == label && v == value);
    let found = samples.iter().find(|sample| sample.name == name && labels.iter().all(|label| has(sample, label)));
    found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
}

/// A source of nobody.
const SOURCE: &str =
    "\nsources: {nobody: {query: select 'x' as user_id where false, profiles: {}, schedule: every 1s}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_served_sync_exports_every_metric_of_the_list_and_no_other_with_its_labels() {
    let world = World::new(&format!("{BUYERS}{SOURCE}")).await;
    let path = world.folder.path().join("rollcall.yaml");
    let settings = format!("settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}", kafka::broker());
    let events = kafka::topic(kafka::broker(), "events", 1);
    let streams = format!("\nstreams:\n  shop: {{{settings}, topics: [{events}]}}\n");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + &streams).unwrap();
    buy(&world, 0..7);
    let mut instance = Instance::start(&world, "one", "");
    instance.logs("partitions=1 of=1 instances=1");
    told(&world, &users(0..7));
    let url = instance.http();
    assert_eq!(json(&format!("{url}/healthz")).await.0, 200);
    let ready = until(&format!("{url}/readyz"), |status, _| status == 200).await;
    assert_eq!(ready["schema"], "current", "{ready}");
    until(&format!("{url}/freshness"), |status, body| status == 200 && body["status"] == "fresh").await;

    let (_, text) = get(&format!("{url}/metrics")).await;
    let samples = samples(&text);
    for Metric { name, kind, labels, help } in metrics::ALL {
        let series = if *kind == Type::Histogram { format!("{name}_bucket") } else { (*name).to_owned() };
        let found =
            samples.iter().find(|sample| sample.name == series).unwrap_or_else(|| panic!("no {series}:\n{text}"));
        let mut found: Vec<&str> =
            found.labels.iter().map(|(label, _)| label.as_str()).filter(|l| *l != "le").collect();
        found.sort_unstable();
        assert_eq!(found, *labels, "{name}");
        assert!(text.contains(&format!("# HELP {name} {help}")), "{name} is described:\n{text}");
    }
    let known = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        metrics::ALL.iter().any(|metric| metric.name == name || Some(metric.name) == base)
    };
    for sample in &samples {
        assert!(known(&sample.name), "{} is not in the list", sample.name);
    }
    let buyers = [("audience", "buyers")];
    assert_eq!(value(&samples, metrics::MEMBERS, &buyers), 7.0);
    assert_eq!(value(&samples, metrics::ENTERED, &buyers), 7.0);
    assert_eq!(value(&samples, metrics::TOLD_CHANGES, &[("destination", "kafka")]), 7.0);
    assert_eq!(value(&samples, metrics::LAG_CHANGES, &[("destination", "kafka")]), 0.0);
    assert_eq!(value(&samples, metrics::LEASES, &[("lease", "ticker")]), 1.0);
    assert!(value(&samples, metrics::RUNS, &[("audience", "buyers"), ("outcome", "sealed")]) >= 1.0);
    assert!(value(&samples, metrics::LAG, &buyers) < 60.0);
    super::dashboard::check(&samples);
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_a_destination_is_not_told_is_overdue_but_the_instance_stays_ready() {
    let world = World::new(BUYERS).await;
    let away = "  away:\n    settings: {brokers: \"127.0.0.1:1\", mechanism: none, ssl_enabled: false}\n    mappings:\n      \
                - {name: all, mapping: {topic: lost, payload: {\"@path\": $.}}}\n";
    let audiences = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 1s, \
                     fresh_within: 5s}
  - {name: Here, query: \"event('Order Completed').count() >= 1\", schedule: every 1s, destinations: [kafka]}";
    world.configure_with(audiences, kafka::broker(), &world.topic, away);
    buy(&world, 0..2);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..2));
    let url = instance.http();
    let body = until(&format!("{url}/freshness"), |status, _| status == 503).await;
    assert_eq!(body["status"], "overdue", "{body}");
    let overdue = body["overdue"].as_array().unwrap();
    assert_eq!(overdue.len(), 1, "the other one does not go there: {body}");
    assert_eq!((&overdue[0]["key"], &overdue[0]["behind"]), (&"buyers".into(), &serde_json::json!(["away"])));
    let ready = until(&format!("{url}/readyz"), |_, body| body["overdue"][0] == "buyers").await;
    assert_eq!(ready["status"], "ready");
    let samples = samples(&get(&format!("{url}/metrics")).await.1);
    assert!(value(&samples, metrics::OLDEST_OVERDUE, &[]) > 0.0);
    assert_eq!(value(&samples, metrics::OVERDUE, &[("audience", "here")]), 0.0);
    assert_eq!(value(&samples, metrics::LAG_CHANGES, &[("destination", "away")]), 2.0);
    assert!(value(&samples, metrics::LAG_SECONDS, &[("destination", "away")]) > 0.0);
    instance.ends_cleanly();

    let status = world.json(&["status"]);
    assert_eq!(status["audiences"][0]["freshness"], "overdue", "{status}");
    assert_eq!(status["audiences"][0]["behind"], serde_json::json!(["away"]));
    let table = String::from_utf8(world.run(&["status"]).stdout).unwrap();
    let row = table.lines().find(|line| line.contains("buyers")).unwrap();
    assert!(row.contains("overdue") && row.ends_with("away"), "{table}");
    assert_eq!(world.json(&["audiences"])[0]["freshness"], "overdue");

    // A disabled destination is told nothing, and nothing is promised of it.
    let text = away.replace("    settings", "    enabled: false\n    settings");
    world.configure_with(&audiences.replace("5s", "5h"), kafka::broker(), &world.topic, &text);
    assert_eq!(world.json(&["status"])["audiences"][0]["freshness"], "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_alive_but_not_ready_while_the_database_is_away() {
    let world = World::new(BUYERS).await;
    let mut instance = Instance::start(&world, "one", "");
    let url = instance.http();
    until(&format!("{url}/readyz"), |status, _| status == 200).await;
    world.db.let_in(false).await;
    let body = until(&format!("{url}/readyz"), |status, _| status == 503).await;
    assert_eq!((&body["status"], &body["database"]), (&"not_ready".into(), &"down".into()));
    assert_eq!(json(&format!("{url}/healthz")).await.0, 200, "starting it again would not help");
    assert_eq!(json(&format!("{url}/freshness")).await.0, 503);
    let samples = samples(&get(&format!("{url}/metrics")).await.1);
    assert_eq!(value(&samples, metrics::DATABASE, &[]), 0.0);
    world.db.let_in(true).await;
    until(&format!("{url}/readyz"), |status, _| status == 200).await;
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_learns_only_whether_the_instance_is_well_and_a_thousand_connections_keep_nobody_out() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let token = "token: \"a token of this test\"";
    let text = std::fs::read_to_string(&path).unwrap().replace("\"127.0.0.1:0\"", &format!("\"0.0.0.0:0\", {token}"));
    std::fs::write(&path, text).unwrap();
    let mut instance = Instance::start(&world, "one", "");
    let url = instance.http().replace("0.0.0.0", "127.0.0.1");
    let ready = until(&format!("{url}/readyz"), |status, _| status == 200).await;
    assert_eq!(ready, serde_json::json!({"status": "ready"}));
    for path in ["metrics", "freshness"] {
        assert_eq!(get(&format!("{url}/{path}")).await.0, 401, "{path}");
    }
    let ask = async |path: &str| get_with(&format!("{url}/{path}"), Some("a token of this test")).await;
    assert_eq!(ask("metrics").await.0, 200);
    let ready: Value = serde_json::from_str(&ask("readyz").await.1).unwrap();
    assert_eq!(ready["database"], "up");

    // As many as this process may open, and a tenth more than the listener takes.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    let address = url.trim_start_matches("http://").to_owned();
    let silent: Vec<_> = (0..rollcall::limits::HTTP_CONNECTIONS + 100)
        .map(|_| std::net::TcpStream::connect(&address).expect("a connection"))
        .collect();
    let samples = samples(&ask("metrics").await.1);
    assert!(value(&samples, "process_open_fds", &[]) < 1_200.0);
    assert!(value(&samples, "process_resident_memory_bytes", &[]) < 500e6);
    drop(silent);
    instance.ends_cleanly();
}

#[test]
fn the_page_on_metrics_lists_all_of_them() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let rows: Vec<String> = page.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let expected: Vec<String> = metrics::ALL
        .iter()
        .map(|Metric { name, kind, labels, help }| {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{kind:?}").to_lowercase();
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        })
        .collect();
    assert_eq!(rows, expected, "docs/metrics.md should have:\n{}", expected.join("\n"));
}
