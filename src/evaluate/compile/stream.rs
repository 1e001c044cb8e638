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
    audience::ast::{As, Comparator, EventValue, Filter, Reducer, Source, Stream},
};

/// The instants that the filters of a stream admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::evaluate) struct Window {
    /// Exclusive; `None` since ever.
    pub after: Option<DateTime<Utc>>,
    /// Inclusive; never later than `t`, since events after `t` do not exist.
    pub until: DateTime<Utc>,
}

impl Window {
    pub(in crate::evaluate) fn of(stream: &Stream, t: DateTime<Utc>) -> Window {
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

    /// The alias under which values are ranked by frequency: its own, since an outer one may be compared with it.
    fn ranked(&self) -> String {
        format!("{}_ranked", self.alias)
    }
}

/// The name of the event; entities are refused when a definition is checked.
pub(in crate::evaluate) fn event_name(stream: &Stream) -> Result<&str> {
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
        rows.from[0].push_str(&self.computed(&id));
        let not = if negated { "not " } else { "" };
        let (from, filters, r) = (rows.from.join(" cross join "), rows.filters(), rows.ranked());
        Ok(match ranked {
            None => format!("select {id} from {from} where {filters} group by {id} having {not}{holds}"),
            Some(text) => format!(
                "select {r}.profile_id from (select {id}, {text} as value, count(*) as times from {from} where {filters} group by 1, 2) {r} group by {r}.profile_id having {not}{holds}"
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
        let mut rows = self.own_rows(stream, scope)?;
        let (value, ranked) = self.aggregate(reducer, stream, &mut rows)?;
        let holds = then(self, value)?;
        let (from, filters, r) = (rows.from.join(" cross join "), rows.filters(), rows.ranked());
        Ok(match ranked {
            // `having` makes it one row even if what is compared needs no aggregate.
            None => format!("(select {holds} from {from} where {filters} having true)"),
            Some(text) => format!(
                "(select {holds} from (select {text} as value, count(*) as times from {from} where {filters} group by 1) {r} having true)"
            ),
        })
    }

    /// Whether the one profile has an event of the stream, as `(none, some)` says: Postgres can make a join of it.
    pub(super) fn occurs(&mut self, stream: &Stream, scope: &Scope, holds: (bool, bool)) -> Result<String> {
        let rows = self.own_rows(stream, scope)?;
        let exists = format!("exists (select from {} where {})", rows.from.join(" cross join "), rows.filters());
        Ok(match holds {
            (false, true) => exists,
            (true, false) => format!("not {exists}"),
            (always, _) => always.to_string(),
        })
    }

    /// The events of the profile that is `p`, or that the enclosing event belongs to.
    fn own_rows(&mut self, stream: &Stream, scope: &Scope) -> Result<Rows> {
        let mut rows = self.rows(stream, scope)?;
        let owner = scope.events.last().map_or("p.id".to_owned(), |event| format!("{}.profile_id", event.alias));
        rows.filters.insert(0, format!("{}.profile_id = {owner}", rows.alias));
        Ok(rows)
    }

    /// The window of a stream; within that of its parent and a little more, if it must follow its parent: no other event
    /// could, and the index need not be read any further.
    fn window(&self, stream: &Stream, scope: &Scope) -> Window {
        let mut window = Window::of(stream, self.t);
        if let Some(parent) = scope.events.last() {
            for filter in &stream.filters {
                if let Filter::WithinParent(span) = filter {
                    window.after = window.after.max(parent.window.after);
                    window.until =
                        shift(parent.window.until, *span, 1).map_or(window.until, |end| end.min(window.until));
                }
            }
        }
        window
    }

    fn rows(&mut self, stream: &Stream, scope: &Scope) -> Result<Rows> {
        let alias = self.alias();
        let mut filters = self.bounds(stream, &alias, self.window(stream, scope))?;
        filters.extend(self.predicates(stream, &alias, scope)?);
        Ok(Rows { from: vec![format!("events {alias}")], alias, filters })
    }

    /// The name and the window of a stream, as bounds of an index over the event `alias`.
    pub(in crate::evaluate) fn bounds(&mut self, stream: &Stream, alias: &str, window: Window) -> Result<Vec<String>> {
        let id = self.names.id(event_name(stream)?);
        let mut filters = vec![format!("{alias}.name_id = {}", self.bound(id.to_string(), "int"))];
        if let Some(after) = window.after {
            filters.push(format!("{alias}.occurred_at > {}", self.bound(instant_text(after), "timestamptz")));
        }
        filters.push(format!("{alias}.occurred_at <= {}", self.bound(instant_text(window.until), "timestamptz")));
        Ok(filters)
    }

    /// The filters that are no bounds of time.
    pub(in crate::evaluate) fn predicates(
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
                    inner.events.push(Enclosing { alias: alias.to_owned(), window: self.window(stream, scope) });
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
                    // The cast tells Postgres that this is an array, not a subquery of texts.
                    filters.push(format!("coalesce({alias}.source_id <> all ({sources}::text[]), true)"));
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
        let mut text = |compiler: &mut Self, value| {
            format!("({}) collate \"C\"", compiler.unfolded(value, rows, &mut Vec::new()).text())
        };
        let aggregate = match reducer {
            Reducer::Count => Sql::Number(format!("count({}.profile_id)", rows.alias)),
            Reducer::Sum(value)
            | Reducer::Avg(value)
            | Reducer::Min(value, As::Number)
            | Reducer::Max(value, As::Number) => self.numeric(reducer, stream, value, rows)?,
            Reducer::Min(value, _) => Sql::Text(format!("min({})", text(self, value))),
            Reducer::Max(value, _) => Sql::Text(format!("max({})", text(self, value))),
            Reducer::UniqueCount(value) => Sql::Number(format!("count(distinct {})", text(self, value))),
            Reducer::First(value) => self.first(value, "", rows),
            Reducer::Last(value) => self.first(value, " desc", rows),
            Reducer::Mode { value, kind, min_frequency } => {
                let ranked = if *kind == As::Array {
                    format!("({}) collate \"C\"", self.whole(value, &rows.alias))
                } else {
                    text(self, value)
                };
                let least = self.constant(min_frequency.to_string(), "bigint");
                let r = rows.ranked();
                let most_frequent = format!(
                    "(array_agg({r}.value order by {r}.times desc, {r}.value) filter (where {r}.value is not null and {r}.times >= {least}))[1]"
                );
                return Ok((Sql::Text(most_frequent), Some(ranked)));
            }
            Reducer::Unique(_) => return Err(Error::internal("a list has no place in an audience")),
        };
        Ok((aggregate, None))
    }

    fn numeric(&mut self, reducer: &Reducer, stream: &Stream, value: &EventValue, rows: &mut Rows) -> Result<Sql> {
        let value = match self.promoted(stream, value, &rows.alias)? {
            Some(column) => Sql::Number(column),
            None => self.unfolded(value, rows, &mut Vec::new()),
        };
        let Some((number, _)) = value.number() else {
            // An instant is no number, so there is none to reduce.
            let none = || "null::numeric".to_owned();
            return Ok(match reducer {
                Reducer::Sum(_) => Sql::Number("0::numeric".to_owned()),
                Reducer::Avg(_) => Sql::Average { sum: none(), count: "0::numeric".to_owned() },
                _ => Sql::Number(none()),
            });
        };
        // Bounded, since a sum of two numbers that Postgres can just hold would be an error.
        let bounded = format!("filter (where abs({number}) < {LARGE})");
        Ok(match reducer {
            Reducer::Sum(_) => Sql::Number(format!("coalesce(sum({number}) {bounded}, 0)")),
            Reducer::Avg(_) => {
                Sql::Average { sum: format!("sum({number}) {bounded}"), count: format!("count({number}) {bounded}") }
            }
            Reducer::Min(..) => Sql::Number(format!("min({number})")),
            _ => Sql::Number(format!("max({number})")),
        })
    }

    /// The first scalar by time, then message id, then place in an array; with ` desc` the last.
    fn first(&mut self, value: &EventValue, direction: &str, rows: &mut Rows) -> Sql {
        let mut order = vec![format!("{}.occurred_at", rows.alias), format!("{}.message_id", rows.alias)];
        let value = self.unfolded(value, rows, &mut order);
        let order = order.into_iter().map(|key| key + direction).collect::<Vec<_>>().join(", ");
        match value {
            Sql::Json(json) => Sql::Json(format!(
                "(array_agg({json} order by {order}) filter (where jsonb_typeof({json}) in ('string', 'number', 'boolean')))[1]"
            )),
            value => Sql::Instant(format!("(array_agg({} order by {order}))[1]", value.instant().unwrap_or_default())),
        }
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
    pub(in crate::evaluate) fn promoted(
        &self,
        stream: &Stream,
        value: &EventValue,
        alias: &str,
    ) -> Result<Option<String>> {
        let EventValue::Property(path) = value else { return Ok(None) };
        Ok(self.names.promoted(event_name(stream)?, path).map(|slot| format!("{alias}.number_{slot}")))
    }

    /// The number that a sum adds of each event.
    pub(in crate::evaluate) fn summand(&mut self, stream: &Stream, value: &EventValue, alias: &str) -> Result<String> {
        if let Some(column) = self.promoted(stream, value, alias)? {
            return Ok(column);
        }
        match self.read_event(value, alias) {
            Ok(value) => Ok(value.number().map_or("null::numeric".to_owned(), |(number, _)| number)),
            Err(_) => Err(Error::internal("a path with $ has several numbers")),
        }
    }

    /// What one event holds at a path without `$`, as `jsonb`.
    pub(in crate::evaluate) fn json(&mut self, value: &EventValue, alias: &str) -> Result<String> {
        match self.read_event(value, alias) {
            Ok(Sql::Json(json)) => Ok(json),
            _ => Err(Error::internal("an instant, or a path with $, is not read as JSON")),
        }
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
