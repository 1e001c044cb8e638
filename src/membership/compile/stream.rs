//! Which events does a reducer look at, and what does it make of them?

use chrono::{DateTime, Utc};

use super::{
    Compiler, Enclosing, Scope,
    compare::LARGE,
    instant_text, shift,
    value::{Sql, Unfolded},
};
use crate::{
    Error, Result,
    audience::ast::{As, Comparator, EventValue, Filter, Path, Reducer, Source, Stream},
};

/// The instants that the filters of a stream admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::membership) struct Window {
    /// Exclusive; `None` since ever.
    pub after: Option<DateTime<Utc>>,
    /// Inclusive; never later than `t`, since events after `t` do not exist.
    pub until: DateTime<Utc>,
}

impl Window {
    pub(in crate::membership) fn of(stream: &Stream, t: DateTime<Utc>) -> Window {
        let mut window = Window { after: None, until: t };
        for filter in &stream.filters {
            let (after, until) = match filter {
                Filter::Within(span) => (shift(t, *span, -1), t),
                // Past the calendar's beginning nothing is left to look at.
                Filter::Between { near, far } => {
                    (shift(t, *far, -1), shift(t, *near, -1).unwrap_or(DateTime::<Utc>::MIN_UTC))
                }
                _ => continue,
            };
            window.after = window.after.max(after);
            window.until = window.until.min(until);
        }
        window
    }
}

/// The source of a subquery under construction.
struct Rows {
    alias: String,
    from: Vec<String>,
    filters: Vec<String>,
}

impl Rows {
    fn filters(&self) -> String {
        self.filters.join(" and ")
    }
}

/// The name of the event; entities are refused when a definition is checked.
pub(in crate::membership) fn event_name(stream: &Stream) -> Result<&str> {
    match &stream.source {
        Source::Event(name) => Ok(name),
        Source::Entity(_) => {
            Err(Error::definition("entity(…) belongs to linked audiences, which this version does not evaluate")
                .help("Define the audience over events and traits."))
        }
    }
}

impl Compiler<'_> {
    /// All profiles that have events of the stream, each with its reducer held against the comparator.
    pub(super) fn grouped(
        &mut self,
        stream: &Stream,
        reducer: &Reducer,
        comparator: &Comparator,
        negated: bool,
    ) -> Result<String> {
        let scope = Scope::default();
        let mut rows = self.rows(stream, &scope)?;
        let id = format!("{}.profile_id", rows.alias);
        let (value, ranked) = self.aggregate(reducer, stream, &mut rows)?;
        let holds = self.holds(&value, comparator, &scope)?;
        // Profiles stand first, so that whatever unfolds arrays may refer to the events after them.
        let join = if self.traits_used { format!(" join profiles p on p.id = {id}") } else { String::new() };
        rows.from[0].push_str(&join);
        let not = if negated { "not " } else { "" };
        let (from, filters) = (rows.from.join(" cross join "), rows.filters());
        Ok(match ranked {
            None => format!("select {id} from {from} where {filters} group by {id} having {not}{holds}"),
            Some(text) => format!(
                "select r.profile_id from (select {id}, {text} as value, count(*) as times from {from} where {filters} group by 1, 2) r group by r.profile_id having {not}{holds}"
            ),
        })
    }

    /// The same of one profile, the one that is `p` or that the enclosing event belongs to: a subquery of one row.
    pub(super) fn reduced(
        &mut self,
        stream: &Stream,
        reducer: &Reducer,
        scope: &Scope,
        then: &mut dyn FnMut(&mut Self, Sql) -> Result<String>,
    ) -> Result<String> {
        let mut rows = self.rows(stream, scope)?;
        let owner = scope.events.last().map_or("p.id".to_owned(), |event| format!("{}.profile_id", event.alias));
        rows.filters.insert(0, format!("{}.profile_id = {owner}", rows.alias));
        let (value, ranked) = self.aggregate(reducer, stream, &mut rows)?;
        let holds = then(self, value)?;
        let (from, filters) = (rows.from.join(" cross join "), rows.filters());
        Ok(match ranked {
            None => format!("(select {holds} from {from} where {filters})"),
            Some(text) => format!(
                "(select {holds} from (select {text} as value, count(*) as times from {from} where {filters} group by 1) r)"
            ),
        })
    }

    fn rows(&mut self, stream: &Stream, scope: &Scope) -> Result<Rows> {
        let alias = self.alias();
        let filters = self.admitted(stream, &alias, Window::of(stream, self.t), scope)?;
        Ok(Rows { from: vec![format!("events {alias}")], alias, filters })
    }

    /// The filters of a stream, as SQL over the event `alias`.
    pub(in crate::membership) fn admitted(
        &mut self,
        stream: &Stream,
        alias: &str,
        window: Window,
        scope: &Scope,
    ) -> Result<Vec<String>> {
        let id = self.names.id(event_name(stream)?);
        let mut filters = vec![format!("{alias}.name_id = {}", self.bound(id.to_string(), "int"))];
        if let Some(after) = window.after {
            filters.push(format!("{alias}.occurred_at > {}", self.bound(instant_text(after), "timestamptz")));
        }
        filters.push(format!("{alias}.occurred_at <= {}", self.bound(instant_text(window.until), "timestamptz")));
        filters.extend(self.predicates(stream, alias, scope)?);
        Ok(filters)
    }

    /// The filters that are no bounds of time.
    pub(in crate::membership) fn predicates(
        &mut self,
        stream: &Stream,
        alias: &str,
        scope: &Scope,
    ) -> Result<Vec<String>> {
        let mut filters = Vec::new();
        for filter in &stream.filters {
            match filter {
                Filter::Within(_) | Filter::Between { .. } => {}
                Filter::Where(expression) => {
                    let mut inner = scope.clone();
                    inner.events.push(Enclosing { alias: alias.to_owned() });
                    filters.push(self.expression(expression, &inner)?);
                }
                Filter::WithinParent(span) => {
                    let Some(parent) = scope.events.last() else {
                        return Err(Error::internal(
                            "within(parent: …) stands outside of the event that it belongs to",
                        ));
                    };
                    let parent = format!("{}.occurred_at", parent.alias);
                    let span = self.constant(format!("{} microseconds", span.micros()), "interval");
                    filters
                        .push(format!("{alias}.occurred_at > {parent} and {alias}.occurred_at <= {parent} + {span}"));
                }
                Filter::ExcludeSources(sources) => {
                    let sources = self.constant(array(sources), "text[]");
                    filters.push(format!("coalesce({alias}.source_id <> all ({sources}), true)"));
                }
                Filter::ExpiresAfter(_) => {
                    return Err(Error::definition("session windows are for computed traits")
                        .help("In an audience use .within(…), a window that slides."));
                }
            }
        }
        Ok(filters)
    }

    /// The reducer as an aggregate over `rows`; for `mode` also the text whose frequencies are to be ranked first.
    fn aggregate(&mut self, reducer: &Reducer, stream: &Stream, rows: &mut Rows) -> Result<(Sql, Option<String>)> {
        let alias = rows.alias.clone();
        let value = match reducer {
            Reducer::Count => return Ok((Sql::Number(format!("count({alias}.profile_id)")), None)),
            Reducer::Mode { value, kind: As::Array, min_frequency } => {
                let whole = self.whole(value, &alias);
                return Ok((self.most_frequent(*min_frequency), Some(whole)));
            }
            Reducer::Sum(value)
            | Reducer::Avg(value)
            | Reducer::Min(value, As::Number)
            | Reducer::Max(value, As::Number) => match self.promoted(stream, value, &alias)? {
                Some(column) => Sql::Number(column),
                None => self.unfolded(value, rows, &mut Vec::new()),
            },
            Reducer::Min(value, _)
            | Reducer::Max(value, _)
            | Reducer::Mode { value, .. }
            | Reducer::UniqueCount(value) => self.unfolded(value, rows, &mut Vec::new()),
            Reducer::First(value) | Reducer::Last(value) => {
                let mut order = vec![format!("{alias}.occurred_at"), format!("{alias}.message_id")];
                let value = self.unfolded(value, rows, &mut order);
                let direction = if matches!(reducer, Reducer::Last(_)) { " desc" } else { "" };
                let order = order.into_iter().map(|key| key + direction).collect::<Vec<_>>().join(", ");
                return Ok(match value {
                    Sql::Json(json) => (
                        Sql::Json(format!(
                            "(array_agg({json} order by {order}) filter (where jsonb_typeof({json}) in ('string', 'number', 'boolean')))[1]"
                        )),
                        None,
                    ),
                    value => (
                        Sql::Instant(format!(
                            "(array_agg({} order by {order}))[1]",
                            value.instant().unwrap_or_default()
                        )),
                        None,
                    ),
                });
            }
            Reducer::Unique(_) => return Err(Error::internal("a list has no place in an audience")),
        };
        // Numbers are bounded, since a sum of two that Postgres can just hold would be an error.
        let number = value.number().map_or("null::numeric".to_owned(), |(number, _)| number);
        let bounded = format!("filter (where abs({number}) < {LARGE})");
        let text = format!("({}) collate \"C\"", value.text());
        Ok((
            match reducer {
                Reducer::Sum(_) => Sql::Number(format!("coalesce(sum({number}) {bounded}, 0)")),
                Reducer::Avg(_) => Sql::Average {
                    sum: format!("sum({number}) {bounded}"),
                    count: format!("count({number}) {bounded}"),
                },
                Reducer::Min(_, As::Number) => Sql::Number(format!("min({number})")),
                Reducer::Max(_, As::Number) => Sql::Number(format!("max({number})")),
                Reducer::Min(..) => Sql::Text(format!("min({text})")),
                Reducer::Max(..) => Sql::Text(format!("max({text})")),
                Reducer::UniqueCount(_) => Sql::Number(format!("count(distinct {text})")),
                Reducer::Mode { min_frequency, .. } => {
                    return Ok((self.most_frequent(*min_frequency), Some(text)));
                }
                _ => return Err(Error::internal("a reducer was compiled twice")),
            },
            None,
        ))
    }

    /// Of the ranked texts the most frequent, of several the first by bytes.
    fn most_frequent(&mut self, min_frequency: u32) -> Sql {
        let least = self.constant(min_frequency.to_string(), "bigint");
        Sql::Text(format!(
            "(array_agg(r.value order by r.times desc, r.value) filter (where r.value is not null and r.times >= {least}))[1]"
        ))
    }

    fn unfolded(&mut self, value: &EventValue, rows: &mut Rows, order: &mut Vec<String>) -> Sql {
        match self.read_event(value, &rows.alias) {
            Ok(value) => value,
            Err(Unfolded { from, order: places, value }) => {
                rows.from.extend(from);
                order.extend(places);
                Sql::Json(value)
            }
        }
    }

    /// The typed column of a promoted number.
    pub(in crate::membership) fn promoted(
        &self,
        stream: &Stream,
        value: &EventValue,
        alias: &str,
    ) -> Result<Option<String>> {
        let EventValue::Property(path) = value else { return Ok(None) };
        Ok(self.promoted_slot(stream, path)?.map(|slot| format!("{alias}.number_{slot}")))
    }

    pub(in crate::membership) fn promoted_slot(&self, stream: &Stream, path: &Path) -> Result<Option<i16>> {
        Ok(self.names.promoted(event_name(stream)?, path))
    }

    /// All scalars that one event holds, arrays opened, as one text with commas.
    fn whole(&mut self, value: &EventValue, alias: &str) -> String {
        let joined = |json: &str| {
            format!(
                "case jsonb_typeof({json}) when 'array' then (select string_agg({}, ',' order by a.place) from jsonb_array_elements({json}) with ordinality as a(entry, place)) else {} end",
                Sql::Json("a.entry".into()).text(),
                Sql::Json(json.into()).text()
            )
        };
        match self.read_event(value, alias) {
            Ok(Sql::Json(json)) => joined(&json),
            Ok(value) => value.text(),
            Err(Unfolded { from, order, value }) => format!(
                "(select string_agg({}, ',' order by {}) from {})",
                joined(&value),
                order.join(", "),
                from.join(" cross join ")
            ),
        }
    }
}

/// A list as Postgres reads a `text[]`.
fn array(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}
