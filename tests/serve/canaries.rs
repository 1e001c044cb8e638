//! Row 66: a secret or a person's value in every slot of a running `serve`, looked for in all that it says and notes.

use std::fs;

use serde_json::json;

use super::{Instance, buy};
use crate::{
    support::{
        http,
        kafka::{self, eventually},
    },
    sync::World,
};

const CANARY: &str = "canary-7f3a";

const AUDIENCES: &str = "
  - {name: Everybody, query: \"event('Seen').count() >= 1\", schedule: every 1s}
  - {name: Cast, sql: \"select value::int from identifiers where type = 'user_id'\", schedule: every 1s}
  - {name: Raised, sql: \"select loud(user_id, '42703') from customers\", schedule: every 1s}
  - {name: Forbidden, sql: \"select loud(user_id, '42501') from customers\", schedule: every 1s}
  - {name: Constrained, sql: \"select loud(user_id, '23505') from customers\", schedule: every 1s}
  - {name: Elsewhere, sql: \"select user_id::int from customers\", source: shop, schedule: every 1s}
traits:
  - {name: Score, sql: \"select user_id, email::float8 as score from customers\", schedule: every 1s}
  - {name: Loud, sql: \"select user_id, loud(email, '22000') as said from customers\", source: shop, schedule: every 1s}";

fn configure(world: &World) {
    let password = world.db.url().replacen("@localhost/", &format!(":{CANARY}-password@localhost/"), 1);
    let more = format!(
        "  numbers:
    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false, properties: {{debug: all}}}}
    cursor_topic: {topic}.cursors
    mappings: [{{name: numbers, mapping: {{topic: {topic}, partition: {{\"@path\": $.userId}}, payload: {{\"@path\": $.}}}}}}]
tracking: {{listen: \"127.0.0.1:0\", write_keys: [{{name: web, key: {CANARY}-write-key}}]}}
sources:
  shop: {{database: \"{password}\"}}
  customers: {{database: \"{password}\", query: \"select user_id, plan::int as plan from customers\", profiles: {{}}, schedule: every 1s}}
",
        kafka::broker(),
        topic = world.topic
    );
    world.configure_with(AUDIENCES, kafka::broker(), &world.topic, &more);
    let path = world.folder.path().join("rollcall.yaml");
    let listens = format!("http: {{listen: \"127.0.0.1:0\", token: {CANARY}-http-token}}");
    let text = fs::read_to_string(&path).unwrap().replace("http: {listen: \"127.0.0.1:0\"}", &listens);
    fs::write(path, text).unwrap();
}

/// Sends what is right and all kinds of what is wrong.
async fn send(instance: &Instance) {
    let (client, address) = (http::client(), instance.address("tracking"));
    let seen = json!({"type": "track", "messageId": format!("{CANARY}-m"), "userId": format!("{CANARY}-user"), "event": "Seen",
                      "properties": {"card": format!("{CANARY}-card")}, "context": {"traits": {"email": format!("{CANARY}@example.com")}}});
    let wrong = json!({"batch": [
        {"type": "track", "userId": format!("{CANARY}-user"), "event": "Seen", "timestamp": format!("{CANARY}-time")},
        {"type": "track", "userId": {"id": CANARY}, "event": CANARY},
        {"type": CANARY, "userId": CANARY},
        {"type": "identify", "userId": format!("{CANARY}\u{0}")},
        {"type": "identify", "userId": format!("{CANARY}-user"), "traits": format!("{CANARY}-traits")},
    ]});
    let bodies = [seen.to_string(), wrong.to_string(), format!("{{{CANARY}"), format!("[\"{CANARY}\"]")];
    for key in ["write-key", "wrong-key"] {
        for body in &bodies {
            let request =
                client.post(format!("http://{address}/v1/batch")).basic_auth(format!("{CANARY}-{key}"), Some(""));
            request.body(body.clone()).send().await.expect("an answer");
            let request =
                client.post(format!("http://{address}/v1/track")).basic_auth(format!("{CANARY}-{key}"), Some(""));
            request.body(body.clone()).send().await.expect("an answer");
        }
        client.get(format!("http://{address}/v1/projects/{CANARY}-{key}/settings")).send().await.expect("an answer");
    }
    let people = format!("{}/v1/spaces/spa_test/collections/users/profiles", instance.http());
    for token in ["http-token", "wrong-token"] {
        for part in ["traits", "events", "external_ids", "links", "nothing"] {
            for (kind, id) in [("user_id", format!("{CANARY}-user")), (CANARY, CANARY.to_owned())] {
                let request = client.get(format!("{people}/{kind}:{id}/{part}?limit={CANARY}&include={CANARY}"));
                request.basic_auth(format!("{CANARY}-{token}"), Some("")).send().await.expect("an answer");
            }
        }
    }
}

/// Every text that says why something failed, was refused, halted or put aside.
async fn reasons(world: &World) -> String {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select c.table_name::text, c.column_name::text from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
         where t.table_type = 'BASE TABLE' and c.table_schema = current_schema() and c.data_type = 'text'
         and c.column_name ~ '(reason|detail|error|because|help)$'",
    )
    .fetch_all(&world.db.pool)
    .await
    .unwrap();
    assert!(columns.len() >= 6, "{columns:?}");
    let mut all = String::new();
    for (table, column) in columns {
        let sql = format!("select coalesce(string_agg({column}, E'\\n'), '') from {table}");
        let found: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&world.db.pool).await.unwrap();
        all += &format!("{table}.{column}: {found}\n");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn row_66_no_secret_and_no_value_of_a_person_is_logged_or_noted_by_serve_even_at_trace_level() {
    let world = World::new("").await;
    let tables = format!(
        "create table customers (user_id text, email text, plan text);
         insert into customers values ('{CANARY}-user', '{CANARY}@example.com', '{CANARY}-plan');
         create function loud(value text, code text) returns text language plpgsql as $$ begin
             raise notice 'seen: %', value;
             raise warning 'seen: %', value;
             raise exception 'column \"%\" does not exist', value using errcode = code, detail = value, hint = value;
         end $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&world.db.pool).await.unwrap();
    configure(&world);
    buy(&world, 0..1);
    let mut command = world.command(&["serve", "--color", "never"]);
    command.env("RUST_LOG", "trace");
    let mut instance = Instance::run(&world, "one", command);
    send(&instance).await;
    for failed in ["cast", "raised", "forbidden", "constrained", "elsewhere", "score", "loud"] {
        instance.logs(&format!("\"audience '{failed}'\""));
    }
    instance.logs("the statement fails");
    let is_told = |value: &[u8]| String::from_utf8_lossy(value).contains(CANARY);
    eventually("the canary is told to Kafka", || {
        world.told().iter().any(|record| record.value.as_deref().is_some_and(is_told)).then_some(())
    });
    eventually("a source fails", || world.json(&["sources"]).to_string().contains("22P02").then_some(()));
    let mut all = reasons(&world).await;
    assert!(all.contains("the statement fails: a text cannot be read as the type that is wanted"), "{all}");
    for command in ["status", "sources", "runs", "audiences", "check", "plan", "sync"] {
        for args in [&[command][..], &[command, "--json"]] {
            let output = world.command(args).env("RUST_LOG", "trace").output().unwrap();
            all += &format!(
                "{args:?} {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    instance.ends_cleanly();
    all += &instance.log();
    assert!(all.contains("sqlx") && all.contains("librdkafka"), "libraries speak at this level");
    let told: Vec<&str> = all.lines().filter(|line| line.contains(CANARY)).take(5).collect();
    assert!(told.is_empty(), "{told:#?}");
}
