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
/// Paths of an event's context.
pub const CONTEXTS: &[&str] = &["timestamp", "page.url"];
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
    select(instants())
}

/// One person.
pub fn profile() -> impl Strategy<Value = Profile> {
    with_events(12)
}

/// One person who did nothing, or next to it.
pub fn profile_without_events() -> impl Strategy<Value = Profile> {
    with_events(2)
}

/// The value of a computed trait, or none: null is none.
pub fn computed_value() -> impl Strategy<Value = Option<Json>> {
    field(values().into_iter().filter(|value| !value.is_null()).collect())
}

fn with_events(fewer_than: usize) -> impl Strategy<Value = Profile> {
    let traits = (fields(&["plan", "score", "tags", "a.b"]), field(values()), field(dates()));
    let traits = traits.prop_map(|(mut traits, city, renews_at)| {
        traits.extend(city.map(|city| ("address".to_owned(), json!({ "city": city }))));
        traits.extend(renews_at.map(|at| ("renews_at".to_owned(), at)));
        Json::Object(traits)
    });
    let memberships = prop::collection::vec(any::<bool>(), AUDIENCES.len());
    (traits, prop::collection::vec(event(), 0..fewer_than), memberships).prop_map(
        |(traits, mut events, memberships)| {
            // Message ids are unique, and not in the order of time.
            for (n, event) in events.iter_mut().enumerate() {
                event.message_id = format!("m{}-{n}", event.message_id);
            }
            let memberships = AUDIENCES.iter().map(|key| key.to_string()).zip(memberships).collect::<BTreeMap<_, _>>();
            Profile { traits, events, memberships }
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let properties = (fields(&["revenue", "sku", "items", "$"]), field(values()), field(products()), field(dates()));
    let properties = properties.prop_map(|(mut properties, deep, products, at)| {
        properties.extend(deep.map(|deep| ("deep".to_owned(), json!({ "er": deep }))));
        properties.extend(products.map(|products| ("products".to_owned(), products)));
        properties.extend(at.map(|at| ("at".to_owned(), at)));
        Json::Object(properties)
    });
    let context = field(values()).prop_map(|url| url.map_or(json!({}), |url| json!({ "page": { "url": url } })));
    // The first one more often: definitions speak of it more often too.
    let name = select([&[EVENTS[0]; 3], EVENTS].concat());
    let source = select(SOURCES.iter().copied().map(Some).chain([None]).collect::<Vec<_>>());
    (name, instant(), 0..10u32, source, properties, context).prop_map(
        |(name, occurred_at, id, source, properties, context)| Event {
            name: name.to_owned(),
            occurred_at,
            message_id: id.to_string(),
            source_id: source.map(str::to_owned),
            properties,
            context,
        },
    )
}

/// A value out of a pool, or none. Pools instead of nested strategies: these make thousands of cases a second.
fn field(pool: Vec<Json>) -> impl Strategy<Value = Option<Json>> {
    let none = vec![None; pool.len() / 3];
    select(pool.into_iter().map(Some).chain(none).collect::<Vec<_>>())
}

/// An object that has each of these fields more often than not.
fn fields(names: &'static [&'static str]) -> impl Strategy<Value = serde_json::Map<String, Json>> {
    prop::collection::vec(field(values()), names.len()).prop_map(|values| {
        names.iter().zip(values).filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
    })
}

/// Whole units from [`now`], so that window edges are hit, and one microsecond beside them.
pub fn instants() -> Vec<DateTime<Utc>> {
    let mut instants = Vec::new();
    for unit in [1, 60, 3_600, 86_400, 604_800] {
        for amount in -5..3 {
            for beside in [0, 0, 0, 1, -1] {
                instants.push(now() + TimeDelta::seconds(amount * unit) + TimeDelta::microseconds(beside));
            }
        }
    }
    instants
}

/// Texts, the ordinary ones more often.
pub fn texts() -> Vec<&'static str> {
    let ordinary = ["pro", "true", "5", "2"].repeat(TEXTS.len() / 4);
    [TEXTS, &ordinary].concat()
}

/// Mostly dates.
fn dates() -> Vec<Json> {
    let dates = instants().into_iter().map(|at| Json::from(at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()));
    dates.chain(values()).collect()
}

fn products() -> Vec<Json> {
    let skus = |skus: &[Json]| skus.iter().map(|sku| json!({ "sku": sku })).collect::<Json>();
    let two = values().chunks(2).map(skus).collect::<Vec<_>>();
    two.into_iter().chain([json!([]), json!({ "sku": "pro" }), json!([5, { "sku": "5" }, {}])]).collect()
}

fn values() -> Vec<Json> {
    let numbers = [0.5, 1.25, -0.1, 2.0, 1e-7, 123456.789, 1e17].map(Json::from);
    let odd = [
        json!(true),
        json!(false),
        json!(true),
        json!(null),
        json!([]),
        json!(["pro"]),
        json!([1, 2, "5"]),
        json!(["true", null, ["pro"], {}]),
        json!([true, "Pro", 5]),
        json!([["pro"]]),
        json!([{ "er": 1 }]),
        json!({ "er": 1 }),
        json!({}),
    ];
    let whole = (-1..5).cycle().take(24).map(Json::from);
    numbers.into_iter().chain(odd).chain(whole).chain(texts().into_iter().map(Json::from)).collect()
}
