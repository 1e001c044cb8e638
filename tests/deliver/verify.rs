//! `rollcall verify` finds every way in which a topic and the log can differ, and nothing where they do not.

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rollcall::{
    config::Delivery,
    deliver::{
        Session, Target, unhalt,
        verify::{Kind, Report},
    },
    mapping::Mapping,
    membership::diff,
};
use serde_json::json;

use super::{Stage, fields, with};
use crate::support::{
    kafka::{self, PATIENCE, Received},
    verify::{look, verified},
};

/// Sixty people who entered, of whom ten left again.
async fn told() -> Stage {
    let stage = Stage::new(60, 3).await;
    stage.seal(1..=60, []).await;
    stage.seal([], 11..=20).await;
    stage.deliver().await.unwrap();
    stage
}

/// Kinds that were found, with how many.
fn kinds(report: &Report) -> Vec<(Kind, u64)> {
    report.counts.iter().map(|(kind, count)| (*kind, *count)).collect()
}

/// Writes records to the stage's topic, headers and all.
fn write(stage: &Stage, records: &[Received]) {
    let producer: BaseProducer = kafka::config(&stage.broker).create().unwrap();
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut copy = BaseRecord::to(&stage.topic).partition(record.partition).headers(headers);
        copy = copy.key(record.key.as_deref().unwrap_or_default());
        copy = copy.payload(record.value.as_deref().unwrap_or_default());
        producer.send(copy).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The topic deleted and made again with these records, as if it were the one that was told to.
async fn rewritten(stage: &Stage, records: &[Received]) {
    rewritten_with(stage, records, &[]).await;
}

async fn rewritten_with(stage: &Stage, records: &[Received], settings: &[(&str, &str)]) {
    kafka::delete_topic(&stage.broker, &stage.topic);
    kafka::create_topic(&stage.broker, &stage.topic, 3, settings);
    sqlx::query("delete from delivery_topics where topic = $1").bind(&stage.topic).execute(stage.pool()).await.unwrap();
    write(stage, records);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_is_what_the_database_says() {
    let stage = told().await;
    let report = verified(stage.pool(), &stage.target()).await;
    assert_eq!((report.records, report.lanes[0].seen, report.audiences[0].told), (70, 70, 50));
    assert_eq!((report.lanes[0].cursor.0, report.unseen.len()), (70, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_lost_repeated_or_out_of_order_is_found() {
    let stage = told().await;
    let records = kafka::read_committed(&stage.broker, &stage.topic);
    let lost = &records[7];
    rewritten(&stage, &[&records[..7], &records[8..]].concat()).await;
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Missing, 1)]);
    let difference = &report.differences[0];
    assert_eq!(difference.position.unwrap().0.to_string(), lost.header("rollcall-position").unwrap());
    assert_eq!(difference.person.as_deref().map(str::as_bytes), lost.key.as_deref());

    write(&stage, std::slice::from_ref(lost));
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Order, 1)], "what was lost comes too late");
    write(&stage, &[records.last().unwrap().clone()]);
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Repeated, 1), (Kind::Order, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_somebody_else_is_named() {
    let stage = told().await;
    let record = Received { headers: vec![], ..kafka::read_committed(&stage.broker, &stage.topic)[0].clone() };
    write(&stage, &[record]);
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Stranger, 1)]);
    assert_eq!((report.topics[0].strangers, report.differences[0].topic.as_ref()), (1, Some(&stage.topic)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_of_a_record_is_found_wherever_it_is() {
    let stage = told().await;
    let records = kafka::read_committed(&stage.broker, &stage.topic);
    let length = records[0].value.as_ref().unwrap().len();
    let bits: Vec<usize> = (0..10).map(|n| n * length * 8 / 10 + n).collect();
    println!("bits {bits:?} of {length} bytes");
    let flipped = |record: &Received, bit: usize| {
        let mut record = record.clone();
        record.value.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
        record
    };
    let changed: Vec<Received> = bits.iter().zip(&records).map(|(bit, record)| flipped(record, *bit)).collect();
    rewritten(&stage, &[&changed[..], &records[bits.len()..]].concat()).await;
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(report.counts[&Kind::Changed], bits.len() as u64, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_says_another_thing_or_names_another_person_is_found_whatever_its_checksum() {
    let stage = told().await;
    let mut records = kafka::read_committed(&stage.broker, &stage.topic);
    let change = |record: &mut Received, from: &str, to: &str| {
        let value = String::from_utf8(record.value.take().unwrap()).unwrap();
        assert!(value.contains(from), "{value}");
        record.value = Some(value.replace(from, to).into_bytes());
        record.headers.retain(|(name, _)| name != "rollcall-crc32");
    };
    change(&mut records[0], "\"big_spenders\":true", "\"big_spenders\":false");
    let user = format!("\"userId\":\"{}\"", std::str::from_utf8(records[1].key.as_ref().unwrap()).unwrap());
    change(&mut records[1], &user, "\"userId\":\"u4711\"");
    rewritten(&stage, &records).await;
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Says, 1), (Kind::Person, 1)]);
    assert_eq!(report.topics[0].unchecked, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_of_a_run_or_of_what_was_told_is_found() {
    let stage = told().await;
    let flip = async |table: &str, column: &str, bytes: &[u8]| {
        let sql = format!("update {table} set {column} = $1");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(bytes).execute(stage.pool()).await.unwrap();
    };
    let told: Vec<u8> = sqlx::query_scalar("select members from told").fetch_one(stage.pool()).await.unwrap();
    let members = diff::decode(&told).unwrap();
    let mut other = members.clone();
    other.remove(5);
    other.insert(61);
    flip("told", "members", &diff::encode(&other)).await;
    let report = look(stage.pool(), &stage.target()).await;
    assert_eq!(kinds(&report), [(Kind::Told, 2)]);
    let people: Vec<_> = report.differences.iter().map(|difference| difference.profile.unwrap()).collect();
    assert_eq!((people, report.differences[0].person.as_deref()), (vec![5, 61], Some("u5")));
    flip("told", "members", &told).await;

    let entered: Vec<u8> =
        sqlx::query_scalar("select entered from runs where id = 1").fetch_one(stage.pool()).await.unwrap();
    for bit in (0..entered.len() * 8).step_by(7) {
        let mut changed = entered.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        flip("runs", "entered", &changed).await;
        let report = look(stage.pool(), &stage.target()).await;
        assert!(report.counts.contains_key(&Kind::Chain), "bit {bit}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_a_mapping_that_drops_and_people_without_a_name_are_accounted_for() {
    let stage = Stage::new(60, 3).await;
    stage.give((5..=60).step_by(10), json!({"partition": "not a number"})).await;
    sqlx::query("delete from identifiers where profile_id = 2").execute(stage.pool()).await.unwrap();
    let fields = with(fields(&stage.topic), "partition", json!({"@path": "$.traits.partition"}));
    let picky = json!({"name": "picky", "subscribe": "userId != \"u1\"", "mapping": fields});
    let picky = Mapping::compile("picky", &serde_json::from_value(picky).unwrap()).unwrap();
    let target = stage.target_with(vec![picky]);
    stage.seal(1..=60, []).await;
    Session::start(stage.pool().clone(), target.clone()).await.unwrap().deliver(&|_| true).await.unwrap();
    let report = verified(stage.pool(), &target).await;
    let lane = &report.lanes[0];
    assert_eq!((lane.seen, lane.quarantined, lane.without_record), (52, 6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_and_what_is_not_told_yet_are_no_differences() {
    let stage = told().await;
    unhalt::start_over(stage.pool(), stage.destination).await.unwrap();
    let report = verified(stage.pool(), &stage.target()).await;
    assert_eq!((report.topics[0].earlier, report.lanes[0].seen), (70, 0));
    stage.deliver().await.unwrap();
    stage.seal(11..=20, []).await;
    let report = verified(stage.pool(), &stage.target()).await;
    assert_eq!((report.topics[0].earlier, report.lanes[0].seen, report.lanes[0].end.0), (70, 70, 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_out_of_sight_and_not_missing() {
    let stage = told().await;
    let records = kafka::read_committed(&stage.broker, &stage.topic);
    let of_first: Vec<&Received> = records.iter().filter(|record| record.partition == 0).collect();
    let upto = of_first[of_first.len() / 2].offset;
    kafka::delete_records(&stage.broker, &stage.topic, 0, upto);
    let report = verified(stage.pool(), &stage.target()).await;
    assert_eq!(report.lanes[0].out_of_sight, of_first.iter().filter(|record| record.offset < upto).count() as u64);
    // That it is not read whole, and so not held against what counts as told.
    assert_eq!(report.unseen.len(), 2, "{:?}", report.unseen);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_may_take_what_a_later_record_of_the_key_replaces_and_nothing_else() {
    let stage = told().await;
    let records = kafka::read_committed(&stage.broker, &stage.topic);
    // What compaction leaves: of each key the last record.
    let mut left: Vec<Received> = Vec::new();
    for record in &records {
        left.retain(|earlier| earlier.key != record.key);
        left.push(record.clone());
    }
    let compacted = [("cleanup.policy", "compact")];
    rewritten_with(&stage, &left, &compacted).await;
    let report = verified(stage.pool(), &stage.target()).await;
    assert_eq!((report.lanes[0].seen, report.lanes[0].out_of_sight), (60, 10));
    let lost = left.pop().unwrap();
    rewritten_with(&stage, &left, &compacted).await;
    let report = look(stage.pool(), &stage.target()).await;
    let missing: Vec<_> = report.differences.iter().map(|difference| difference.person.as_deref().unwrap()).collect();
    assert!(
        !missing.is_empty() && missing.iter().all(|person| Some(person.as_bytes()) == lost.key.as_deref()),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_may_tell_again_and_may_not_leave_out() {
    let stage = Stage::new(60, 3).await;
    stage.seal(1..=60, []).await;
    let target = Target { delivery: Delivery::AtLeastOnce, ..stage.target() };
    Session::start(stage.pool().clone(), target.clone()).await.unwrap().deliver(&|_| true).await.unwrap();
    let records = kafka::read_committed(&stage.broker, &stage.topic);
    write(&stage, &records[..5]);
    verified(stage.pool(), &target).await;
    rewritten(&stage, &records[1..]).await;
    assert_eq!(kinds(&look(stage.pool(), &target).await), [(Kind::Missing, 1)]);
}
