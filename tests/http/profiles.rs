//! The Profile API answers as Segment's does, to whoever has the token.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rollcall::{
    clock::Clock,
    config::Secret,
    http::{Guards, Listener, Running, profiles},
};
use serde_json::{Value, json};

use crate::support::postgres::Database;

const TOKEN: &str = "a-token-of-some-length";

struct Api {
    database: Database,
    address: String,
    _running: Running,
}

async fn api(token: Option<&str>) -> Api {
    let database = Database::fresh().await;
    sqlx::raw_sql(
        r#"insert into profiles (id, traits, created_at) values (1, '{"plan": "pro", "age": 7, "vip": "old"}', '2024-01-01');
           insert into identifiers (type, value, profile_id, added_at) values
               ('user_id', '42', 1, '2024-01-02'), ('email', 'a/b+c@example.com', 1, '2024-01-01');
           insert into group_members values (1, 'acme');
           insert into event_names (name) values ('Seen'), ('Old');
           insert into events (profile_id, name_id, occurred_at, message_id, source_id, properties)
               select 1, 1, timestamptz '2024-05-19' + n * interval '1 minute', 'm' || n, 's', '{"n": 1}' from generate_series(10, 39) n;
           insert into events (profile_id, name_id, occurred_at, message_id) values (1, 2, '2024-05-01', 'm0');
           insert into audiences (key, name, computation_id) values ('vip', 'vip', 'aud_1'), ('other', 'other', 'aud_2');
           insert into definitions (audience_id, version, query) select id, 1, '' from audiences;
           insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count, exited_count, entered, exited, evaluate_ms)
               select id, 1, now(), '', 0, 0, 0, '', '', 0 from audiences order by id"#,
    )
    .execute(&database.pool)
    .await
    .unwrap();
    for (audience, members) in [(1i64, vec![1u32]), (2, vec![2])] {
        let bytes = rollcall::membership::diff::encode(&members.into_iter().collect());
        sqlx::query("insert into memberships values ($1, (select id from runs where audience_id = $1), $2)")
            .bind(audience)
            .bind(bytes)
            .execute(&database.pool)
            .await
            .unwrap();
    }
    let clock = Clock::standing_at("2024-05-20T00:00:00Z".parse().unwrap());
    let token = token.map(|token| serde_json::from_value::<Secret>(json!(token)).unwrap());
    let routes = profiles::routes(database.pool.clone(), clock, "spa_1", token.as_ref(), Default::default());
    let listener = Listener::bind("http", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().to_string();
    Api { database, address, _running: listener.start(routes, Guards::default()) }
}

impl Api {
    fn get(&self, path: &str) -> (u16, Value) {
        self.ask(path, Some(&basic(TOKEN)))
    }

    fn ask(&self, path: &str, authorization: Option<&str>) -> (u16, Value) {
        self.ask_at(&format!("/v1/spaces/spa_1/collections/users/profiles/{path}"), authorization)
    }

    fn ask_at(&self, path: &str, authorization: Option<&str>) -> (u16, Value) {
        tokio::task::block_in_place(|| {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut request = agent.get(format!("http://{}{path}", self.address));
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            let mut response = request.call().unwrap();
            let body = response.body_mut().read_to_string().unwrap();
            (response.status().as_u16(), serde_json::from_str(&body).unwrap())
        })
    }
}

/// The token as the user, as the peer has it.
fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{token}:")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_read_in_the_peers_forms() {
    let api = api(Some(TOKEN)).await;
    let (status, traits) = api.get("user_id:42/traits");
    assert_eq!((status, &traits["traits"]), (200, &json!({"age": 7, "plan": "pro", "vip": true})));
    assert_eq!(
        traits["cursor"],
        json!({"url": "/v1/spaces/spa_1/collections/users/profiles/user_id:42/traits", "has_more": false, "next": "", "limit": 20})
    );
    assert_eq!(api.get("user_id:42/traits?class=audience").1["traits"], json!({"vip": true}));
    assert_eq!(api.get("user_id:42/traits?include=plan,vip").1["traits"], json!({"plan": "pro", "vip": true}));

    // Percent-encoded, as an address of that kind must be.
    // An e-mail address is one in any case.
    let (_, ids) = api.get("email%3AA%2Fb%2Bc%40Example.com/external_ids");
    let email = json!({"id": "a/b+c@example.com", "type": "email", "collection": "users", "encoding": "none", "created_at": "2024-01-01T00:00:00.000Z"});
    assert_eq!((&ids["data"][0], ids["data"].as_array().unwrap().len()), (&email, 2));

    let (_, metadata) = api.get("user_id:42/metadata");
    assert_eq!(metadata["metadata"]["created_at"], "2024-01-01T00:00:00.000Z");
    assert_eq!(
        (&metadata["metadata"]["first_message_id"], &metadata["metadata"]["last_message_id"]),
        (&json!("m0"), &json!("m39"))
    );
    assert_eq!(api.get("user_id:42/links").1["data"][0]["external_ids"][0]["id"], "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_page_by_page_the_latest_first_and_those_of_two_weeks() {
    let api = api(Some(TOKEN)).await;
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let (_, page) = api.get(&format!("user_id:42/events?limit=12&next={}", next.replace('=', "%3D")));
        seen.extend(
            page["data"].as_array().unwrap().iter().map(|event| event["message_id"].as_str().unwrap().to_owned()),
        );
        next = page["cursor"]["next"].as_str().unwrap().to_owned();
        assert_eq!(page["cursor"]["has_more"], !next.is_empty());
        if next.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (10..40).rev().map(|n| format!("m{n}")).collect::<Vec<_>>());
    assert_eq!(api.get("user_id:42/events?include=Old").1["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_wrongly_is_told_so_and_who_has_no_token_learns_nothing() {
    let api = api(Some(TOKEN)).await;
    for path in ["user_id:43/traits", "user_id:42/nothing", "email:42/traits"] {
        let (status, body) = api.get(path);
        assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    for path in [
        "user_id/traits",
        "user_id:42/traits?limit=201",
        "user_id:42/traits?limit=0",
        "user_id:42/traits?class=x",
        "user_id:42/events?next=!",
    ] {
        let (status, body) = api.get(path);
        assert_eq!((status, &body["error"]["code"]), (400, &json!("validation_failure")), "{path}");
    }
    assert_eq!(api.ask("user_id:42/traits", Some(&format!("Bearer {TOKEN}"))).0, 200);
    for (path, authorization) in [
        ("user_id:42/traits", None),
        ("user_id:42/traits", Some(basic("a-token-of-some-lengtH"))),
        ("user_id:43/traits", Some("Bearer wrong".to_owned())),
    ] {
        let (status, body) = api.ask(path, authorization.as_deref());
        assert_eq!((status, &body["error"]["code"]), (401, &json!("authentication_error")));
    }
    let other = "/v1/spaces/spa_2/collections/users/profiles/user_id:42/traits";
    assert_eq!(api.ask_at(other, Some(&basic(TOKEN))).0, 404);
    drop(api.database);

    let open = self::api(None).await;
    assert_eq!(open.get("user_id:42/traits").0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_hundred_requests_a_second_are_told_to_come_again_and_wrong_tokens_do_not_count() {
    let api = api(Some(TOKEN)).await;
    for _ in 0..5 {
        assert_eq!(api.ask("user_id:42/metadata", Some(&basic("wrong"))).0, 401);
    }
    // The clock stands, so that the bucket does not fill.
    for asked in 0..100 {
        assert_eq!(api.get("user_id:42/metadata").0, 200, "{asked}");
    }
    let (status, body) = api.get("user_id:42/metadata");
    assert_eq!((status, &body["error"]["code"]), (429, &json!("rate_limit_exceeded")), "{body}");
}
