//! Row 25: Postgres is put back to an old base backup, and goes on another way.

use super::world;
use crate::{
    serve::{buy, told, users},
    support::server::{self, End, Server},
};

const BUYERS: &str = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}";

/// All numbers come again: the same run, the same positions, the same profile. But it is another person.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_that_went_on_with_the_same_numbers_halts_as_chain_differs() {
    let folder = server::folder();
    let (state, backup) = (folder.path().join("pg"), folder.path().join("backup"));
    let mut server = Server::start(&state).await;
    let world = world(&server, "restored", BUYERS).await;
    buy(&world, 0..2);
    world.json(&["sync"]);
    server.base_backup(&backup);
    buy(&world, 2..3);
    let lost = world.json(&["sync"]);
    told(&world, &users(0..3));

    server.end(End::Fast).await;
    server.put_back(&backup);
    server.start_again().await;
    buy(&world, 9..10);
    let output = world.run(&["sync"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("chain_differs"), "{said}");
    assert_eq!(world.json(&["runs"])[0]["run"], lost["runs"][0]["run"], "the test proves nothing otherwise");
    assert_eq!(world.told().len(), 3, "nothing is told on a guess");

    assert!(world.run(&["unhalt", "kafka", "--start-over"]).status.success());
    world.json(&["sync"]);
    let fold = crate::sync::fold(&super::of_this_stream(&world).await);
    assert_eq!(fold["buyers"], users([0, 1, 9]));
    world.verified();
}
