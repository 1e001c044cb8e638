//! Row 64: what is small and becomes large, or is large at once: refused, within bounded memory.

use std::{fmt::Write as _, fs, io::Write as _, process::Command};

use flate2::{Compression, write::GzEncoder};
use tokio::task::JoinSet;

use super::{BUYERS, Instance};
use crate::{support::http, sync::World};

/// Requests at a time.
const AT_ONCE: usize = 40;
/// What all of them may cost: several times the bytes that live ingestion lets be held.
const KIBIBYTES: u64 = 160 << 10;

/// 256 MiB of nothing, in as many thousandths.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    (0..256).for_each(|_| encoder.write_all(&[b' '; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_64_bombs_sent_to_the_tracking_api_are_refused_within_bounded_memory() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let tracking = "tracking: {listen: \"127.0.0.1:0\", write_keys: [{name: tests, key: write-key-of-tests}]}\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + tracking).unwrap();
    let mut instance = Instance::start(&world, "one", "");
    let (client, address) = (http::client(), instance.address("tracking"));
    let bomb = gzip_bomb();
    let nested = |open: &str| format!("{{\"batch\": {}", open.repeat(250_000 / open.len()));
    let plain = [nested("["), nested("{\"a\":"), nested("[[],"), "x".repeat(100 << 20)];
    let bodies: Vec<(bool, Vec<u8>)> =
        std::iter::once((true, bomb)).chain(plain.into_iter().map(|text| (false, text.into_bytes()))).collect();
    let before = instance.peak_kibibytes();
    for (is_packed, body) in bodies {
        let body = bytes::Bytes::from(body);
        let mut requests = JoinSet::new();
        for _ in 0..AT_ONCE {
            let mut request =
                client.post(format!("http://{address}/v1/batch")).basic_auth("write-key-of-tests", Some(""));
            if is_packed {
                request = request.header("content-encoding", "gzip");
            }
            let request = request.body(body.clone());
            // Whoever goes on sending after the answer may find the connection closed.
            requests.spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) });
        }
        while let Some(answer) = requests.join_next().await {
            assert!(matches!(answer.unwrap(), Ok(400 | 429) | Err(_)));
        }
    }
    let grown = instance.peak_kibibytes().saturating_sub(before);
    assert!(grown < KIBIBYTES, "{grown} KiB more");
    instance.ends_cleanly();
}

#[test]
fn row_64_bombs_in_the_configuration_are_refused_within_256_mebibytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        writeln!(aliases, "a{level}: &a{level} [{below}]").unwrap();
    }
    let nest = format!("space_id: {}", "[".repeat(3 << 20));
    let keys: String = (0..200_000).map(|_| "space_id: x\n").collect();
    for text in [aliases, nest, keys, "# ".repeat(50 << 20)] {
        fs::write(folder.path().join("rollcall.yaml"), &text).unwrap();
        let program = env!("CARGO_BIN_EXE_rollcall");
        let limited = format!("ulimit -d {}; exec {program} plan --color never", 256 << 10);
        let output = Command::new("sh").current_dir(folder.path()).args(["-c", &limited]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{}: {told}", &text[..20]);
    }
}
