//! The topic is read by the clients that people have, as their registries install them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::Stage;
use crate::support::{kafka, packages};

/// Changes that are told: several batches.
const CHANGES: u32 = 500;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deliver/clients").join(name)
}

/// A script of Python with the clients that pip installs.
pub fn python(script: &Path) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| packages::pip("clients", include_str!("clients/requirements.txt")));
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
    python
}

fn kafkajs() -> Command {
    let mut node = Command::new("node");
    let folder = packages::npm("clients", include_str!("clients/package.json"));
    node.env("NODE_PATH", folder).env("KAFKAJS_NO_PARTITIONER_WARNING", "1").arg(script("kafkajs.cjs"));
    node
}

fn java() -> Command {
    let mut java = kafka::java(&[]);
    java.arg(script("Read.java"));
    java
}

/// Fails unless the command prints every record of the topic, as a reader of committed ones has them.
async fn reads_all(name: &str, command: impl FnOnce(&Stage) -> Command + Send + 'static) {
    let stage = Stage::new(i64::from(CHANGES), 3).await;
    stage.seal(1..=CHANGES, []).await;
    stage.deliver().await.unwrap();
    let mut expected: Vec<String> = kafka::read_committed(&stage.broker, &stage.topic)
        .into_iter()
        .map(|record| {
            [record.key.unwrap(), record.value.unwrap()].map(|bytes| String::from_utf8(bytes).unwrap()).join("\t")
        })
        .collect();
    let mut command = command(&stage);
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(2 * kafka::PATIENCE, output).await.expect("in time").unwrap();
    let output = output.unwrap_or_else(|error| panic!("{name} cannot be run ({error}): .ci/run says what to install"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    let mut read: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    expected.sort();
    read.sort();
    assert_eq!(read.len(), expected.len(), "{name}: {errors}");
    assert!(read == expected, "{name} reads other records than were told");
}

fn told(mut command: Command, stage: &Stage) -> Command {
    command.args([&stage.broker, &stage.topic, &CHANGES.to_string()]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_for_java_reads_what_is_told() {
    reads_all("Java's client", |stage| told(java(), stage)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_reads_what_is_told() {
    reads_all("KafkaJS", |stage| told(kafkajs(), stage)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_reads_what_is_told() {
    reads_all("kafka-python", |stage| told(python(&script("kafka_python.py")), stage)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_reads_what_is_told() {
    reads_all("confluent-kafka", |stage| told(python(&script("confluent.py")), stage)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_reads_what_is_told() {
    reads_all("kcat", |stage| {
        let mut kcat = Command::new("kcat");
        kcat.args(["-C", "-q", "-e", "-o", "beginning", "-X", "isolation.level=read_committed", "-f", "%k\t%s\n"]);
        kcat.args(["-b", &stage.broker, "-t", &stage.topic]);
        kcat
    })
    .await;
}
