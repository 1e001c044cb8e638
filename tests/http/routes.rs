//! Row 67: every route there is, asked without a token, with a wrong one, and with one that is for something else.

use std::{collections::BTreeSet, fs};

use regex::Regex;
use reqwest::Method;

use crate::{
    serve::{BUYERS, Instance},
    support::http,
    sync::World,
};

const TOKEN: &str = "the-token-of-http";
const WRITE_KEY: &str = "the-write-key-of-web";

/// Who may ask a route.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Everybody,
    Token,
    WriteKey,
}

/// Each route as it stands in the code, and a request for it.
const ROUTES: [(&str, &str, For); 8] = [
    ("/healthz", "/healthz", For::Everybody),
    ("/readyz", "/readyz", For::Everybody),
    ("/freshness", "/freshness", For::Token),
    ("/metrics", "/metrics", For::Token),
    (
        "/v1/spaces/{space}/collections/{collection}/profiles/{id}/{part}",
        "/v1/spaces/spa_test/collections/users/profiles/user_id:u1/traits",
        For::Token,
    ),
    ("/v1/{call}", "/v1/track", For::WriteKey),
    ("/v1/{call}/", "/v1/batch/", For::WriteKey),
    ("/v1/projects/{write_key}/settings", "/v1/projects/nobodys-write-key/settings", For::WriteKey),
];

#[test]
fn row_67_every_route_of_the_code_is_asked() {
    let path = Regex::new(r#""(/[a-z][^" ]*)""#).unwrap();
    let mut found = BTreeSet::new();
    for folder in ["src/http", "src/http/tracking"] {
        for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.extend(path.captures_iter(&code).map(|found| found[1].to_owned()));
        }
    }
    assert_eq!(found, ROUTES.map(|(route, ..)| route.to_owned()).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_67_every_route_but_health_refuses_whoever_has_no_token_of_its_own_and_nothing_is_changed() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let text = fs::read_to_string(&path).unwrap().replace("http: {", &format!("http: {{token: {TOKEN}, "));
    let tracking = format!("tracking: {{listen: \"127.0.0.1:0\", write_keys: [{{name: web, key: {WRITE_KEY}}}]}}\n");
    fs::write(&path, text + &tracking).unwrap();
    let mut instance = Instance::start(&world, "one", "");
    let (http, tracking) = (instance.http(), format!("http://{}", instance.address("tracking")));
    let client = http::client();
    let ask = async |path: &str, of: For, credentials: Option<(&str, &str)>| {
        let (method, address) = match of {
            For::WriteKey if !path.contains("settings") => (Method::POST, &tracking),
            For::WriteKey => (Method::GET, &tracking),
            _ => (Method::GET, &http),
        };
        let mut request = client.request(method, format!("{address}{path}"));
        request = match credentials {
            Some(("basic", key)) => request.basic_auth(key, Some("")),
            Some((_, key)) => request.bearer_auth(key),
            None => request,
        };
        let message = r#"{"batch": [], "type": "track", "userId": "u1", "event": "x"}"#;
        let answer = request.body(message).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    let other = |of| if of == For::WriteKey { TOKEN } else { WRITE_KEY };
    for (_, path, of) in ROUTES {
        for key in ["", "x", "the-token-of-http2", other(of)] {
            for credentials in [None, Some(("bearer", key)), Some(("basic", key))] {
                let (status, body) = ask(path, of, credentials).await;
                match of {
                    For::Everybody => assert!(!body.contains("database"), "{path} {credentials:?} says: {body}"),
                    _ => assert_eq!(status, 401, "{path} {credentials:?}: {body}"),
                }
            }
        }
        let own = if of == For::WriteKey { WRITE_KEY } else { TOKEN };
        let (status, body) = ask(&path.replace("nobodys-write-key", own), of, Some(("bearer", own))).await;
        assert_ne!(status, 401, "{path}: {body}");
    }
    let messages: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(messages, 1, "that of the one request that was allowed to");
    instance.ends_cleanly();
}
