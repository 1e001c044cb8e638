//! Which names does the language have, and which one was meant?

use crate::audience::ast::Unit;

pub(super) const EXTRACTORS: &[&str] = &["event", "trait", "property", "context", "entity", "literal"];
pub(super) const FILTERS: &[&str] = &["where", "within", "between", "sources", "expires_after"];
pub(super) const REDUCERS: &[&str] = &["count", "sum", "avg", "min", "max", "mode", "first", "last", "unique"];
pub(super) const COMPARATORS: &[&str] = &[
    "equals",
    "differs",
    "greater_than",
    "at_least",
    "less_than",
    "at_most",
    "exists",
    "absent",
    "contains",
    "omits",
    "starts_with",
    "ends_with",
    "one_of",
    "none_of",
    "before_date",
    "after_date",
    "within_last",
    "within_next",
    "before_last",
    "after_next",
];
pub(super) const UNITS: &str = "second, minute, hour, day or week";

/// Today's name of a comparator of the language's first drafts.
pub(super) fn current(name: &str) -> &str {
    match name {
        "eq" => "equals",
        "neq" => "differs",
        "gt" => "greater_than",
        "gte" => "at_least",
        "lt" => "less_than",
        "lte" => "at_most",
        "is_null" => "absent",
        "is_set" => "exists",
        "contains_one" => "contains",
        name => name,
    }
}

pub(super) fn unit(word: &str) -> Option<Unit> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "second" => Unit::Second,
        "minute" => Unit::Minute,
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        _ => return None,
    })
}

/// The known name nearest to a misspelt one, if any is near enough to be meant.
pub fn nearest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}
