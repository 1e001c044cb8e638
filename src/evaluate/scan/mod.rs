//! Which questions are answered by streaming events out and adding up here? Counts and sums of conditions over events whose
//! filters look at the event alone, and the values of all computed traits: several of them share one scan.
//!
//! Postgres removes no duplicates and groups nothing: a bitmap and an array do that several times faster.

mod batch;
mod cell;
mod edges;
mod event;
mod fold;
mod kept;
mod num;
mod probe;
mod texts;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rayon::prelude::*;
use sqlx::PgConnection;

use self::{batch::Batch, kept::Tally};
pub(super) use self::{
    kept::{Found, Places},
    probe::{Asker, Probe},
};
use super::{
    compile::{self, Compiler, Names, Query, Window},
    copy::Row,
    query,
};
use crate::{
    Result,
    audience::ast::{EventValue, Span},
};

/// One pass over the events of one name, for all of its probes.
#[derive(Debug, Clone)]
pub(super) struct Scan<'c> {
    window: Window,
    pub probes: Vec<Probe<'c>>,
}

/// Bytes that a scan may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// For what it keeps of profiles; with more it reads the events again for the rest.
    pub kept: usize,
    /// For the values of one trait; with more it compresses them.
    pub found: usize,
}

/// Events are kept for three years by default; a window since ever is taken to be so long when scans are compared.
const EVER: TimeDelta = TimeDelta::days(3 * 365);
/// What a scan costs that must also hand out the instant of each event: measured, see docs/BENCHMARKS.md.
const SHARED_COST: f64 = 1.3;
/// 2000-01-01 in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

fn length(window: Window) -> f64 {
    let after = window.after.unwrap_or(window.until - EVER);
    (window.until - after).as_seconds_f64().max(0.0)
}

fn union(a: Window, b: Window) -> Window {
    Window { after: a.after.zip(b.after).map(|(a, b)| a.min(b)), until: a.until.max(b.until) }
}

impl<'c> Scan<'c> {
    pub(super) fn alone(probe: Probe<'c>) -> Scan<'c> {
        Scan { window: probe.window, probes: vec![probe] }
    }

    /// Puts probes together where one pass is cheaper than two: same event, same kind of access, windows that overlap well.
    pub(super) fn share(mut probes: Vec<Probe<'c>>) -> Vec<Scan<'c>> {
        // The widest first, so that each scan has its final width early. The sort is stable: the outcome is reproducible.
        probes.sort_by(|a, b| length(b.window).total_cmp(&length(a.window)));
        let mut scans: Vec<Scan> = Vec::new();
        for probe in probes {
            let host = scans.iter_mut().find(|scan| {
                scan.probes.len() < MAX_JSONS
                    && scan.probes[0].goes_with(&probe)
                    && scan.cost_with(&probe) <= scan.cost() + Scan::alone(probe.clone()).cost()
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

    fn cost_with(&self, probe: &Probe) -> f64 {
        let widest = union(self.window, probe.window);
        let exact =
            widest == probe.window && widest == self.window && !self.reads_instants() && !probe.reads_instants();
        length(widest) * if exact { 1.0 } else { SHARED_COST }
    }

    fn reads_instants(&self) -> bool {
        self.probes.iter().any(|probe| probe.window != self.window || probe.reads_instants())
    }

    fn reads_messages(&self) -> bool {
        self.probes.iter().any(Probe::reads_messages)
    }

    /// The query, and where in its rows each probe finds what it needs.
    pub(super) fn compile(&self, t: DateTime<Utc>, names: &Names) -> Result<(Query, Vec<Places>)> {
        let (mut compiler, scope) = (Compiler::new(t, names), compile::Scope::default());
        let alias = compiler.alias();
        let mut filters = compiler.bounds(&self.probes[0].stream, &alias, self.window)?;
        let (mut selections, mut numbers, mut jsons) =
            (Vec::<String>::new(), Vec::<String>::new(), Vec::<String>::new());
        let mut places = Vec::new();
        // Those that stand apart have all the same filters, which are then the scan's.
        let apart = self.probes[0].apart;
        if apart {
            filters.extend(compiler.predicates(&self.probes[0].stream, &alias, &scope)?);
        }
        for probe in &self.probes {
            let selection = match !apart && probe.selects() {
                true => Some(compiler.predicates(&probe.stream, &alias, &scope)?.join(" and ")),
                false => None,
            };
            let number = match probe.summed() {
                Some(value) => Some(position(&mut numbers, compiler.summand(&probe.stream, value, &alias)?)),
                None => None,
            };
            let json = match probe.read() {
                Some(value) => Some(position(&mut jsons, json_column(&mut compiler, value, &alias)?)),
                None => None,
            };
            places.push(Places { number, json, selection: selection.map(|sql| position(&mut selections, sql)) });
        }
        if places.iter().all(|place| place.selection.is_some()) && selections.len() == 1 {
            filters.append(&mut selections);
            places.iter_mut().for_each(|place| place.selection = None);
        }
        let everyone_selects = !selections.is_empty() && places.iter().all(|place| place.selection.is_some());
        let mut columns = vec![format!("{alias}.profile_id")];
        columns.extend(self.reads_instants().then(|| format!("{alias}.occurred_at")));
        columns.extend(self.reads_messages().then(|| format!("{alias}.message_id")));
        columns.append(&mut numbers);
        columns.append(&mut jsons);
        let from = match compiler.reads_traits() {
            true => format!("events {alias} join profiles p on p.id = {alias}.profile_id"),
            false => format!("events {alias}"),
        };
        let filters = filters.join(" and ");
        let text = if let Some(span) = self.probes[0].session {
            last_session(&mut compiler, &alias, span, &columns, &from, &filters)
        } else if everyone_selects {
            // The fence keeps each selection from being computed twice.
            let names: Vec<_> = (1..=selections.len()).map(|n| format!("s{n}")).collect();
            columns.extend(selections.iter().zip(&names).map(|(selection, name)| format!("{selection} as {name}")));
            let (inner, any) = (columns.join(", "), names.join(" or "));
            format!("select * from (select {inner} from {from} where {filters} offset 0) s where {any}")
        } else {
            columns.append(&mut selections);
            format!("select {} from {from} where {filters}", columns.join(", "))
        };
        Ok((compiler.finish(text, false)?, places))
    }

    /// Streams the events and says for each probe, in order, what was found; and how many rows there were.
    ///
    /// Nearly always in one pass. Where what is kept would take more than the memory's bytes, a pass forgets the upper half of its
    /// profiles and goes on, and the next pass looks at those: time is given for memory, and no input can take all of it.
    pub(super) async fn run(
        &self,
        conn: &mut PgConnection,
        t: DateTime<Utc>,
        names: &Names,
        memory: Memory,
    ) -> Result<(Vec<Found>, u64)> {
        let (query, places) = self.compile(t, names)?;
        let (mut all, mut rows, mut from) = (None::<Vec<Found>>, 0, 0);
        loop {
            let mut pass = Pass::new(self, &places, from, memory.kept);
            rows += query::rows(conn, &query, |row| pass.add(row)).await?;
            pass.tally();
            pass.tallies.par_iter_mut().for_each(Tally::settle);
            let end = pass.end;
            // To write all values out takes as long as the reading: each processor takes some probes.
            let asked = self.probes.par_iter().zip(&pass.of);
            let found = asked.map(|(probe, tally)| pass.tallies[*tally].found(probe, memory.found));
            let found: Vec<Found> = found.collect();
            all = Some(match all {
                None => found,
                Some(before) => before.into_iter().zip(found).map(|(before, found)| before.and(found)).collect(),
            });
            match end {
                Some(end) => from = end,
                None => return Ok((all.unwrap_or_default(), rows)),
            }
        }
    }
}

/// One reading of the events, for the profiles from `from` on.
struct Pass<'c> {
    tallies: Vec<Tally<'c>>,
    /// Of each probe, which tally is its own or shared by it.
    of: Vec<usize>,
    from: u32,
    /// Where it had to stop short: profiles from here on are the next pass's.
    end: Option<u32>,
    budget: usize,
    highest: u32,
    since_weighed: usize,
    batch: Batch,
}

/// Rows after which memory is looked at again.
const WEIGH_EVERY: usize = 65_536;

impl<'c> Pass<'c> {
    fn new(scan: &Scan<'c>, places: &[Places], from: u32, budget: usize) -> Pass<'c> {
        let distinct =
            |place: fn(&Places) -> Option<usize>| places.iter().filter_map(place).collect::<BTreeSet<_>>().len();
        let (mut tallies, mut of) = (Vec::<Tally>::new(), Vec::with_capacity(places.len()));
        for (probe, places) in scan.probes.iter().zip(places) {
            let known = tallies.iter_mut().position(|tally| tally.takes(probe, *places, scan.window));
            of.push(known.unwrap_or(tallies.len()));
            if known.is_none() {
                tallies.push(Tally::new(probe, *places, scan.window));
            }
        }
        let shape = batch::Shape {
            instants: scan.reads_instants(),
            messages: scan.reads_messages(),
            numbers: distinct(|place| place.number),
            jsons: distinct(|place| place.json),
            selections: distinct(|place| place.selection),
        };
        Pass { tallies, of, from, end: None, budget, highest: from, since_weighed: 0, batch: Batch::new(shape) }
    }

    #[inline]
    fn add(&mut self, mut row: Row<'_>) -> Result<()> {
        let id = row.profile_id()?;
        if id < self.from || self.end.is_some_and(|end| id >= end) {
            return Ok(());
        }
        self.batch.push(id, row)?;
        self.highest = self.highest.max(id);
        if self.batch.is_full() {
            self.tally();
            if self.since_weighed >= WEIGH_EVERY {
                self.weigh();
            }
        }
        Ok(())
    }

    /// Adds the batch up. A probe after the other, so that what one of them keeps stays in the processor's cache meanwhile; and
    /// each processor takes some.
    fn tally(&mut self) {
        let batch = &self.batch;
        self.tallies.par_iter_mut().for_each(|tally| tally.add_all(batch));
        self.since_weighed += self.batch.len();
        self.batch.clear();
    }

    fn weigh(&mut self) {
        self.since_weighed = 0;
        while self.tallies.iter().map(Tally::bytes).sum::<usize>() > self.budget {
            let (first, last) = (self.from >> 16, self.highest >> 16);
            if last <= first {
                // The profiles of one chunk are taken together, whatever they take.
                return;
            }
            let end = (first + (last - first).div_ceil(2)) << 16;
            self.tallies.iter_mut().for_each(|tally| tally.cut(end));
            (self.end, self.highest) = (Some(end), end - 1);
        }
    }
}

/// Probes of one scan, and so columns of JSON: with more, a second scan is made.
const MAX_JSONS: usize = 64;

/// The part of a path that Postgres walks, as `jsonb`.
fn json_column(compiler: &mut Compiler<'_>, value: &EventValue, alias: &str) -> Result<String> {
    let value = match value {
        EventValue::Property(path) => EventValue::Property(cell::halves(path).0),
        EventValue::Context(path) => EventValue::Context(cell::halves(path).0),
    };
    compiler.json(&value, alias)
}

/// Wraps a scan so that only each profile's last session comes out: an event begins one if it follows a longer silence.
fn last_session(
    compiler: &mut Compiler<'_>,
    alias: &str,
    span: Span,
    columns: &[String],
    from: &str,
    filters: &str,
) -> String {
    let names: Vec<_> = (1..=columns.len()).map(|n| format!("c{n}")).collect();
    let named: Vec<_> = columns.iter().zip(&names).map(|(column, name)| format!("{column} as {name}")).collect();
    let (named, names) = (named.join(", "), names.join(", "));
    let silence = compiler.bound(format!("{} microseconds", span.micros()), "interval");
    format!(
        "select {names} from (select *, max(at) filter (where begins) over (partition by who) as session from (\
         select {named}, {alias}.profile_id as who, {alias}.occurred_at as at, \
         coalesce({alias}.occurred_at - lag({alias}.occurred_at) over (partition by {alias}.profile_id order by {alias}.occurred_at) > {silence}, true) as begins \
         from {from} where {filters}) s) s where at >= session"
    )
}

fn position(known: &mut Vec<String>, sql: String) -> usize {
    known.iter().position(|other| *other == sql).unwrap_or_else(|| {
        known.push(sql);
        known.len() - 1
    })
}
