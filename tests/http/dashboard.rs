//! Do the dashboard and the alerts ask for what is exported? Held against the numbers of a real instance.

use std::{collections::BTreeSet, fs};

use regex::Regex;
use serde_json::Value;

use super::operations::Sample;

/// PromQL's own words that occur in our queries. What is neither one of them nor exported is a mistake.
const WORDS: &[&str] = &[
    "absent",
    "avg",
    "by",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "or",
    "rate",
    "sum",
    "time",
    "vector",
];
/// Labels that Prometheus adds when it scrapes, and the one of buckets.
const SCRAPED: &[&str] = &["job", "instance", "le"];

/// Fails on a query of `contrib/` whose metrics, labels or fixed label values are not among the samples.
pub fn check(samples: &[Sample]) {
    let mut queries = dashboard();
    queries.extend(alerts());
    assert!(queries.len() > 40, "the queries are not found any more: {}", queries.len());
    let mut asked = BTreeSet::new();
    for query in &queries {
        asked.extend(check_query(query, samples));
    }
    for metric in rollcall::telemetry::metrics::ALL {
        let is_asked = asked.iter().any(|name| name.starts_with(metric.name));
        let is_for_people_alone = ["process_start_time_seconds", "rollcall_audience_true_as_of_timestamp_seconds"];
        assert!(is_asked || is_for_people_alone.contains(&metric.name), "nothing shows {}", metric.name);
    }
}

/// The metrics that a query names.
fn check_query(query: &str, samples: &[Sample]) -> Vec<String> {
    let selector = Regex::new(r"([a-z_][a-z0-9_]*)\s*(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(=~|=)\s*"([^"]*)""#).unwrap();
    let grouping = Regex::new(r"by \(([^)]*)\)").unwrap();
    let of = |name: &str| samples.iter().filter(|sample| sample.name == name).collect::<Vec<_>>();
    let has = |sample: &Sample, label: &str| sample.labels.iter().any(|(known, _)| known == label);
    // Groupings and ranges are looked at apart, and are no names of metrics.
    let bare = Regex::new(r"\[[^\]]*\]").unwrap().replace_all(query, "").into_owned();
    let bare = grouping.replace_all(&bare, "").into_owned();
    let mut metrics = Vec::new();
    for found in selector.captures_iter(&bare) {
        let name = &found[1];
        if WORDS.contains(&name) && found.get(2).is_none() {
            continue;
        }
        let exported = of(name);
        assert!(!exported.is_empty(), "`{name}` is not exported: {query}");
        metrics.push(name.to_owned());
        for matched in found.get(2).iter().flat_map(|labels| matcher.captures_iter(labels.as_str())) {
            let (label, is_equal, value) = (&matched[1], &matched[2] == "=", &matched[3]);
            if SCRAPED.contains(&label) {
                continue;
            }
            let fits = |sample: &&Sample| sample.labels.iter().any(|(l, v)| l == label && (!is_equal || v == value));
            assert!(exported.iter().any(fits), "`{name}` has no {label} {value}: {query}");
        }
    }
    for found in grouping.captures_iter(query) {
        for label in found[1].split(',').map(str::trim).filter(|label| !SCRAPED.contains(label)) {
            let is_there = metrics.iter().any(|name| of(name).iter().any(|sample| has(sample, label)));
            assert!(is_there, "nothing has the label {label}: {query}");
        }
    }
    metrics
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("contrib/grafana-dashboard.json")).unwrap();
    let mut queries = Vec::new();
    let mut ids = BTreeSet::new();
    let legend = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is given twice: {panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            // A legend shows labels that the query keeps.
            for label in legend.captures_iter(target["legendFormat"].as_str().unwrap()) {
                let is_kept = query.contains(&label[1]) || !query.contains("by (") && SCRAPED.contains(&&label[1]);
                assert!(is_kept, "{{{{{}}}}} is not kept: {query}", &label[1]);
            }
            queries.push(query.to_owned());
        }
    }
    let value_of = Regex::new(r"^label_values\((.*), (\w+)\)$").unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            let found = value_of.captures(query).unwrap_or_else(|| panic!("{query}"));
            let grouped = format!("max by ({}) ({})", &found[2], &found[1]);
            queries.push(grouped);
        }
    }
    queries
}

fn alerts() -> Vec<String> {
    let alerts: Value = serde_saphyr::from_str(&read("contrib/prometheus-alerts.yaml")).unwrap();
    let rules = alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}
