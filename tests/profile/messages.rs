//! Each message once; each bad line by itself.

use std::io::Write;

use rollcall::profile::{
    csv::ColumnMap,
    import::{Importer, Summary},
    source::{Reading, Source},
};
use serde_json::{Value, json};

use super::{count, import, import_file, lines, track};
use crate::support::postgres::Database;

#[tokio::test]
async fn every_kind_of_message_is_kept() {
    let database = Database::fresh().await;
    let (summary, refusals) = import(
        &database.pool,
        &lines(&[
            json!({"type": "identify", "messageId": "1", "userId": "u1", "timestamp": "2024-05-01", "traits": {"plan": "pro", "age": 30, "old": 1}}),
            json!({"type": "identify", "messageId": "2", "userId": "u1", "timestamp": "2024-05-01", "traits": {"plan": "free", "old": null, "email": "a@example.com"}}),
            track("3", "u1", "Order Completed", "2024-05-02T10:00:00Z", json!({"revenue": 12.5})),
            json!({"type": "page", "messageId": "4", "anonymousId": "a1", "name": "Home", "properties": {"url": "/"}, "timestamp": "2024-05-02", "context": {"ip": "192.0.2.1", "library": {"name": "x"}}}),
            json!({"type": "screen", "messageId": "5", "anonymousId": "a1", "name": "Main", "timestamp": "2024-05-02"}),
            json!({"type": "group", "messageId": "6", "userId": "u1", "groupId": "g1", "traits": {"name": "Acme"}, "timestamp": "2024-05-02"}),
            json!({"type": "alias", "messageId": "7", "userId": "u1", "previousId": "a9", "timestamp": "2024-05-02"}),
        ]),
    )
    .await;
    assert_eq!((summary.accepted, summary.repeated, summary.refused), (7, 0, 0), "{refusals:?}");
    let traits: Value = sqlx::query_scalar(
        "select traits from profiles where id = (select profile_id from identifiers where value = 'u1')",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(traits, json!({"plan": "free", "age": 30, "email": "a@example.com"}));
    let events: Vec<(String, Value, Value)> = sqlx::query_as(
        "select name, properties, context from events join event_names on id = name_id order by message_id",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(events[0], ("Order Completed".into(), json!({"revenue": 12.5}), json!({})));
    assert_eq!(
        events[1],
        ("Page Viewed".into(), json!({"url": "/", "name": "Home", "page_name": "Home"}), json!({"ip": "192.0.2.1"}))
    );
    assert_eq!(events[2], ("Screen Viewed".into(), json!({"name": "Main", "screen_name": "Main"}), json!({})));
    assert_eq!(
        count(
            &database.pool,
            "select count(*) from group_members join groups using (group_id) where traits = '{\"name\": \"Acme\"}'"
        )
        .await,
        1
    );
    assert_eq!(
        count(&database.pool, "select count(*) from aliases where previous_id = 'a9' and user_id = 'u1'").await,
        1
    );
}

#[tokio::test]
async fn a_null_removes_a_stored_trait_and_an_unchanged_profile_keeps_its_xid() {
    let database = Database::fresh().await;
    let identify = |id: &str, traits: Value| {
        lines(&[
            json!({"type": "identify", "messageId": id, "userId": "u", "timestamp": "2024-05-01", "traits": traits}),
        ])
    };
    import(&database.pool, &identify("1", json!({"a": 1, "b": {"c": null}}))).await;
    let xid = "select xid::text::bigint from profiles";
    let before = count(&database.pool, xid).await;
    import(&database.pool, &identify("2", json!({"a": 1}))).await;
    assert_eq!(count(&database.pool, xid).await, before);
    import(&database.pool, &identify("3", json!({"a": null, "d": 2}))).await;
    let traits: Value = sqlx::query_scalar("select traits from profiles").fetch_one(&database.pool).await.unwrap();
    assert_eq!(traits, json!({"b": {"c": null}, "d": 2}));
    assert!(count(&database.pool, xid).await > before);
}

#[tokio::test]
async fn a_message_counts_once_however_often_it_is_imported() {
    let database = Database::fresh().await;
    let messages: Vec<Value> = (0..500)
        .map(|n| track(&format!("m{}", n % 400), &format!("u{}", n % 30), "E", "2024-01-01", json!({})))
        .collect();
    let (first, _) = import(&database.pool, &lines(&messages)).await;
    assert_eq!((first.accepted, first.repeated), (400, 100));
    // The same content is known as a whole; other content with the same messages is known by message.
    let (second, _) = import(&database.pool, &lines(&messages)).await;
    assert_eq!((second.accepted, second.repeated, second.resumed_after_line), (0, 0, 500));
    let (third, _) = import(&database.pool, &format!("\n{}", lines(&messages))).await;
    assert_eq!((third.accepted, third.repeated), (0, 500));
    assert_eq!(count(&database.pool, "select count(*) from events").await, 400);
    assert_eq!(count(&database.pool, "select max(id) from profiles").await, 30);
}

#[tokio::test]
async fn messages_without_an_id_count_once_too() {
    let database = Database::fresh().await;
    let mut message = track("", "u", "E", "2024-01-01", json!({}));
    message.as_object_mut().unwrap().remove("messageId");
    let content = lines(&[message.clone(), message]);
    let stream = |content: &str| {
        Source::stream("-", Box::new(std::io::Cursor::new(content.to_owned())), Reading::default()).unwrap()
    };
    for expected in [2, 0] {
        let summary =
            Importer::new(database.pool.clone()).run(stream(&content), &mut std::io::sink(), |_| ()).await.unwrap();
        assert_eq!(summary.accepted, expected);
    }
    let mut again = Importer::new(database.pool.clone());
    again.again = true;
    // The same content in a file is the same messages.
    let (first, _) = import(&database.pool, &content).await;
    assert_eq!((first.accepted, first.repeated), (0, 2));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), &content).unwrap();
    let source = Source::open(&folder.path().join("x"), Reading::default()).unwrap();
    let summary = again.run(source, &mut std::io::sink(), |_| ()).await.unwrap();
    assert_eq!((summary.accepted, summary.repeated), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_at_once_neither_lose_nor_repeat_nor_deadlock() {
    let database = Database::fresh().await;
    let message = |n: usize| match n % 3 {
        0 => {
            json!({"type": "identify", "messageId": format!("m{n}"), "userId": format!("u{}", n % 700), "timestamp": "2024-01-01", "traits": {"n": n % 5}})
        }
        1 => {
            json!({"type": "group", "messageId": format!("m{n}"), "userId": format!("u{}", n % 700), "groupId": format!("g{}", n % 7), "timestamp": "2024-01-01", "traits": {"n": n}})
        }
        _ => track(
            &format!("m{n}"),
            &format!("u{}", n % 700),
            &format!("E{}", n % 11),
            &format!("20{:02}-01-01", n % 20),
            json!({"n": n}),
        ),
    };
    let forwards: Vec<Value> = (0..6_000).map(message).collect();
    let backwards: Vec<Value> = (0..6_000).rev().map(message).collect();
    let odd: Vec<Value> = (0..6_000).filter(|n| n % 2 == 1).map(message).collect();
    let (forwards, backwards, odd) = (lines(&forwards), lines(&backwards), lines(&odd));
    let (a, b, c) = tokio::join!(
        import(&database.pool, &forwards),
        import(&database.pool, &backwards),
        import(&database.pool, &odd)
    );
    assert_eq!(a.0.accepted + b.0.accepted + c.0.accepted, 6_000);
    assert_eq!(count(&database.pool, "select count(*) from messages").await, 6_000);
    assert_eq!(count(&database.pool, "select count(*) from events").await, 2_000);
    assert_eq!(count(&database.pool, "select count(*) from profiles").await, 700);
    assert_eq!(count(&database.pool, "select max(id) from profiles").await, 700, "ids are dense");
}

#[tokio::test]
async fn an_import_stopped_half_way_goes_on_where_it_stood() {
    let database = Database::fresh().await;
    let messages: Vec<Value> =
        (0..1_000).map(|n| track(&format!("m{n}"), &format!("u{}", n % 100), "E", "2024-01-01", json!({}))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages.jsonl");
    std::fs::write(&path, lines(&messages)).unwrap();
    let mut importer = Importer::new(database.pool.clone());
    importer.batch_messages = 10;
    let (first_batch, mut stored) = tokio::sync::mpsc::unbounded_channel();
    let (running, opened) = (importer.clone(), Source::open(&path, Reading::default()).unwrap());
    let running = tokio::spawn(async move {
        let told = |progress: &Summary| first_batch.send(progress.line).unwrap();
        running.run(opened, &mut std::io::sink(), told).await
    });
    let reached = stored.recv().await.unwrap();
    running.abort();
    let rest =
        importer.run(Source::open(&path, Reading::default()).unwrap(), &mut std::io::sink(), |_| ()).await.unwrap();
    assert!(rest.resumed_after_line >= reached && rest.resumed_after_line < 1_000, "{rest:?}");
    assert_eq!(rest.repeated, 0, "what was stored is not even read again");
    assert_eq!(count(&database.pool, "select count(*) from events").await, 1_000);
    assert_eq!(count(&database.pool, "select accepted from imports where finished and line = 1000").await, 1_000);
}

#[tokio::test]
async fn a_bad_line_stops_only_itself_and_is_told_without_its_content() {
    let database = Database::fresh().await;
    let good = |n: usize| track(&format!("g{n}"), "u", "E", "2024-01-01", json!({})).to_string();
    let deep = format!(
        r#"{{"type":"track","userId":"u","event":"E","properties":{}1{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let huge = format!(r#"{{"type":"identify","userId":"u","traits":{{"secret":"{}"}}}}"#, "x".repeat(1 << 20));
    let many = json!({"type": "identify", "userId": "u", "traits": (0..301).map(|n| (format!("t{n}"), json!(1))).collect::<serde_json::Map<_, _>>()}).to_string();
    let bad: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"not json secret".to_vec(), "line", "is not a JSON object"),
        (b"[1]".to_vec(), "line", "is not a JSON object"),
        (b"\"secret\"".to_vec(), "line", "is not a JSON object"),
        (br#"{"type":"track","userId":"u","event":"E","properties":{"a":"secret\u0000"}}"#.to_vec(), "line", "NUL"),
        (br#"{"type":"track","userId":"u","event":"E","properties":{"a":"\ud800"}}"#.to_vec(), "line", "surrogate"),
        (b"{\"type\":\"track\",\"userId\":\"\xff\"}".to_vec(), "line", "UTF-8"),
        (deep.into_bytes(), "line", "nested"),
        (huge.into_bytes(), "line", "bytes"),
        (many.into_bytes(), "traits", "301 members"),
        (br#"{"type":"track","userId":"u","event":"E","properties":{"n":1e999999}}"#.to_vec(), "line", "number"),
        (br#"{"type":"trakc","userId":"u"}"#.to_vec(), "type", "one of"),
        (br#"{"type":"track","event":"E"}"#.to_vec(), "userId", "anonymousId"),
        (br#"{"type":"track","userId":"u"}"#.to_vec(), "event", "missing"),
        (br#"{"type":"track","userId":"u","event":"E","timestamp":"secret"}"#.to_vec(), "timestamp", "ISO 8601"),
        (br#"{"type":"track","userId":"u","event":"E","timestamp":"0001-01-01"}"#.to_vec(), "timestamp", "1970"),
        (br#"{"type":"track","userId":{"a":1},"event":"E"}"#.to_vec(), "userId", "neither text"),
        (br#"{"type":"track","userId":"u","event":"E","properties":"secret"}"#.to_vec(), "properties", "not an object"),
        (format!(r#"{{"type":"track","userId":"{}","event":"E"}}"#, "é".repeat(501)).into_bytes(), "userId", "longer"),
    ];
    let mut content = Vec::new();
    for (n, (line, ..)) in bad.iter().enumerate() {
        content.extend(good(n).into_bytes());
        content.push(b'\n');
        content.extend(line);
        content.push(b'\n');
    }
    let (summary, refusals) = import_file(&database.pool, "x.jsonl", &content, None).await;
    for (refusal, (n, (_, field, reason))) in refusals.iter().zip(bad.iter().enumerate()) {
        assert_eq!(refusal["line"], 2 * (n + 1), "{refusal}");
        assert_eq!(refusal["field"], *field, "{refusal}");
        assert!(refusal["reason"].as_str().unwrap().contains(reason), "{refusal}");
        assert!(!refusal.to_string().contains("secret"), "{refusal}");
    }
    assert_eq!((summary.accepted, summary.refused as usize), (bad.len() as u64, bad.len()));
}

#[tokio::test]
async fn odd_unicode_and_odd_numbers_are_kept() {
    let database = Database::fresh().await;
    let line = r#"{"type":"identify","messageId":"é😀","userId":" u\u202e","timestamp":"2024-01-01","traits":{"𝒂\"\\\n":"\ud83d\ude00 \u0007","big":123456789012345678901234567890.5e-3,"":[]}}"#;
    let (summary, refusals) = import(&database.pool, line).await;
    assert_eq!(summary.accepted, 1, "{refusals:?}");
    let traits: String =
        sqlx::query_scalar("select traits::text from profiles").fetch_one(&database.pool).await.unwrap();
    assert!(traits.contains("123456789012345678901234567.8905") && traits.contains('😀'), "{traits}");
}

#[tokio::test]
async fn compressed_files_are_read_by_what_they_are() {
    let database = Database::fresh().await;
    let plain = |n: usize| lines(&[track(&format!("z{n}"), "u", "E", "2024-01-01", json!({}))]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(plain(1).as_bytes()).unwrap();
    let zst = zstd::encode_all(plain(2).as_bytes(), 1).unwrap();
    for (name, content) in [("a.jsonl.gz", gz.finish().unwrap()), ("without-a-hint", zst)] {
        assert_eq!(import_file(&database.pool, name, &content, None).await.0.accepted, 1, "{name}");
    }
}

#[tokio::test]
async fn a_table_is_imported_through_a_map_or_by_its_header() {
    let database = Database::fresh().await;
    let map = ColumnMap::parse("type=track, event='Order, Completed', userId=@customer, timestamp=@date, properties.revenue=@amount, properties.zip=@zip:text").unwrap();
    let (summary, refusals) = import_file(
        &database.pool,
        "orders.csv",
        b"customer,date,amount,zip\n17,2024-01-01,12.50,12345\n,2024-01-01,1,\n18,\"2024-01-02\",007,\n",
        Some(map),
    )
    .await;
    assert_eq!((summary.accepted, summary.refused), (2, 1));
    assert_eq!(refusals[0]["line"], 3);
    let header = b"type,userId,event,timestamp,properties.a.b\ntrack,19,E,2024-01-03,true\n";
    assert_eq!(import_file(&database.pool, "events.csv", header, None).await.0.accepted, 1);
    let properties: Vec<Value> = sqlx::query_scalar("select properties from events order by occurred_at")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(
        properties,
        [json!({"revenue": 12.50, "zip": "12345"}), json!({"revenue": "007"}), json!({"a": {"b": true}})]
    );
    let wrong = ColumnMap::parse("type=track, userId=@costumer").unwrap();
    let refused =
        Source::stream("orders.csv", Box::new(&b"customer,date\n"[..]), Reading::by(Some(wrong))).err().unwrap();
    assert!(refused.message.contains("no column `costumer`") && refused.help.unwrap().contains("`customer`"));
}

#[tokio::test]
async fn events_stand_in_partitions_of_their_month_and_odd_times_in_the_default_one() {
    let database = Database::fresh().await;
    sqlx::query("insert into event_names (name) values ('Old')").execute(&database.pool).await.unwrap();
    // As when the month's partition could not be made in time.
    sqlx::query("insert into events_default (profile_id, name_id, occurred_at, message_id) select 1, id, '1997-01-31 23:59Z', 'x' from event_names")
        .execute(&database.pool)
        .await
        .unwrap();
    let times = ["1971-01-01", "1997-01-01", "1997-01-31T23:59:59.999999Z", "1997-02-01", "2998-01-01"];
    let messages: Vec<Value> = times.iter().map(|at| track(at, "u", "E", at, json!({}))).collect();
    assert_eq!(import(&database.pool, &lines(&messages)).await.0.accepted, 5);
    let found: Vec<(String, i64)> =
        sqlx::query_as("select tableoid::regclass::text, count(*) from events group by 1 order by 1")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(found, [("events_default".into(), 2), ("events_y1997m01".into(), 3), ("events_y1997m02".into(), 1)]);
}
