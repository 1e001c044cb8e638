//! What the fuzz targets check, over inputs that were found and over mutations of them and of the vectors. `fuzz/` looks further.

use std::fs;

use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use serde_json::Value;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// Few, because every run of the tests does them; new ones each time, because the seed is the process's.
const MUTATIONS: usize = 1_500;

/// Inputs that are kept in `fuzz/found`.
fn found(target: &str) -> Vec<String> {
    let folder = fs::read_dir(format!("fuzz/found/{target}")).expect("inputs are kept");
    folder.map(|entry| fs::read_to_string(entry.unwrap().path()).expect("UTF-8")).collect()
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("tests/data/vectors/{file}.json")).expect("the vectors are checked in");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    file["cases"].as_array().expect("cases").clone()
}

/// Runs a target over the inputs as they are, then over mutations. Prints what it runs: a panic then shows its input.
fn run(target: fn(&str), mut seeds: Vec<String>, name: &str) {
    seeds.extend(found(name));
    for seed in &seeds {
        println!("{name}: {seed:?}");
        target(seed);
    }
    let bytes: [u8; 32] = std::array::from_fn(|at| (u64::from(std::process::id()).rotate_left(at as u32) & 255) as u8);
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    for _ in 0..MUTATIONS {
        let input = mutated(&seeds, &mut rng);
        println!("{name}: {input:?}");
        target(&input);
    }
}

/// A seed with some characters dropped, doubled, replaced, or with a piece of another seed in it.
fn mutated(seeds: &[String], rng: &mut TestRng) -> String {
    const ODD: [char; 24] = [
        '"', '\'', '\\', '{', '}', '[', ']', '(', ')', '%', '|', '@', '$', '.', ',', '0', '9', '-', 'e', '\0', '\n',
        'é', '😀', '\u{2028}',
    ];
    let mut below = |most: usize| (rng.next_u64() % most.max(1) as u64) as usize;
    let mut text: Vec<char> = seeds[below(seeds.len())].chars().take(2_000).collect();
    for _ in 0..=below(6) {
        let at = below(text.len() + 1);
        match below(4) {
            0 if at < text.len() => drop(text.remove(at)),
            1 => text.insert(at, ODD[below(ODD.len())]),
            2 if at < text.len() => text[at] = ODD[below(ODD.len())],
            _ => {
                let other: Vec<char> = seeds[below(seeds.len())].chars().collect();
                let start = below(other.len());
                let piece: Vec<char> = other.into_iter().skip(start).take(below(30)).collect();
                text.splice(at..at, piece);
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn no_trigger_breaks_what_its_fuzz_target_checks() {
    let seeds = cases("fql").iter().filter_map(|case| case["fql"].as_str().map(str::to_owned)).collect();
    run(bodies::trigger, seeds, "trigger");
}

#[test]
fn no_mapping_breaks_what_its_fuzz_target_checks() {
    let seeds = cases("mapping").iter().map(|case| format!("{}\0{}", case["mapping"], case["event"])).collect();
    run(bodies::mapping, seeds, "mapping");
}

#[test]
fn no_liquid_template_breaks_what_its_fuzz_target_checks() {
    fn templates(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| match value.as_str() {
                Some(text) if key == "@liquid" => found.push(text.to_owned()),
                _ => templates(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| templates(item, found)),
            _ => {}
        }
    }
    let mut seeds = Vec::new();
    cases("mapping").iter().for_each(|case| templates(&case["mapping"], &mut seeds));
    run(bodies::liquid, seeds, "liquid");
}

#[test]
fn no_request_of_the_tracking_api_breaks_what_its_fuzz_target_checks() {
    run(bodies::tracking, Vec::new(), "tracking");
}

#[test]
fn no_file_breaks_what_its_fuzz_target_checks() {
    run(bodies::file, Vec::new(), "file");
}
