//! What is the value of a path, and how is it read as a number, as text, as an instant?

use super::{Compiler, Scope};
use crate::{
    Error, Result,
    audience::ast::{EventValue, Path, Scalar, Segment},
};

/// The SQL of a value, by what is known of it. Null where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::evaluate) enum Sql {
    /// `jsonb`.
    Json(String),
    Number(String),
    /// `sum / count`, never divided: comparisons multiply crosswise, so they are exact.
    Average {
        sum: String,
        count: String,
    },
    Text(String),
    Instant(String),
}

/// Each value that a path with `$` reaches: the `from` items that unfold it, and the value of one.
#[derive(Debug, Clone)]
pub(super) struct Unfolded {
    pub from: Vec<String>,
    /// The entries' numbers, for an order within one event.
    pub order: Vec<String>,
    pub value: String,
}

impl Compiler<'_> {
    /// A scalar that is not a reducer.
    pub(super) fn read(&mut self, scalar: &Scalar, scope: &Scope) -> Result<Result<Sql, Unfolded>> {
        let (column, path) = match scalar {
            Scalar::Trait(path) => {
                self.traits_used = true;
                ("p.traits".to_owned(), path)
            }
            Scalar::Computed(path) => {
                self.computed_used = true;
                ("c.traits".to_owned(), path)
            }
            Scalar::Property(path) => (format!("{}.properties", self.event(scope, 0)?), path),
            Scalar::ParentProperty(path) => (format!("{}.properties", self.event(scope, 1)?), path),
            Scalar::Context(path) if is_timestamp(path) => {
                return Ok(Ok(Sql::Instant(format!("{}.occurred_at", self.event(scope, 0)?))));
            }
            Scalar::Context(path) => (format!("{}.context", self.event(scope, 0)?), path),
            Scalar::Reduce(..) => return Err(Error::internal("a reducer is not read like a path")),
        };
        Ok(self.walk(column, path))
    }

    /// What a reducer reads of the event `alias`.
    pub(super) fn read_event(&mut self, value: &EventValue, alias: &str) -> Result<Sql, Unfolded> {
        match value {
            EventValue::Property(path) => self.walk(format!("{alias}.properties"), path),
            EventValue::Context(path) if is_timestamp(path) => Ok(Sql::Instant(format!("{alias}.occurred_at"))),
            EventValue::Context(path) => self.walk(format!("{alias}.context"), path),
        }
    }

    /// The alias of the event that is `up` levels above the innermost one.
    fn event<'s>(&self, scope: &'s Scope, up: usize) -> Result<&'s str> {
        scope
            .events
            .iter()
            .rev()
            .nth(up)
            .map(|event| event.alias.as_str())
            .ok_or_else(|| Error::internal("a property stands outside of the event that it belongs to"))
    }

    /// Only `->` with text walks into objects alone; `#>` would take `0` for an array's index.
    fn walk(&mut self, column: String, path: &Path) -> Result<Sql, Unfolded> {
        let mut unfolded = Unfolded { from: Vec::new(), order: Vec::new(), value: column };
        for segment in &path.0 {
            match segment {
                Segment::Key(key) => {
                    unfolded.value = format!("{} -> {}", unfolded.value, self.constant(key, "text"));
                }
                Segment::Each => {
                    let (alias, value) = (self.alias(), &unfolded.value);
                    unfolded.from.push(format!(
                        "jsonb_array_elements(case jsonb_typeof({value}) when 'array' then {value} end) with ordinality as {alias}(entry, place)"
                    ));
                    unfolded.order.push(format!("{alias}.place"));
                    unfolded.value = format!("{alias}.entry");
                }
            }
        }
        if unfolded.from.is_empty() { Ok(Sql::Json(parenthesised(unfolded.value))) } else { Err(unfolded) }
    }
}

fn parenthesised(value: String) -> String {
    if value.contains(" -> ") { format!("({value})") } else { value }
}

pub(in crate::evaluate) fn is_timestamp(path: &Path) -> bool {
    path.0 == [Segment::Key("timestamp".into())]
}

impl Sql {
    /// Null and missing are the same.
    pub(super) fn exists(&self) -> String {
        match self {
            Sql::Json(json) => format!("coalesce(jsonb_typeof({json}) <> 'null', false)"),
            Sql::Number(value) | Sql::Text(value) | Sql::Instant(value) => format!("{value} is not null"),
            Sql::Average { count, .. } => format!("{count} > 0"),
        }
    }

    /// As `numeric`, with the denominator of an average.
    pub(in crate::evaluate) fn number(&self) -> Option<(String, Option<&str>)> {
        match self {
            Sql::Json(json) => Some((number(json), None)),
            Sql::Number(number) => Some((number.clone(), None)),
            Sql::Average { sum, count } => Some((sum.clone(), Some(count))),
            Sql::Text(text) => Some((format!("rollcall_number({text})"), None)),
            Sql::Instant(_) => None,
        }
    }

    /// As text; null for what has none.
    pub(super) fn text(&self) -> String {
        match self {
            Sql::Json(json) => text(json),
            Sql::Number(number) => format!("trim_scale({number})::text"),
            Sql::Average { .. } => format!("trim_scale({})::text", self.rounded()),
            Sql::Text(text) => text.clone(),
            Sql::Instant(instant) => format!("rollcall_instant_text({instant})"),
        }
    }

    pub(super) fn instant(&self) -> Option<String> {
        match self {
            Sql::Json(json) => {
                Some(format!("case jsonb_typeof({json}) when 'string' then rollcall_instant({json} #>> '{{}}') end"))
            }
            Sql::Text(text) => Some(format!("rollcall_instant({text})")),
            Sql::Instant(instant) => Some(instant.clone()),
            Sql::Number(_) | Sql::Average { .. } => None,
        }
    }

    /// An average to 12 decimals, half away from zero. `div` is exact where `/` would round twice.
    fn rounded(&self) -> String {
        match self {
            Sql::Average { sum, count } => {
                format!(
                    "(sign({sum}) * div(abs({sum}) * 2000000000000 + {count}, nullif({count}, 0) * 2) * 0.000000000001)"
                )
            }
            _ => String::new(),
        }
    }
}

/// The number that a `jsonb` scalar is.
fn number(json: &str) -> String {
    format!(
        "case jsonb_typeof({json}) when 'number' then ({json})::numeric when 'string' then rollcall_number({json} #>> '{{}}') end"
    )
}

/// The text that a `jsonb` scalar is.
pub(super) fn text(json: &str) -> String {
    format!(
        "case jsonb_typeof({json}) when 'string' then {json} #>> '{{}}' when 'number' then trim_scale(({json})::numeric)::text when 'boolean' then {json} #>> '{{}}' end"
    )
}
