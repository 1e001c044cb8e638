//! Postgres' clock, which ends leases, is set forth and back by hours: nobody has a lease for longer than a minute, nothing is told twice.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rollcall::embedded::{Binaries, Embedded, EmbeddedOptions};

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{kafka, postgres::Database},
    sync::World,
};

/// Debian's package `libfaketime` and others.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// Server binaries whose server reads its clock's offset from `clock`. What measures spans is not set, as in any machine.
fn binaries(folder: &Path, clock: &Path) -> Binaries {
    let mut versions: Vec<_> =
        fs::read_dir("/usr/lib/postgresql").expect("Debian's PostgreSQL").flatten().map(|of| of.path()).collect();
    versions.sort();
    let real = versions.pop().expect("a version").join("bin");
    let library = LIBRARIES
        .iter()
        .find(|path| Path::new(path).exists())
        .expect("libfaketime (Debian: apt-get install libfaketime)");
    symlink(real.join("initdb"), folder.join("initdb")).unwrap();
    let script = format!(
        "#!/bin/sh\nexec env LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
         {}/postgres \"$@\"\n",
        clock.display(),
        real.display()
    );
    fs::write(folder.join("postgres"), script).unwrap();
    fs::set_permissions(folder.join("postgres"), fs::Permissions::from_mode(0o755)).unwrap();
    Binaries { installed: vec![folder.to_owned()], origin: None }
}

/// Fault row 46: the clock of Postgres steps.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_clock_may_step_by_hours_and_back_while_leases_are_held_and_while_their_holder_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let clock = folder.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let binaries = binaries(folder.path(), &clock);
    let options = EmbeddedOptions { folder: folder.path().join("pg"), durable: false };
    let postgres = Embedded::start_with(binaries, options).await.expect("Postgres starts");
    let topic = kafka::topic(kafka::broker(), "audiences", 3);
    let world = World { db: Database::at(postgres.options()).await, topic, folder: tempfile::tempdir().unwrap() };
    world.configure(BUYERS);
    let ahead = async || -> f64 {
        let ahead = "select extract(epoch from clock_timestamp())::float8";
        let there: f64 = sqlx::query_scalar(ahead).fetch_one(&world.db.pool).await.unwrap();
        there - rollcall::clock::Clock::system().now().timestamp_millis() as f64 / 1_000.0
    };
    let step = async |to: &str, seconds: f64| {
        fs::write(&clock, to).unwrap();
        assert!((ahead().await - seconds).abs() < 60.0, "the server's clock is set");
    };
    buy(&world, 0..2);
    let one = Instance::start(&world, "one", "");
    let mut other = Instance::start(&world, "other", "");
    told(&world, &users(0..2));

    // All leases have ended at once, and are taken anew; trust was measured here, and does not know of it.
    step("+3h", 10_800.0).await;
    buy(&world, 2..4);
    told(&world, &users(0..4));
    let held = "select exists (select from leases where rollcall_is_in_force(expires_at) and starts_with(name, 'destination:'))";
    kafka::eventually("somebody has the destination's lease again", || {
        kafka::block_on(sqlx::query_scalar::<_, bool>(held).fetch_one(&world.db.pool)).unwrap().then_some(())
    });
    // Whatever was granted until now ends in three hours.
    one.signal(Signal::SIGKILL);
    step("+0", 0.0).await;
    let since = Instant::now();
    buy(&world, 4..6);
    told(&world, &users(0..6));
    assert!(since.elapsed() < Duration::from_secs(120), "{:?}:\n{}", since.elapsed(), other.log());
    // Once more, with its own leases alone.
    step("+3h", 10_800.0).await;
    buy(&world, 6..7);
    told(&world, &users(0..7));
    step("+0", 0.0).await;
    buy(&world, 7..8);
    told(&world, &users(0..8));
    other.ends_cleanly();
}
