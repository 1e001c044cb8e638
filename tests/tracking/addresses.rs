//! Addresses, write keys, encodings, limits, ids and times.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use rollcall::{clock::Clock, limits};
use serde_json::{Value, json};

use super::{Answered, Api, KEY, answered, configured, track};

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn fault(answered: &Answered) -> (u16, &str, &str) {
    let text = |name: &str| answered.body[name].as_str().unwrap_or_else(|| panic!("no {name}: {answered:?}"));
    (answered.status, text("code"), text("message"))
}

#[tokio::test]
async fn each_address_takes_its_call_by_either_name_and_with_a_slash() {
    let api = Api::start().await;
    let calls = [
        ("identify", "i", json!({"traits": {"email": "ann@example.com"}})),
        ("track", "t", json!({"event": "Order Completed"})),
        ("page", "p", json!({"name": "Home"})),
        ("screen", "s", json!({"name": "Main"})),
        ("group", "g", json!({"groupId": "acme", "traits": {"seats": 3}})),
        ("alias", "a", json!({"previousId": "visitor"})),
    ];
    for (long, short, mut call) in calls {
        for (n, path) in [format!("/v1/{long}"), format!("/v1/{short}"), format!("/v1/{long}/")].iter().enumerate() {
            call["userId"] = "ann".into();
            call["messageId"] = format!("{long}-{n}").into();
            api.stored(path, &call).await;
        }
    }
    for (n, path) in ["/v1/batch", "/v1/b", "/v1/import", "/v1/import/"].iter().enumerate() {
        api.stored(path, &json!({"batch": [track(&format!("batch-{n}"), "ann")]})).await;
    }
    assert_eq!(api.count("select count(*) from messages").await, 22);
    assert_eq!(api.count("select count(*) from events").await, 3 + 3 + 3 + 4);
    assert_eq!(api.count("select count(*) from profiles where traits ->> 'email' = 'ann@example.com'").await, 1);
    assert_eq!(api.count("select count(*) from group_members").await, 1);
    assert_eq!(api.count("select count(*) from events where source_id is distinct from 'web'").await, 0);
    assert_eq!(fault(&api.post("/v1/trakc", &track("x", "ann")).await).0, 404);
    assert_eq!(api.post("/v1/m", &json!({"series": []})).await.status, 200);
}

#[tokio::test]
async fn a_write_key_is_taken_from_wherever_the_libraries_put_it_and_a_wrong_one_is_told() {
    let api = Api::start().await;
    let body = |id: &str, key: &str| json!({"batch": [track(id, "ann")], "writeKey": key});
    let plain = |body: Value| api.request("/v1/batch").body(body.to_string());
    let in_item =
        json!({"batch": [{"type": "track", "messageId": "m5", "userId": "ann", "event": "E", "writeKey": KEY}]});
    for request in [
        plain(body("m1", "")).basic_auth(KEY, Some("")),
        plain(body("m2", "")).header("Authorization", "Basic d3JpdGUta2V5LW9mLXdlYg=="),
        plain(body("m3", "")).bearer_auth(KEY),
        plain(body("m4", KEY)),
        plain(in_item),
        plain(body("m6", KEY)).bearer_auth("a token of OAuth"),
    ] {
        assert_eq!(answered(request).await.status, 200);
    }
    assert_eq!(api.count("select count(*) from messages").await, 6);
    for request in
        [plain(body("m7", "")), plain(body("m7", "wrong-key")), plain(body("m7", "")).basic_auth("x", Some(KEY))]
    {
        let answered = answered(request).await;
        let (status, code, message) = fault(&answered);
        assert_eq!((status, code), (401, "invalid_write_key"));
        assert!(!message.contains("wrong-key") && answered.headers.contains_key("www-authenticate"), "{message}");
    }
    // Another configuration takes effect at once.
    api.tracking.follow(&configured("write_keys: [{name: app, key: write-key-of-app}]\nstrict_write_keys: false"));
    assert_eq!(answered(plain(body("m8", "write-key-of-app"))).await.status, 200);
    assert_eq!(answered(plain(body("m9", KEY))).await.body, json!({"success": true}), "as the peer does");
    assert_eq!(api.count("select count(*) from messages").await, 7, "and nothing is kept of it");
}

#[tokio::test]
async fn bodies_come_plain_or_packed_and_by_any_content_type() {
    let api = Api::start().await;
    let body = |id: &str| json!({"batch": [track(id, "ann")], "writeKey": KEY}).to_string();
    let as_text = api.request("/v1/b").header("Content-Type", "text/plain;charset=UTF-8").body(body("m1"));
    assert_eq!(answered(as_text).await.status, 200);
    let packed = api.request("/v1/batch").header("Content-Encoding", "gzip").body(gzip(&body("m2")));
    assert_eq!(answered(packed).await.status, 200);
    for (encoding, bytes) in
        [("gzip", body("m3").into_bytes()), ("gzip", gzip(&body("m3"))[..40].to_vec()), ("br", vec![1])]
    {
        let answered = answered(api.request("/v1/batch").header("Content-Encoding", encoding).body(bytes)).await;
        assert_eq!((fault(&answered).0, fault(&answered).1), (400, "invalid_encoding"));
    }
    assert_eq!(api.count("select count(*) from messages").await, 2);
}

#[tokio::test]
async fn what_is_too_large_is_refused_however_it_comes() {
    let api = Api::start().await;
    let filled = |bytes: usize| {
        let mut message = track("large", "ann");
        message["properties"]["text"] = "x".into();
        let short = message.to_string().len() - 1;
        message["properties"]["text"] = "x".repeat(bytes - short).into();
        message
    };
    api.stored("/v1/track", &filled(limits::MESSAGE_BYTES)).await;
    let refused = api.post("/v1/track", &filled(limits::MESSAGE_BYTES + 1)).await;
    assert_eq!(fault(&refused), (400, "invalid_message", "message is 32769 bytes; the most is 32768"));

    let spaces = " ".repeat(limits::TRACKING_BYTES);
    let large = format!("{}{spaces}", json!({"batch": [track("m1", "ann")]}));
    assert_eq!(fault(&api.post_text("/v1/batch", large.clone()).await).1, "too_large");
    let bomb = api.request("/v1/batch").header("Content-Encoding", "gzip").body(gzip(&" ".repeat(100 << 20)));
    assert_eq!(fault(&answered(bomb).await).1, "too_large");
    // Without a Content-Length it is found on the way.
    let chunked = raw(&api, &large).await;
    assert!(chunked.starts_with("HTTP/1.1 400") && chunked.contains("too_large"), "{chunked}");

    let many = |count: usize| json!({"batch": vec![json!({"type": "track", "userId": "u", "event": "E"}); count]});
    assert_eq!(fault(&api.post("/v1/batch", &many(limits::TRACKING_MESSAGES + 1)).await).1, "too_many_messages");
    api.stored("/v1/batch", &many(limits::TRACKING_MESSAGES)).await;
    assert_eq!(api.count("select count(*) from messages").await, 1 + limits::TRACKING_MESSAGES as i64);
}

/// Sends a chunked body by hand; returns the answer.
async fn raw(api: &Api, body: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(api.tracking.address()).await.unwrap();
    let head = "POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_bad_message_is_told_and_counted_and_its_neighbours_are_stored() {
    let api = Api::start().await;
    let mut batch = vec![track("m0", "ann"), json!({"type": "track", "event": "E"}), track("m2", "ann"), json!(5)];
    batch.push(json!({"type": "identify", "userId": "ann", "traits": "none"}));
    let answered = api.post("/v1/batch", &json!({"batch": batch})).await;
    assert_eq!(answered.status, 200);
    assert_eq!(
        answered.body,
        json!({"success": true, "refused_count": 3, "refused": [
            {"index": 1, "field": "userId", "message": "userId is missing, and anonymousId too: a message needs one of them"},
            {"index": 3, "field": "message", "message": answered.body["refused"][1]["message"]},
            {"index": 4, "field": "traits", "message": "traits is not an object"},
        ]})
    );
    let alone = api.post("/v1/track", &json!({"event": "E"})).await;
    assert_eq!((fault(&alone).0, fault(&alone).1), (400, "no_user_anon_id"));
    let all_bad = api.post("/v1/batch", &json!({"batch": [{"type": "track", "userId": "ann"}]})).await;
    assert_eq!(fault(&all_bad), (400, "invalid_message", "event is missing"));
    for (body, code) in [
        ("", "invalid_json"),
        ("[", "invalid_json"),
        ("[]", "invalid_json"),
        ("{\"batch\": 1}", "invalid_batch"),
        ("{}", "invalid_batch"),
    ] {
        assert_eq!(fault(&api.post_text("/v1/batch", body).await).1, code, "{body}");
    }
    api.stored("/v1/batch", &json!({"batch": []})).await;
    assert_eq!(api.count("select count(*) from messages").await, 2);
    let (db, tracking) = (api.db, api.tracking);
    tracking.stop().await;
    let kept: Vec<(String, String, i64)> =
        sqlx::query_as("select source, field, messages from refusals order by 1, 2").fetch_all(&db.pool).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(source, field, count)| (&**source, &**field, *count)).collect();
    assert_eq!(kept, [("web", "event", 1), ("web", "line", 1), ("web", "traits", 1), ("web", "userId", 2)]);
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_spoil_their_message_alone() {
    let api = Api::start().await;
    let mut body =
        json!({"batch": [track("m0", "ann"), track("m1", "\u{fffd}"), track("m2", "ann")]}).to_string().into_bytes();
    let at = body.windows(3).position(|bytes| bytes == "\u{fffd}".as_bytes()).unwrap();
    body.splice(at..at + 3, [0xff]);
    let answered = api.post_text("/v1/batch", body).await;
    assert_eq!((answered.status, &answered.body["refused"][0]["index"]), (200, &json!(1)), "{answered:?}");
    assert_eq!(api.count("select count(*) from messages").await, 2);
}

#[tokio::test]
async fn what_postgres_alone_refuses_is_told_of_that_message_alone() {
    let api = Api::start().await;
    let poison = "create function poison() returns trigger language plpgsql as
        $$begin if new.properties ? 'poison' then raise exception 'no' using errcode = '22000'; end if; return new; end$$";
    sqlx::query(poison).execute(&api.db.pool).await.unwrap();
    sqlx::query("create trigger poison before insert on events for each row execute function poison()")
        .execute(&api.db.pool)
        .await
        .unwrap();
    let mut batch: Vec<Value> = (0..40).map(|n| track(&format!("m{n}"), "ann")).collect();
    batch[17]["properties"]["poison"] = json!(1);
    batch[3] = json!("bad");
    let (mixed, beside) = (json!({"batch": batch}), track("beside", "bob"));
    let (mixed, good) = tokio::join!(api.post("/v1/batch", &mixed), api.post("/v1/track", &beside));
    assert_eq!((mixed.status, good.status), (200, 200));
    let told: Vec<_> = mixed.body["refused"].as_array().unwrap().iter().map(|refused| &refused["index"]).collect();
    assert_eq!(told, [&json!(3), &json!(17)]);
    assert_eq!(api.count("select count(*) from events").await, 39);
    assert_eq!(api.post("/v1/track", &batch[17]).await.status, 400);
}

#[tokio::test]
async fn a_message_counts_once_however_often_it_is_sent() {
    let api = Api::start().await;
    let dated =
        |event: &str| json!({"type": "track", "userId": "ann", "event": event, "timestamp": "2024-05-01T00:00:00Z"});
    let undated = json!({"type": "track", "userId": "ann", "event": "Undated"});
    let with_id = track("same", "ann");
    let batch = json!({"batch": [with_id, dated("Dated"), dated("Twin"), dated("Twin"), undated, undated, with_id]});
    for sent_at in ["2024-05-01T00:00:01Z", "2024-05-01T00:00:02Z"] {
        let mut tried = batch.clone();
        tried["sentAt"] = sent_at.into();
        api.stored("/v1/batch", &tried).await;
    }
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    api.events().await.into_iter().for_each(|(name, ..)| *counts.entry(name).or_default() += 1);
    // What names neither an id nor a time may well be two: as in Segment, it counts each time.
    let expected = [("Dated", 1), ("Order Completed", 1), ("Twin", 2), ("Undated", 4)];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[tokio::test]
async fn times_are_by_our_clock_however_wrong_the_clients_is() {
    let api = Api::with("", Clock::standing_at("2024-06-01T12:00:00Z".parse().unwrap())).await;
    let at = |event: &str, times: Value| {
        let mut message = json!({"type": "track", "userId": "ann", "event": event, "messageId": event});
        message.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        message
    };
    // Its clock is an hour fast; the first happened ten minutes before it was sent.
    let batch = json!({"sentAt": "2024-06-01T13:00:00.000Z", "batch": [
        at("A batch", json!({"timestamp": "2024-06-01T12:50:00.000Z"})),
        at("B original", json!({"originalTimestamp": "2024-06-01T12:50:00+00:00"})),
        at("C corrected", json!({"originalTimestamp": "2024-06-01T12:50:00Z", "timestamp": "2024-05-01T00:00:00Z"})),
        at("D undated", json!({"timestamp": null, "receivedAt": "1999-01-01T00:00:00Z", "sentAt": "nonsense"})),
        at("E history", json!({"timestamp": "1997-01-01T00:00:00Z"})),
        at("F impossible", json!({"timestamp": "1970-01-01T00:30:00Z"})),
    ]});
    api.stored("/v1/batch", &batch).await;
    let alone = at("G alone", json!({"timestamp": "2024-06-01T12:50:00Z", "sentAt": "2024-06-01T13:00:00Z"}));
    api.stored("/v1/t", &alone).await;
    api.stored("/v1/t", &at("H unsent", json!({"timestamp": "2024-06-01T12:50:00Z", "sentAt": "nonsense"}))).await;
    let times: Vec<String> = api.events().await.iter().map(|(_, at, _)| at.to_rfc3339()).collect();
    assert_eq!(
        times,
        [
            "2024-06-01T11:50:00+00:00",
            "2024-06-01T11:50:00+00:00",
            "2024-05-01T00:00:00+00:00",
            "2024-06-01T12:00:00+00:00",
            "1996-12-31T23:00:00+00:00",
            "1970-01-01T00:30:00+00:00",
            "2024-06-01T11:50:00+00:00",
            "2024-06-01T12:50:00+00:00",
        ]
    );
}

#[tokio::test]
async fn what_a_batch_says_of_the_context_holds_for_its_messages_unless_they_say_otherwise() {
    let api = Api::start().await;
    let mut own = track("m1", "ann");
    own["context"] = json!({"ip": "192.0.2.1"});
    let context =
        json!({"ip": "192.0.2.9", "locale": "de", "library": {"name": "x"}, "traits": {"email": "ann@example.com"}});
    api.stored(
        "/v1/batch",
        &json!({"context": context, "integrations": {"All": false}, "batch": [own, track("m2", "ann")]}),
    )
    .await;
    let contexts: Vec<Value> =
        sqlx::query_scalar("select context from events order by message_id").fetch_all(&api.db.pool).await.unwrap();
    assert_eq!(contexts, [json!({"ip": "192.0.2.1", "locale": "de"}), json!({"ip": "192.0.2.9", "locale": "de"})]);
    assert_eq!(api.count("select count(*) from identifiers where type = 'email'").await, 1);
}

#[tokio::test]
async fn browsers_may_send_from_any_page_and_are_told_where() {
    let api = Api::start().await;
    let url = |path: &str| format!("http://{}{path}", api.tracking.address());
    let preflight = api
        .client
        .request(Method::OPTIONS, url("/v1/t"))
        .header("Origin", "https://shop.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type,x-retry-count");
    let answer = preflight.send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
    assert!(answer.status().is_success());
    assert_eq!(header("access-control-allow-origin"), Some("*"));
    assert_eq!(header("access-control-allow-headers"), Some("authorization,content-type,x-retry-count"));
    let settings: Value =
        api.client.get(url(&format!("/v1/projects/{KEY}/settings"))).send().await.unwrap().json().await.unwrap();
    assert_eq!(settings["integrations"]["Segment.io"]["apiHost"], format!("{}/v1", api.tracking.address()));
    assert_eq!(settings["integrations"]["Segment.io"]["protocol"], "http");
    assert_eq!(api.client.get(url("/v1/projects/wrong-key/settings")).send().await.unwrap().status(), 401);
    api.tracking.follow(&configured("public_url: https://ingest.example.com"));
    let settings: Value = api.client.get(url("/v1/projects/any/settings")).send().await.unwrap().json().await.unwrap();
    assert_eq!(settings["integrations"]["Segment.io"]["apiHost"], "ingest.example.com/v1");
    assert_eq!(settings["integrations"]["Segment.io"]["protocol"], "https");
}
