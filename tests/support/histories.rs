//! Random people: traits, events and memberships, for every property test over them.
//!
//! Values are chosen to be troublesome: numbers as text, text that is nearly a number or a date, booleans and their
//! words, arrays, objects, null, absence, events at the very edges of windows, and events in the future.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use proptest::{prelude::*, sample::select};
use rollcall::audience::interpret::{Event, Profile};
use serde_json::{Value as Json, json};

/// Names of events.
pub const EVENTS: &[&str] = &["Order Completed", "Page Viewed", "Product Added"];
/// Paths of traits, as the language writes them; `·` stands for a dot that is part of a name.
pub const TRAITS: &[&str] = &["plan", "score", "address.city", "tags", "tags.$", "a·b", "renews_at", "unheard_of"];
/// Paths of properties.
pub const PATHS: &[&str] =
    &["revenue", "sku", "items", "items.$", "products.$.sku", "at", "deep.er", "$", "unheard_of"];
/// Keys of audiences, which have a membership in every profile.
pub const AUDIENCES: &[&str] = &["big_spenders", "lapsed"];
/// Source ids.
pub const SOURCES: &[&str] = &["web", "ios"];
/// Texts that values and literals share.
pub const TEXTS: &[&str] = &[
    "",
    "pro",
    "Pro",
    "true",
    "false",
    "5",
    "5.0",
    "5.",
    "-.5e1",
    " 5",
    "1e999",
    "0x1",
    "NaN",
    "2024-03-10",
    "2024-03-10T12:00:00Z",
    "2024-02-30",
    "2024-03-10 12:00:00.1234567+0130",
    "tr",
    "ü",
    "%",
    "_",
    "a'b\\c",
    "$",
];

const ORDINARY: &[&str] = &["pro", "true", "5", "2"];

/// The middle of all histories.
pub fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2024, 3, 10, 12, 0, 0).single().expect("a valid instant")
}

/// When to ask: at or around [`now`], often an exact edge.
pub fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    offset().prop_map(|micros| now() + TimeDelta::microseconds(micros))
}

/// One person.
pub fn profile() -> impl Strategy<Value = Profile> {
    let traits = (object(&["plan", "score", "tags", "a.b"]), prop::option::of(value()), prop::option::of(dated()));
    let traits = traits.prop_map(|(mut traits, city, renews_at)| {
        traits.extend(city.map(|city| ("address".to_owned(), json!({ "city": city }))));
        traits.extend(renews_at.map(|at| ("renews_at".to_owned(), at)));
        Json::Object(traits)
    });
    let memberships = prop::collection::vec(any::<bool>(), AUDIENCES.len());
    (traits, prop::collection::vec(event(), 0..12), memberships).prop_map(|(traits, mut events, memberships)| {
        // Message ids are unique, and not in the order of time.
        for (n, event) in events.iter_mut().enumerate() {
            event.message_id = format!("m{}-{n}", event.message_id);
        }
        let memberships = AUDIENCES.iter().map(|key| key.to_string()).zip(memberships).collect::<BTreeMap<_, _>>();
        Profile { traits, events, memberships }
    })
}

/// An object that has each of these fields more often than not.
fn object(names: &'static [&'static str]) -> impl Strategy<Value = serde_json::Map<String, Json>> {
    prop::collection::vec(prop::option::weighted(0.7, value()), names.len()).prop_map(|values| {
        names.iter().zip(values).filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
    })
}

/// Microseconds from [`now`]: whole units, so that window edges are hit, and one microsecond beside them.
fn offset() -> impl Strategy<Value = i64> {
    let unit = select(&[1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000, 604_800_000_000i64][..]);
    (-5..3i64, unit, select(&[0, 0, 0, 1, -1i64][..])).prop_map(|(amount, unit, beside)| amount * unit + beside)
}

fn event() -> impl Strategy<Value = Event> {
    let skus = prop::option::of(prop::collection::vec(value(), 0..3));
    let properties =
        (object(&["revenue", "sku", "items", "$"]), prop::option::of(value()), skus, prop::option::of(dated()));
    let properties = properties.prop_map(|(mut properties, deep, skus, at)| {
        properties.extend(deep.map(|deep| ("deep".to_owned(), json!({ "er": deep }))));
        let products = skus.map(|skus| skus.into_iter().map(|sku| json!({ "sku": sku })).collect::<Json>());
        properties.extend(products.map(|products| ("products".to_owned(), products)));
        properties.extend(at.map(|at| ("at".to_owned(), at)));
        Json::Object(properties)
    });
    let context =
        prop::option::of(value()).prop_map(|url| url.map_or(json!({}), |url| json!({ "page": { "url": url } })));
    let name = prop_oneof![3 => Just(EVENTS[0]), 1 => select(EVENTS)];
    (name, offset(), 0..10u32, prop::option::of(select(SOURCES)), properties, context).prop_map(
        |(name, micros, id, source, properties, context)| Event {
            name: name.to_owned(),
            occurred_at: now() + TimeDelta::microseconds(micros),
            message_id: id.to_string(),
            source_id: source.map(str::to_owned),
            properties,
            context,
        },
    )
}

/// A text of [`TEXTS`], the ordinary ones more often.
pub fn text() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![1 => select(ORDINARY), 1 => select(TEXTS)]
}

/// Mostly a date.
fn dated() -> impl Strategy<Value = Json> {
    let date = offset().prop_map(|micros| {
        Json::from((now() + TimeDelta::microseconds(micros)).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
    });
    prop_oneof![4 => date, 1 => value()]
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => (-1..5i64).prop_map(Json::from),
        2 => select(&[0.5, 1.25, -0.1, 2.0, 1e-7, 123456.789, 1e17][..]).prop_map(Json::from),
        5 => text().prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
    ]
}

fn value() -> impl Strategy<Value = Json> {
    let entry = prop_oneof![6 => scalar(), 1 => Just(json!(["pro"])), 1 => Just(json!({}))];
    prop_oneof![
        8 => scalar(),
        2 => prop::collection::vec(entry, 0..4).prop_map(Json::from),
        1 => Just(json!({ "er": 1 })),
    ]
}
