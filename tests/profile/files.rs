//! Files as people bring them: line ends, quotes, delimiters, headers, lists and batches, encodings, names.

use std::{io::Cursor, path::Path};

use proptest::prelude::*;
use rollcall::profile::{
    Body, Defaults, Message, Refusal,
    csv::ColumnMap,
    source::{Format, Reading, Source},
};
use serde_json::{Value, json};

use super::{count, import_file, import_with};
use crate::support::postgres::Database;

fn defaults() -> Defaults {
    let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Defaults { now, is_arrival: false, place: None, source_id: None, rules: Default::default() }
}

/// What a file of that name holds: its messages, and what of it is refused.
fn read(name: &str, content: &[u8]) -> (Vec<Message>, Vec<Refusal>) {
    read_by(name, content, Reading::default(), 0)
}

fn read_by(name: &str, content: &[u8], reading: Reading, after: u64) -> (Vec<Message>, Vec<Refusal>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let (mut messages, mut refusals) = (Vec::new(), Vec::new());
    let source = Source::open(&path, reading).unwrap_or_else(|error| panic!("{name}: {error} {:?}", error.help));
    let keep = |batch: rollcall::profile::source::Batch| {
        messages.extend(batch.messages);
        refusals.extend(batch.refusals);
        true
    };
    source.read(after, 2, &defaults(), keep).unwrap();
    (messages, refusals)
}

fn refused(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let error = Source::open(&path, Reading::default()).err().unwrap_or_else(|| panic!("{name} is refused"));
    format!("{} {}", error.message, error.help.unwrap_or_default())
}

fn users(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(|message| message.user_id.as_deref()).collect()
}

fn properties(message: &Message) -> Value {
    let Body::Event { properties, .. } = &message.body else { panic!("an event") };
    serde_json::from_str(properties).unwrap()
}

fn places(refusals: &[Refusal]) -> Vec<(u64, &str)> {
    refusals.iter().map(|refusal| (refusal.line, refusal.reason.as_str())).collect()
}

#[tokio::test]
async fn lines_that_end_with_cr_lose_no_row() {
    let database = Database::fresh().await;
    let cr = b"type,userId,event,timestamp\rtrack,a,E,2024-05-01\rtrack,b,E,2024-05-01\r";
    let (summary, _) = import_file(&database.pool, "cr.csv", cr, None).await;
    assert_eq!((summary.accepted, summary.refused, summary.line), (2, 0, 3));
    // The same rows with other line ends are the same messages.
    let mixed = b"type,userId,event,timestamp\r\ntrack,a,E,2024-05-01\ntrack,b,E,2024-05-01\rtrack,c,E,2024-05-01";
    let (summary, _) = import_file(&database.pool, "mixed.csv", mixed, None).await;
    assert_eq!((summary.accepted, summary.repeated), (1, 2));
    assert_eq!(count(&database.pool, "select count(*) from events").await, 3);
    let json = b"{\"type\":\"track\",\"userId\":\"a\",\"event\":\"F\"}\r{\"type\":\"track\",\"userId\":\"b\",\"event\":\"F\"}\r";
    let (messages, refusals) = read("cr.jsonl", json);
    assert_eq!((users(&messages), refusals.len()), (vec!["a", "b"], 0));
    assert_eq!(messages.iter().map(|message| message.line).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_quote_that_never_ends_costs_its_own_line() {
    let content = "type,userId,event\ntrack,1,E\ntrack,2,E\ntrack,3,\"unclosed\ntrack,4,E\ntrack,5,\"F, G\"\ntrack,6,E\ntrack,7,E\n";
    let (messages, refusals) = read("x.csv", content.as_bytes());
    assert_eq!(users(&messages), ["1", "2", "4", "5", "6", "7"]);
    let [(4, reason)] = places(&refusals)[..] else { panic!("{refusals:?}") };
    assert!(reason.contains("never closed") || reason.contains("closing quote"), "{reason}");
    // With nothing behind it that would close it, either.
    let mut long = b"type,userId,event\ntrack,1,\"E\n".to_vec();
    (2..20_000).for_each(|n| long.extend(format!("track,{n},E\n").bytes()));
    let (messages, refusals) = read("x.csv", &long);
    assert_eq!((messages.len(), refusals.len(), refusals[0].line), (19_998, 1, 2));
}

#[test]
fn a_cell_may_hold_line_ends_quotes_and_spaces_within_quotes() {
    let content = "type,userId,event,properties.note\ntrack,1,E,\" two\r\nlines, \"\"said\"\" \"\ntrack,2,E,  trimmed \ntrack,3,\"E\" ,5\" pipe\n";
    let (messages, refusals) = read("x.csv", content.as_bytes());
    assert_eq!(refusals, []);
    let notes: Vec<Value> = messages.iter().map(|message| properties(message)["note"].clone()).collect();
    assert_eq!(notes, [json!(" two\r\nlines, \"said\" "), json!("trimmed"), json!("5\" pipe")]);
    assert_eq!(messages.iter().map(|message| message.line).collect::<Vec<_>>(), [2, 4, 5]);
}

#[test]
fn a_row_with_another_number_of_cells_is_refused_with_both_counts() {
    let content = "type,userId,event,timestamp,properties.revenue,properties.tax\ntrack,1,E,2024-01-01,1,000,2\ntrack,2,E,2024-01-01,5\ntrack,3,E,2024-01-01,5,1\n";
    let (messages, refusals) = read("x.csv", content.as_bytes());
    assert_eq!(users(&messages), ["3"]);
    assert_eq!(places(&refusals), [(2, "has 7 cells, the header has 6"), (3, "has 5 cells, the header has 6")]);
    let short = Reading { short_rows: true, ..Reading::default() };
    let (messages, refusals) = read_by("x.csv", content.as_bytes(), short, 0);
    assert_eq!((users(&messages), refusals.len()), (vec!["2", "3"], 1));
    assert_eq!(properties(&messages[0]), json!({"revenue": 5}));
}

#[test]
fn delimiters_are_recognised_or_said() {
    for content in [
        "type;userId;event;properties.a\ntrack;1;E;x,y\n",
        "type\tuserId\tevent\tproperties.a\ntrack\t1\tE\tx,y\n",
        "type|userId|event|properties.a\ntrack|1|E|x,y\n",
        "sep=;\r\ntype;userId;event;properties.a\r\ntrack;1;E;x,y\r\n",
        "\"sep=;\"\r\ntype;userId;event;properties.a\r\ntrack;1;E;x,y\r\n",
        "\u{feff}\u{feff}type;userId;event;properties.a\ntrack;1;E;x,y\n",
        "\u{feff}\"type\";\"userId\";\"event\";\"properties.a\"\n\"track\";1;E;x,y\n",
    ] {
        let (messages, refusals) = read("x.csv", content.as_bytes());
        assert_eq!((users(&messages), refusals.len()), (vec!["1"], 0), "{content}");
        assert_eq!(properties(&messages[0]), json!({"a": "x,y"}));
    }
    let said = Reading { delimiter: Some(b'^'), ..Reading::default() };
    assert_eq!(users(&read_by("x.csv", b"type^userId^event\ntrack^1^E\n", said, 0).0), ["1"]);
    let map = ColumnMap::parse("type=track, event=E, userId=@customer, properties.a=@b").unwrap();
    let mapped = Reading::by(Some(map));
    assert_eq!(users(&read_by("x.txt", b"customer;b\n17;1,5\n", mapped, 0).0), ["17"]);
}

#[test]
fn a_header_that_cannot_be_right_says_so_once() {
    for (header, parts) in [
        ("Type,UserId,event", vec!["did you mean `type`?", "did you mean `userId`?"]),
        ("type,userId,property.revenue", vec!["`property.revenue` is not a field; did you mean `properties.revenue`?"]),
        ("type,userId,timestmap", vec!["did you mean `timestamp`?"]),
        ("type,userId,event,event", vec!["columns 3 and 4 are both called `event`"]),
        ("customer,amount", vec!["no column `type`", "neither `userId` nor `anonymousId`", "`customer`, `amount`"]),
        ("type,user_id,event", vec!["did you mean `userId`?"]),
        ("", vec!["is empty"]),
    ] {
        let said = refused(
            "x.csv",
            format!("{header}\ntrack,1,2\n")
                .trim_start()
                .replace("track,1,2\n", if header.is_empty() { "" } else { "track,1,2\n" })
                .as_bytes(),
        );
        for part in parts {
            assert!(said.contains(part), "{header}: {said}");
        }
    }
    let twice = ColumnMap::parse("type=track, event=E, userId=@id").unwrap();
    let error = Source::stream("x.csv", Box::new(&b"id,id\n1,2\n"[..]), Reading::by(Some(twice))).err().unwrap();
    assert!(error.message.contains("columns 1 and 2 are both called `id`"), "{}", error.message);
    let error = ColumnMap::parse("type=track, userID=@id, propertys.a=@b").unwrap_err();
    assert!(
        error.message.contains("did you mean `userId`?") && error.message.contains("did you mean `properties.a`?"),
        "{}",
        error.message
    );
}

#[test]
fn messages_may_stand_in_lists_batches_and_over_several_lines() {
    let one = |user: &str| json!({"type": "track", "userId": user, "event": "E", "properties": {"a": ["{", "]"]}});
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    let all: Vec<Value> = ["a", "b", "c"].map(one).to_vec();
    let list = Value::from(all.clone());
    for content in [
        list.to_string(),
        pretty(&list),
        all.iter().map(pretty).collect::<Vec<_>>().join("\n"),
        json!({"sentAt": "2024-01-01", "batch": all, "writeKey": "k"}).to_string(),
        pretty(&json!({"batch": all, "context": {"x": [1]}})),
        format!("{}\n{}\n", json!({"batch": all[..2]}), json!({"batch": all[2..]})),
        all.iter().map(|value| format!("{value},\r\n")).collect(),
        format!("\u{feff}{list}"),
    ] {
        let (messages, refusals) = read("x.json", content.as_bytes());
        assert_eq!((users(&messages), refusals.len()), (vec!["a", "b", "c"], 0), "{content}");
        for after in 0..=3 {
            let rest = read_by("x.json", content.as_bytes(), Reading::default(), after).0;
            assert_eq!(rest, messages[after as usize..], "{content}");
        }
    }
}

#[test]
fn what_is_broken_in_json_costs_itself() {
    let good = |user: &str| json!({"type": "track", "userId": user, "event": "E"}).to_string();
    let (a, b) = (good("a"), good("b"));
    for (content, lines) in [
        (format!("{a}\n{{\"type\":\"track\",\"userId\":\"cut off\n{b}\n"), vec![2]),
        (format!("{a}\n{{\"type\":\"track\",\n{b}\n"), vec![2]),
        (format!("{a}\n{{\"type\":\"track\",\"properties\":{{\"a\":1\n{b}\n"), vec![2]),
        (format!("{a}\nnonsense\n\n{b} rest\n{b}\n"), vec![2, 4]),
        (format!("[{a},{{\"n\":NaN}},7,{b}]"), vec![1, 1]),
        (format!("[\n{a},\n{{\"type\": \"tra\nck\"}},\n{b}\n]"), vec![3, 4]),
        (format!("[{a},\n{b},\n"), vec![1]),
        (format!("[{a},{{\"x\":\"{}\"}},{b}]", "y".repeat(300_000)), vec![1]),
        (format!("{a}\n{{\"x\":\"{}\"}}\n{b}\n", "y".repeat(300_000)), vec![2]),
        (format!("{a}\n{{\"x\":\"{}\"}}\n{b}\n", "y".repeat(40_000)), vec![2]),
    ] {
        let (messages, refusals) = read("x.jsonl", content.as_bytes());
        let found: Vec<u64> = refusals.iter().map(|refusal| refusal.line).collect();
        assert_eq!((users(&messages), found), (vec!["a", "b"], lines), "{content:.200} {refusals:?}");
    }
}

#[test]
fn other_encodings_are_named() {
    let wide: Vec<u8> = "\u{feff}type,userId\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    // With its mark, and without.
    for wide in [&wide[..], &wide[2..]] {
        let said = refused("x.csv", wide);
        assert!(said.contains("is UTF-16") && said.contains("iconv"), "{said}");
    }
    let (messages, refusals) = read("x.csv", b"type,userId,event,properties.a\ntrack,1,E,caf\xe9\ntrack,2,E,cafe\n");
    assert_eq!(users(&messages), ["2"]);
    assert!(refusals[0].line == 2 && refusals[0].reason.contains("Latin-1"), "{refusals:?}");
    let (messages, refusals) =
        read("x.jsonl", b"{\"type\":\"track\",\"userId\":\"caf\xe9\",\"event\":\"E\"}\n{\"type\":\"track\",\"userId\":\"2\",\"event\":\"E\"}\n");
    assert_eq!(users(&messages), ["2"]);
    assert!(refusals[0].reason.contains("Latin-1"), "{refusals:?}");
}

#[test]
fn a_format_that_is_said_has_the_last_word() {
    let table = b"type,userId,event\ntrack,1,E\n";
    for name in ["ORDERS.CSV", "orders.tsv.csv", "a.Csv"] {
        assert_eq!(users(&read(name, table).0), ["1"], "{name}");
    }
    let said = |format| Reading { format: Some(format), ..Reading::default() };
    assert_eq!(users(&read_by("x.dat", table, said(Format::Csv), 0).0), ["1"]);
    let line = br#"{"type":"track","userId":"1","event":"E"}"#;
    assert_eq!(users(&read_by("x.csv", line, said(Format::Json), 0).0), ["1"]);
    assert_eq!(Format::of(Path::new("old.tsv.d/x")), Format::Json);
    let source = Source::stream("-", Box::new(Cursor::new(table)), said(Format::Csv)).unwrap();
    let mut messages = Vec::new();
    source
        .read(0, 10, &defaults(), |batch| {
            messages.extend(batch.messages);
            true
        })
        .unwrap();
    assert_eq!(users(&messages), ["1"]);
}

#[test]
fn cells_are_what_they_look_like() {
    let content = "type,userId,event,timestamp,properties.a,properties.b,properties.c,properties.d\n\
                   track,1,E,1685923200,TRUE,False,-0,007\ntrack,2,E,1685923200000,\"true\",-1.5,-0.0,1234567890123456\n";
    let (messages, refusals) = read("x.csv", content.as_bytes());
    assert_eq!(refusals, []);
    assert_eq!(properties(&messages[0]), json!({"a": true, "b": false, "c": 0, "d": "007"}));
    assert_eq!(properties(&messages[1]), json!({"a": true, "b": -1.5, "c": 0.0, "d": "1234567890123456"}));
    assert!(messages.iter().all(|message| message.occurred_at.timestamp() == 1_685_923_200));
}

#[tokio::test]
async fn the_same_content_in_another_file_or_form_counts_once_and_repeats_within_a_file_count() {
    let database = Database::fresh().await;
    let rows = "track,a,E,2024-05-01\ntrack,a,E,2024-05-01\ntrack,b,E,2024-05-01\n";
    let content = format!("type,userId,event,timestamp\n{rows}");
    let stored = async |name: &str, content: &[u8]| {
        let (summary, _) = import_file(&database.pool, name, content, None).await;
        (summary.accepted, summary.repeated)
    };
    assert_eq!(stored("x.csv", content.as_bytes()).await, (3, 0));
    assert_eq!(stored("crlf.csv", content.replace('\n', "\r\n").as_bytes()).await, (0, 3));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, content.as_bytes()).unwrap();
    assert_eq!(stored("x.csv.gz", &gz.finish().unwrap()).await, (0, 3));
    // Appended to: what is new is new, also a third of the same.
    let appended = format!("{content}track,c,E,2024-05-01\ntrack,a,E,2024-05-01\n");
    assert_eq!(stored("x.csv", appended.as_bytes()).await, (2, 3));
    let lines = |spaces: &str| {
        let line =
            |user: &str| format!("{{{spaces}\"type\":\"track\",\"userId\":\"{user}\",{spaces}\"event\":\"J\"}}\n");
        [line("a"), line("a"), line("b")].concat()
    };
    assert_eq!(stored("x.jsonl", lines("").as_bytes()).await, (3, 0));
    assert_eq!(stored("y.jsonl", lines("  ").as_bytes()).await, (0, 3));
}

#[tokio::test]
async fn a_time_that_cannot_be_read_gives_way_to_the_arrival_and_is_counted() {
    let database = Database::fresh().await;
    let line =
        |user: &str, times: &str| format!("{{\"type\":\"track\",\"userId\":\"{user}\",\"event\":\"E\",{times}}}\n");
    let content = [
        line("a", r#""timestamp":"yesterday","receivedAt":"2024-05-01T00:00:00Z","sentAt":"2023-01-01""#),
        line("b", r#""timestamp":"2024-05-01T10:20:27.029:Z""#),
        line("c", r#""timestamp":"never""#),
    ];
    let (summary, refusals) =
        import_with(&database.pool, "x.jsonl", content.concat().as_bytes(), Reading::default()).await;
    assert_eq!((summary.accepted, summary.refused, summary.misdated), (2, 1, 1), "{refusals:?}");
    let times: Vec<String> = sqlx::query_scalar("select occurred_at::text from events order by occurred_at")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert!(
        times[0].starts_with("2024-05-01 00:00:00") && times[1].starts_with("2024-05-01 10:20:27.029"),
        "{times:?}"
    );
}

/// A slow reader of the same rules: rows of (cells) or nothing where a line is refused, blank lines left out.
fn naive(text: &str, width: usize) -> Vec<Option<Vec<String>>> {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = lines.split('\n').collect();
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        if lines[at].is_empty() {
            at += 1;
            continue;
        }
        let fits = |last: usize| {
            let cells = cells(&lines[at..=last].join("\n"))?;
            (last == at || cells.len() == width).then_some((last, cells))
        };
        // The fewest lines that are whole.
        let whole = (at..lines.len()).find(|last| cells(&lines[at..=*last].join("\n")).is_some());
        match whole.and_then(fits) {
            Some((last, cells)) => {
                rows.push((cells.len() == width).then_some(cells));
                at = last + 1;
            }
            None => {
                rows.push(None);
                at += 1;
            }
        }
    }
    rows
}

fn cells(text: &str) -> Option<Vec<String>> {
    let (mut cells, mut rest) = (Vec::new(), text);
    loop {
        let cell = if let Some(inside) = rest.strip_prefix('"') {
            let doubled = inside.replace("\"\"", "\u{1}\u{1}");
            let end = doubled.find('"')?;
            rest = inside[end + 1..].trim_start_matches(' ');
            inside[..end].replace("\"\"", "\"")
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let cell = &rest[..end];
            rest = &rest[end..];
            if cell.contains('\n') {
                return None;
            }
            cell.to_owned()
        };
        cells.push(cell);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.is_empty().then_some(cells),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_lost_whatever_the_bytes_and_a_stopped_import_goes_on_the_same(
        parts in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n", "\"", "\"\"", ",", "a", "track,u,E", "\"x\"", " ", "7"]), 0..40)
    ) {
        let body = parts.concat();
        let content = format!("type,userId,event\n{body}");
        let rows = naive(&body, 3);
        let (messages, refusals) = read("x.csv", content.as_bytes());
        prop_assert_eq!(messages.len() + refusals.len(), rows.len(), "{:?} {:?}", content, refusals);
        let whole = rows.iter().filter(|row| row.as_ref().is_some_and(|cells| {
            let said = |n: usize| !cells[n].trim().is_empty();
            cells[0].trim() == "track" && said(1) && said(2)
        })).count();
        prop_assert_eq!(messages.len(), whole, "{:?} {:?}", content, refusals);
        let digests: std::collections::HashSet<_> = messages.iter().map(|message| message.digest).collect();
        prop_assert_eq!(digests.len(), messages.len(), "each message counts: {:?}", content);
        let all = rows.len() as u64;
        for after in [all / 3, all / 2, all] {
            let (rest, _) = read_by("x.csv", content.as_bytes(), Reading::default(), after);
            prop_assert_eq!(&rest[..], &messages[messages.len() - rest.len()..]);
            let (_, again) = read_by("x.csv", content.as_bytes(), Reading::default(), 0);
            prop_assert_eq!(again.len(), refusals.len());
        }
    }
}
