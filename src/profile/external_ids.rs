//! Which identifiers does a message carry beside userId and anonymousId? From the fields where Segment looks for them. Pure.
//!
//! ```text
//!  identify              traits, context.traits        ┐
//!  track, page, screen   properties, context.traits    ├ email and the types of the configuration
//!  group                 context.traits                ┘
//!  all                   context.device, context.externalIds, Google Analytics' and Braze's ids
//! ```

use std::borrow::Cow;

use super::{
    json::{Members, digits_of, text_of},
    rules::Rules,
};
use crate::limits;
use serde_json::value::RawValue;

type Found = Vec<(Cow<'static, str>, String)>;

/// The identifiers that the rules allow, as (type, value), each once.
pub fn external_ids(kind: &str, properties: &Members, traits: &Members, context: &Members, rules: &Rules) -> Found {
    let mut found = Ids { rules, found: Vec::new() };
    let inside = context.get("traits").and_then(Members::of).unwrap_or_default();
    let own = match kind {
        "identify" => Some(traits),
        "track" | "page" | "screen" => Some(properties),
        _ => None,
    };
    for (kind, names) in rules.named() {
        for name in names {
            if let Some(own) = own {
                found.add(kind, own.get(name));
            }
            found.add(kind, inside.get(name));
        }
    }
    if let Some(device) = context.get("device").and_then(Members::of) {
        devices(&device, &mut found);
    }
    let google = context.get("integrations").and_then(Members::of).and_then(|all| all.get("Google Analytics"));
    found.add("ga_client_id", google.and_then(Members::of).and_then(|google| google.get("clientId")));
    let braze = context.get("Braze").and_then(Members::of).and_then(|braze| braze.get("braze_id"));
    found.add("braze_id", braze.or_else(|| context.get("braze_id")));
    if let Some(ids) = context.get("externalIds").and_then(|ids| serde_json::from_str::<Vec<Members>>(ids.get()).ok()) {
        ids.iter().for_each(|id| named(id, &mut found));
    }
    found.found
}

/// The advertising id of an Android device counts only where its owner allows to be tracked by it.
fn devices(device: &Members, found: &mut Ids) {
    let kind = device.get("type").and_then(text_of).map(|kind| kind.to_ascii_lowercase());
    match kind.as_deref() {
        Some("android") => {
            found.add("android.id", device.get("id"));
            if device.get("adTrackingEnabled").is_some_and(|enabled| enabled.get() == "true") {
                found.add("android.idfa", device.get("advertisingId"));
            }
            found.add("android.push_token", device.get("token"));
        }
        Some("ios") => {
            found.add("ios.id", device.get("id"));
            found.add("ios.idfa", device.get("advertisingId"));
            found.add("ios.push_token", device.get("token"));
        }
        _ => {}
    }
}

/// An entry of `context.externalIds`: all four fields, and a type in lower case, as Segment asks.
fn named(id: &Members, found: &mut Ids) {
    let text = |name| id.get(name).and_then(text_of);
    let (Some("users"), Some("none")) = (text("collection").as_deref(), text("encoding").as_deref()) else { return };
    let Some(kind) = text("type") else { return };
    let usable = !kind.is_empty() && kind.len() <= limits::IDENTIFIER_TYPE_BYTES && *kind == kind.to_lowercase();
    if usable {
        found.add(&kind, id.get("id"));
    }
}

struct Ids<'r> {
    rules: &'r Rules,
    found: Found,
}

impl Ids<'_> {
    /// Adds a value that people can be looked up by. Others are not worth refusing a message over: they stay a trait only.
    fn add(&mut self, kind: &str, raw: Option<&RawValue>) {
        let Some(raw) = raw else { return };
        let value = match text_of(raw) {
            Some(text) => text,
            None => match digits_of(raw) {
                Some(digits) => digits.into(),
                None => return,
            },
        };
        let value = match self.rules.normalized(kind, &value) {
            Cow::Borrowed(same) if same.len() == value.len() => value,
            normalized => Cow::Owned(normalized.into_owned()),
        };
        let fits = !value.is_empty() && value.chars().count() <= limits::IDENTIFIER_CHARS;
        let known = self.found.iter().any(|(other, old)| other == kind && **old == *value);
        if fits && !known && self.rules.allow(kind, &value) {
            self.found.push((kind.to_owned().into(), value.into_owned()));
        }
    }
}
