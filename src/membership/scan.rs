//! Which conditions are answered by streaming events out and adding up here? Counts and sums over events whose filters
//! look at the event alone: several of them share one scan.
//!
//! Postgres removes no duplicates and groups nothing: a bitmap and an array do that several times faster.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{
    compile::{self, Compiler, Names, Query, Window, event_name},
    members::Members,
    query,
    tally::{Ids, Numbers, SUM_DECIMALS, millionths},
    threshold::Threshold,
};
use crate::{
    Result,
    audience::{
        ast::{Comparison, EventValue, Expr, Filter, Path, Reducer, Scalar, Segment, Stream},
        conditions::Condition,
        visit,
    },
};

/// A condition that a scan can answer.
#[derive(Debug, Clone)]
pub(super) struct Probe<'c> {
    pub condition: &'c Condition,
    stream: &'c Stream,
    window: Window,
    measure: Measure<'c>,
    /// It holds for a profile without events, so the profiles that are counted are those for which it does not.
    negated: bool,
    reads_rows: bool,
}

#[derive(Debug, Clone)]
enum Measure<'c> {
    /// At least one event, or none: no count is kept.
    Occurs,
    Count(Threshold),
    Sum(&'c EventValue, Threshold),
}

/// One pass over the events of one name, for all of its probes.
#[derive(Debug, Clone)]
pub(super) struct Scan<'c> {
    window: Window,
    reads_rows: bool,
    pub probes: Vec<Probe<'c>>,
}

/// What a scan says of one probe: `None` if its numbers do not fit, so that Postgres must be asked.
pub(super) type Found = Option<Members>;

impl<'c> Probe<'c> {
    pub(super) fn of(condition: &'c Condition, t: DateTime<Utc>, names: &Names) -> Option<Probe<'c>> {
        let Comparison { left: Scalar::Reduce(stream, reducer), comparator } = &condition.0 else { return None };
        let negated = compile::holds_for_nobody(condition, t);
        let measure = match reducer {
            Reducer::Count => match Threshold::of(comparator, 0)? {
                threshold if threshold.passes(1) != negated && threshold.is_constant_from(1) => Measure::Occurs,
                threshold => Measure::Count(threshold),
            },
            Reducer::Sum(value @ EventValue::Property(path)) if is_plain(path) => {
                Measure::Sum(value, Threshold::of(comparator, SUM_DECIMALS)?)
            }
            _ => return None,
        };
        let mut reads_rows = match &measure {
            Measure::Sum(value, _) => Compiler::new(t, names).promoted(stream, value, "").ok()?.is_none(),
            _ => false,
        };
        for filter in &stream.filters {
            match filter {
                Filter::Within(_) | Filter::Between { .. } => {}
                Filter::Where(expression) if reads_event_alone(expression) => reads_rows = true,
                Filter::ExcludeSources(_) => reads_rows = true,
                _ => return None,
            }
        }
        event_name(stream).ok()?;
        Some(Probe { condition, stream, window: Window::of(stream, t), measure, negated, reads_rows })
    }

    fn selects(&self) -> bool {
        self.stream.filters.iter().any(|filter| matches!(filter, Filter::Where(_) | Filter::ExcludeSources(_)))
    }
}

/// No trait, no other event.
fn reads_event_alone(expression: &Expr) -> bool {
    let mut alone = true;
    visit::comparisons(expression, &mut |comparison| {
        alone &= comparison.scalars().all(|scalar| matches!(scalar, Scalar::Property(_) | Scalar::Context(_)));
    });
    alone
}

fn is_plain(path: &Path) -> bool {
    !path.0.contains(&Segment::Each)
}

/// Events are kept for three years by default; a window since ever is taken to be so long when scans are compared.
const EVER: TimeDelta = TimeDelta::days(3 * 365);
/// What a scan costs that must also hand out the instant of each event: measured, see docs/BENCHMARKS.md.
const SHARED_COST: f64 = 1.3;

fn length(window: Window) -> f64 {
    let after = window.after.unwrap_or(window.until - EVER);
    (window.until - after).as_seconds_f64().max(0.0)
}

fn union(a: Window, b: Window) -> Window {
    Window { after: a.after.zip(b.after).map(|(a, b)| a.min(b)), until: a.until.max(b.until) }
}

impl<'c> Scan<'c> {
    pub(super) fn alone(probe: Probe<'c>) -> Scan<'c> {
        Scan { window: probe.window, reads_rows: probe.reads_rows, probes: vec![probe] }
    }

    /// Puts probes together where one pass is cheaper than two: same event, same kind of access, windows that overlap well.
    pub(super) fn share(mut probes: Vec<Probe<'c>>) -> Vec<Scan<'c>> {
        // The widest first, so that each scan has its final width early. The sort is stable: the outcome is reproducible.
        probes.sort_by(|a, b| length(b.window).total_cmp(&length(a.window)));
        let mut scans: Vec<Scan> = Vec::new();
        for probe in probes {
            let host = scans.iter_mut().find(|scan| {
                scan.probes[0].stream.source == probe.stream.source
                    && scan.reads_rows == probe.reads_rows
                    && scan.cost_with(probe.window) <= scan.cost() + length(probe.window)
            });
            match host {
                Some(scan) => {
                    scan.window = union(scan.window, probe.window);
                    scan.probes.push(probe);
                }
                None => scans.push(Scan::alone(probe)),
            }
        }
        scans
    }

    fn cost(&self) -> f64 {
        length(self.window) * if self.reads_instants() { SHARED_COST } else { 1.0 }
    }

    fn cost_with(&self, window: Window) -> f64 {
        let widest = union(self.window, window);
        let exact = widest == window && widest == self.window && !self.reads_instants();
        length(widest) * if exact { 1.0 } else { SHARED_COST }
    }

    fn reads_instants(&self) -> bool {
        self.probes.iter().any(|probe| probe.window != self.window)
    }

    /// The query, and where in its rows each probe finds what it needs.
    pub(super) fn compile(&self, t: DateTime<Utc>, names: &Names) -> Result<(Query, Vec<Places>)> {
        let (mut compiler, scope) = (Compiler::new(t, names), compile::Scope::default());
        let alias = compiler.alias();
        let mut filters = compiler.bounds(self.probes[0].stream, &alias, self.window)?;
        let (mut selections, mut numbers) = (Vec::<String>::new(), Vec::<String>::new());
        let mut places = Vec::new();
        for probe in &self.probes {
            let selection = compiler.predicates(probe.stream, &alias, &scope)?.join(" and ");
            let number = match &probe.measure {
                Measure::Sum(value, _) => Some(position(&mut numbers, compiler.summand(probe.stream, value, &alias)?)),
                _ => None,
            };
            let selection = probe.selects().then(|| position(&mut selections, selection));
            places.push(Places { number, selection });
        }
        let instants = self.reads_instants().then(|| format!("{alias}.occurred_at"));
        let everyone_selects = self.probes.iter().all(Probe::selects);
        if everyone_selects && selections.len() == 1 {
            filters.append(&mut selections);
            places.iter_mut().for_each(|place| place.selection = None);
        }
        let columns = |ids: String, numbers: Vec<String>, selections: Vec<String>| {
            std::iter::once(ids).chain(instants.clone()).chain(numbers).chain(selections).collect::<Vec<_>>().join(", ")
        };
        let filters = filters.join(" and ");
        let text = if everyone_selects && !selections.is_empty() {
            // The fence keeps each selection from being computed twice.
            let names: Vec<_> = (1..=selections.len()).map(|n| format!("s{n}")).collect();
            let named = selections.iter().zip(&names).map(|(selection, name)| format!("{selection} as {name}"));
            let inner = columns(format!("{alias}.profile_id"), numbers, named.collect());
            format!(
                "select * from (select {inner} from events {alias} where {filters} offset 0) s where {}",
                names.join(" or ")
            )
        } else {
            let columns = columns(format!("{alias}.profile_id"), numbers, selections);
            format!("select {columns} from events {alias} where {filters}")
        };
        let places = places.into_iter();
        Ok((compiler.finish(text, false)?, places.collect()))
    }

    /// Streams the events once and says for each probe, in order, who it holds for; and how many rows there were.
    pub(super) async fn run(
        &self,
        conn: &mut PgConnection,
        t: DateTime<Utc>,
        names: &Names,
    ) -> Result<(Vec<Found>, u64)> {
        let (query, places) = self.compile(t, names)?;
        let numbers = places.iter().filter_map(|place| place.number).collect::<BTreeSet<_>>().len();
        let selections = places.iter().filter_map(|place| place.selection).collect::<BTreeSet<_>>().len();
        let mut tallies: Vec<_> =
            self.probes.iter().zip(&places).map(|(probe, places)| Tally::new(probe, *places, self.window)).collect();
        let instants = self.reads_instants();
        let (mut values, mut selected) = (vec![None; numbers], vec![false; selections]);
        let rows = query::rows(conn, &query, |mut row| {
            let id = row.profile_id()?;
            let occurred_at = if instants { row.int8()?.unwrap_or(i64::MIN) } else { 0 };
            for value in &mut values {
                *value = row.column()?.map(millionths);
            }
            for selected in &mut selected {
                *selected = row.boolean()?;
            }
            for tally in &mut tallies {
                tally.add(id, occurred_at, &values, &selected);
            }
            Ok(())
        })
        .await?;
        Ok((tallies.into_iter().zip(&self.probes).map(|(tally, probe)| tally.found(probe)).collect(), rows))
    }
}

fn position(known: &mut Vec<String>, sql: String) -> usize {
    known.iter().position(|other| *other == sql).unwrap_or_else(|| {
        known.push(sql);
        known.len() - 1
    })
}

/// Which of a row's numbers and selections are a probe's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    number: Option<usize>,
    selection: Option<usize>,
}

/// What is added up for one probe.
struct Tally {
    places: Places,
    /// Microseconds since 2000, as Postgres sends them; `None` if the scan's window is the probe's.
    window: Option<(i64, i64)>,
    kept: Kept,
}

enum Kept {
    Ids(Ids),
    Counts(Numbers<u32>),
    Sums(Numbers<i64>),
    /// A number had too many decimals, or a sum grew too large.
    Unfit,
}

/// 2000-01-01 in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Tally {
    fn new(probe: &Probe, places: Places, scanned: Window) -> Tally {
        let micros = |instant: DateTime<Utc>| instant.timestamp_micros().saturating_sub(POSTGRES_EPOCH);
        let window = probe.window;
        Tally {
            places,
            window: (window != scanned).then(|| (window.after.map_or(i64::MIN, micros), micros(window.until))),
            kept: match probe.measure {
                Measure::Occurs => Kept::Ids(Ids::default()),
                Measure::Count(_) => Kept::Counts(Numbers::new()),
                Measure::Sum(..) => Kept::Sums(Numbers::new()),
            },
        }
    }

    #[inline]
    fn add(&mut self, id: u32, occurred_at: i64, values: &[Option<Option<i64>>], selected: &[bool]) {
        if let Some((after, until)) = self.window
            && (occurred_at <= after || occurred_at > until)
        {
            return;
        }
        if self.places.selection.is_some_and(|place| !selected[place]) {
            return;
        }
        match &mut self.kept {
            Kept::Ids(ids) => ids.insert(id),
            Kept::Counts(counts) => {
                let count = counts.at(id);
                *count = count.saturating_add(1);
            }
            Kept::Sums(sums) => match self.places.number.and_then(|place| values[place]) {
                None => {}
                Some(value) => {
                    let sum = sums.at(id);
                    match value.and_then(|value| sum.checked_add(value)) {
                        Some(total) => *sum = total,
                        None => self.kept = Kept::Unfit,
                    }
                }
            },
            Kept::Unfit => {}
        }
    }

    fn found(self, probe: &Probe) -> Found {
        let ids = match (self.kept, &probe.measure) {
            (Kept::Ids(ids), _) => ids.into_bitmap(),
            (Kept::Counts(counts), Measure::Count(threshold)) => {
                counts.select(|count| threshold.passes(i128::from(count)) != probe.negated)
            }
            (Kept::Sums(sums), Measure::Sum(_, threshold)) => {
                sums.select(|sum| threshold.passes(i128::from(sum)) != probe.negated)
            }
            _ => return None,
        };
        Some(Members { ids, all_but: probe.negated })
    }
}
