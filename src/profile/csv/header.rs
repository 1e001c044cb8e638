//! Can this header be right? Every column that cannot be what it is called is named at once, with what is probably meant.
//!
//! Pure. A column that resembles nothing is left out, which is told, too.

use std::collections::HashMap;

use strsim::osa_distance;

use crate::{Error, Result};

/// The fields of a message, and the objects whose members are reached as `properties.revenue`.
const FIELDS: [&str; 16] = [
    "type",
    "messageId",
    "userId",
    "anonymousId",
    "timestamp",
    "originalTimestamp",
    "sentAt",
    "receivedAt",
    "event",
    "name",
    "category",
    "groupId",
    "previousId",
    "sourceId",
    "projectId",
    "version",
];
const OBJECTS: [&str; 4] = ["properties", "traits", "context", "integrations"];
/// What people call the objects, beside what resembles them.
const OBJECTS_TOO: [(&str, &str); 5] = [
    ("property", "properties"),
    ("props", "properties"),
    ("prop", "properties"),
    ("trait", "traits"),
    ("ctx", "context"),
];

/// What a column becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Known,
    /// It is probably this one, misspelt.
    Perhaps(String),
    Nothing,
}

fn meaning(field: &str) -> Meaning {
    let (first, rest) = field.split_once('.').map_or((field, None), |(first, rest)| (first, Some(rest)));
    match rest {
        None if FIELDS.contains(&first) || OBJECTS.contains(&first) => Meaning::Known,
        Some(rest) if OBJECTS.contains(&first) && !rest.split('.').any(str::is_empty) => Meaning::Known,
        None => match resembling(first, &FIELDS) {
            Some(field) => Meaning::Perhaps(field.to_owned()),
            None => member(first).map_or(Meaning::Nothing, Meaning::Perhaps),
        },
        Some(rest) => {
            let short =
                OBJECTS_TOO.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, object)| *object);
            let object = short.or_else(|| resembling(first, &OBJECTS));
            object.map_or(Meaning::Nothing, |object| Meaning::Perhaps(format!("{object}.{rest}")))
        }
    }
}

/// What `properties_revenue` and its like mean: tools that flatten objects join names so.
fn member(name: &str) -> Option<String> {
    let (object, member) = name.split_once(['_', '/', ':', '[', '-', ' '])?;
    let objects = [("properties", "properties"), ("property", "properties"), ("traits", "traits"), ("trait", "traits")];
    let (_, object) = objects.iter().find(|(known, _)| known.eq_ignore_ascii_case(object))?;
    let member = member.trim_matches(['_', ']', ' ']);
    (!member.is_empty()).then(|| format!("{object}.{member}"))
}

/// The one of these that differs in case, in separators, or by two letters of a longer word.
fn resembling(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let bare =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let name = bare(name);
    let far = |other: &str| osa_distance(&name, &bare(other));
    let nearest = known.iter().min_by_key(|other| far(other))?;
    let allowed = match name.len() {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    };
    (far(nearest) <= allowed).then_some(*nearest)
}

/// Looks at the names of a header that names the fields itself; returns those that mean nothing.
///
/// # Errors
/// [`crate::Kind::Settings`], with all that is wrong.
pub fn check<'h>(columns: &[&'h str], file: &str) -> Result<Vec<&'h str>> {
    let mut wrong = repeated(columns);
    let mut unknown = Vec::new();
    for column in columns.iter().filter(|column| !column.is_empty()) {
        match meaning(column) {
            Meaning::Known => {}
            Meaning::Perhaps(field) => wrong.push(format!("`{column}` is not a field; did you mean `{field}`?")),
            Meaning::Nothing => unknown.push(*column),
        }
    }
    let suggested = |field: &str| wrong.iter().any(|problem| problem.contains(&format!("did you mean `{field}`?")));
    let has = |field: &str| columns.contains(&field) || suggested(field);
    let mut missing = Vec::new();
    if !has("type") {
        missing.push("there is no column `type`".to_owned());
    }
    if !has("userId") && !has("anonymousId") {
        missing.push("there is neither `userId` nor `anonymousId`".to_owned());
    }
    wrong.extend(missing);
    if wrong.is_empty() { Ok(unknown) } else { Err(refused(file, columns, &wrong)) }
}

/// Looks at the fields that a column map fills.
///
/// # Errors
/// [`crate::Kind::Settings`], with all that is wrong.
pub fn check_fields(fields: impl Iterator<Item = String>) -> Result<()> {
    let wrong: Vec<String> = fields
        .filter_map(|field| match meaning(&field) {
            Meaning::Perhaps(meant) => Some(format!("`{field}` is not a field; did you mean `{meant}`?")),
            _ => None,
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::settings(format!("the column map cannot be right: {}", wrong.join("; ")))
        .help("Fields are those of a Segment message, as userId and properties.revenue."))
}

/// Looks for two columns of one name, of which one would be lost.
///
/// # Errors
/// [`crate::Kind::Settings`], with their places.
pub fn check_repeated(columns: &[&str], file: &str) -> Result<()> {
    let wrong = repeated(columns);
    if wrong.is_empty() { Ok(()) } else { Err(refused(file, columns, &wrong)) }
}

fn repeated(columns: &[&str]) -> Vec<String> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut wrong = Vec::new();
    for (n, column) in columns.iter().enumerate().filter(|(_, column)| !column.is_empty()) {
        match first.get(column) {
            Some(before) => wrong.push(format!("columns {} and {} are both called `{column}`", before + 1, n + 1)),
            None => drop(first.insert(column, n)),
        }
    }
    wrong
}

fn refused(file: &str, columns: &[&str], wrong: &[String]) -> Error {
    let found: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
    Error::settings(format!("the header of {file} cannot be right: {}", wrong.join("; "))).help(format!(
        "Its columns are {}. A header names a message's fields, as type,userId,event,timestamp,properties.revenue; \
         or say by --csv which column becomes which field.",
        found.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_column_is_told_with_what_is_meant() {
        for (column, meant) in [
            ("Type", "type"),
            ("UserId", "userId"),
            ("user_id", "userId"),
            ("timestmap", "timestamp"),
            ("property.revenue", "properties.revenue"),
            ("Properties.Revenue", "properties.Revenue"),
            ("trait.plan", "traits.plan"),
            ("evnet", "event"),
            ("properties_revenue", "properties.revenue"),
            ("Traits[plan]", "traits.plan"),
            ("property: order_id", "properties.order_id"),
        ] {
            assert_eq!(meaning(column), Meaning::Perhaps(meant.into()), "{column}");
        }
        for column in ["notes", "id", "amount", "order.total", "x.y"] {
            assert_eq!(meaning(column), Meaning::Nothing, "{column}");
        }
        for column in ["userId", "properties.a.b", "traits.plan", "context.ip"] {
            assert_eq!(meaning(column), Meaning::Known, "{column}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_header_is_told_at_once() {
        let error = check(&["Type", "event", "event", "amount"], "x.csv").unwrap_err();
        for part in
            ["did you mean `type`?", "columns 2 and 3 are both called `event`", "neither `userId` nor `anonymousId`"]
        {
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert_eq!(check(&["type", "userId", "notes"], "x.csv").unwrap(), ["notes"]);
    }
}
