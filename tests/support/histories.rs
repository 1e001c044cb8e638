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
    let names: &'static [&'static str] = &["plan", "score", "tags", "a.b", "renews_at"];
    let traits = (prop::collection::btree_map(select(names), value(), 0..5), prop::option::of(value())).prop_map(
        |(traits, city)| {
            let mut traits: serde_json::Map<_, _> = traits.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            if let Some(city) = city {
                traits.insert("address".into(), json!({ "city": city }));
            }
            Json::Object(traits)
        },
    );
    let memberships = prop::collection::vec(any::<bool>(), AUDIENCES.len());
    (traits, prop::collection::vec(event(), 0..8), memberships).prop_map(|(traits, mut events, memberships)| {
        // Message ids are unique, and not in the order of time.
        for (n, event) in events.iter_mut().enumerate() {
            event.message_id = format!("m{}-{n}", event.message_id);
        }
        let memberships = AUDIENCES.iter().map(|key| key.to_string()).zip(memberships).collect::<BTreeMap<_, _>>();
        Profile { traits, events, memberships }
    })
}

/// Microseconds from [`now`]: whole units, so that window edges are hit, and one microsecond beside them.
fn offset() -> impl Strategy<Value = i64> {
    let unit = select(&[1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000, 604_800_000_000i64][..]);
    (-5..3i64, unit, select(&[0, 0, 0, 1, -1i64][..])).prop_map(|(amount, unit, beside)| amount * unit + beside)
}

fn event() -> impl Strategy<Value = Event> {
    let names: &'static [&'static str] = &["revenue", "sku", "items", "at", "$"];
    let properties = (
        prop::collection::btree_map(select(names), value(), 0..4),
        prop::option::of(value()),
        prop::option::of(prop::collection::vec(value(), 0..3)),
    )
        .prop_map(|(properties, deep, skus)| {
            let mut properties: serde_json::Map<_, _> =
                properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            if let Some(deep) = deep {
                properties.insert("deep".into(), json!({ "er": deep }));
            }
            if let Some(skus) = skus {
                properties.insert("products".into(), skus.into_iter().map(|sku| json!({ "sku": sku })).collect());
            }
            Json::Object(properties)
        });
    let context =
        prop::option::of(value()).prop_map(|url| url.map_or(json!({}), |url| json!({ "page": { "url": url } })));
    (select(EVENTS), offset(), 0..10u32, prop::option::of(select(SOURCES)), properties, context).prop_map(
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

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        3 => (-2..6i64).prop_map(Json::from),
        2 => select(&[0.5, 1.25, -0.1, 2.0, 1e-7, 123456.789, 1e17][..]).prop_map(Json::from),
        4 => select(TEXTS).prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
        2 => offset().prop_map(|micros| {
            Json::from((now() + TimeDelta::microseconds(micros)).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        }),
    ]
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        8 => scalar(),
        2 => prop::collection::vec(prop_oneof![6 => scalar(), 1 => Just(json!(["pro"])), 1 => Just(json!({}))], 0..4).prop_map(Json::from),
        1 => Just(json!({ "er": 1 })),
    ]
}
