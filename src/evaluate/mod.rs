//! Who is in each audience that is due, as of `t`? Each distinct condition is asked once, on one snapshot.
//!
//! ```text
//!  formulas ──► distinct conditions ──┬─► shared scans of events ──► tallies ──┐
//!                                     └─► one query each ──────────► ids ──────┴─► answers ──► formulas ∩ universe
//! ```
//! Conditions that read computed traits are asked after these are settled, for they read what this very tick found.
//!
//! Must never read a clock, and never let one condition's failure reach an audience that does not use it.

mod compare;
mod compile;
mod copy;
mod late;
mod members;
mod names;
pub mod person;
mod planner;
pub mod gaps;
pub mod preview;
mod query;
mod run;
mod scan;
pub mod statements;
mod tally;
mod threshold;
mod universe;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, Utc};
use roaring::RoaringBitmap;
use sqlx::PgConnection;

pub use self::run::statements;
pub use self::{
    compile::{Names, Query},
    universe::Universe,
};
use self::{
    members::Members,
    run::Run,
    statements::{elsewhere::Sessions, traits},
    universe::Moment,
};
use crate::{
    Error, Result,
    audience::{
        Computed, ComputedTrait,
        ast::Reducer,
        conditions::{self, Formula},
    },
    limits,
    membership::{
        PassedOver,
        guard::{self, Limit},
    },
    profile::leaving,
    values::{
        Values, columns,
        current::Current,
        settle::{Finding, Settled, Shape, settle},
    },
};

/// An audience that is due. Those it refers to stand before it, or are among the stored ones.
#[derive(Debug, Clone, Copy)]
pub struct Due<'d> {
    pub key: &'d str,
    pub formula: &'d Formula,
    pub universe: &'d Universe,
}

/// A computed trait that is due.
#[derive(Debug, Clone, Copy)]
pub struct DueValue<'d> {
    /// Its new values are held against those stored under this key.
    pub key: &'d str,
    /// A trait of whichever kind.
    pub computed: &'d Computed,
    pub universe: &'d Universe,
}

/// How to evaluate; the answer does not depend on it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A condition that takes longer fails, and its audiences with it.
    pub statement_timeout_ms: u64,
    /// For each sort and hash of a query.
    pub work_mem_mib: u32,
    /// What a scan may keep of profiles at once, in bytes; with more it reads the events again for the rest.
    pub scan_bytes: usize,
    /// Whether universes may be written back; not in a read-only transaction, as that of a preview.
    pub remember: bool,
    /// By key, what an audience's run may change. One that goes beyond it is held, so whoever refers to the audience gets its
    /// stored members.
    pub limits: HashMap<String, Limit>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            statement_timeout_ms: limits::CONDITION_TIMEOUT_MS,
            work_mem_mib: limits::CONDITION_WORK_MEM_MIB,
            scan_bytes: limits::SCAN_BYTES,
            remember: true,
            limits: HashMap::new(),
        }
    }
}

/// Who is in each audience, and whose value of each trait changed, in the order asked.
#[derive(Debug)]
pub struct Evaluation {
    pub values: Vec<(String, Result<Settled>)>,
    pub audiences: Vec<(String, Result<RoaringBitmap>)>,
    /// By key, which rows of an SQL audience's statement put nobody in.
    pub passed_over: HashMap<String, PassedOver>,
    pub statistics: Statistics,
}

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Distinct conditions of all audiences.
    pub conditions: usize,
    /// Conditions that were answered by a scan, maybe with others.
    pub scanned: usize,
    /// Statements that read events or profiles.
    pub statements: usize,
    /// Rows that came out of them.
    pub rows: u64,
    pub took: Duration,
}

/// Evaluates audiences within the caller's transaction, which must be REPEATABLE READ for one snapshot to serve all.
///
/// `stored` holds the members of audiences that are not due, for references. The outer error means that nothing could
/// be evaluated (the connection is gone, the database is a standby); otherwise each audience has its own outcome.
/// Settings of the planner are left set for the rest of the transaction.
pub async fn evaluate(
    conn: &mut PgConnection,
    t: DateTime<Utc>,
    due: &[Due<'_>],
    stored: &HashMap<String, RoaringBitmap>,
    settings: &Settings,
) -> Result<Evaluation> {
    evaluate_all(conn, t, due, &[], stored, settings).await
}

/// As [`evaluate`], with the values of computed traits: they share their scans with the audiences' conditions.
pub async fn evaluate_all(
    conn: &mut PgConnection,
    t: DateTime<Utc>,
    due: &[Due<'_>],
    values: &[DueValue<'_>],
    stored: &HashMap<String, RoaringBitmap>,
    settings: &Settings,
) -> Result<Evaluation> {
    let started = Instant::now();
    // Instants of the store are whole microseconds.
    let t = t.trunc_subsecs(6);
    let moment = Moment::of(conn).await?;
    let timeout = planner::prepare(conn, settings).await?;
    let conditions = conditions::distinct(due.iter().map(|due| due.formula));
    let definitions: Vec<&ComputedTrait> = values.iter().flat_map(|due| due.computed.definitions()).collect();
    let names = names::names(conn, &conditions, &definitions).await?;
    let (late, early): (Vec<_>, Vec<_>) = conditions.iter().partition(|condition| !condition.computed().is_empty());
    let mut run = Run::new(conn, t, &names, settings.scan_bytes);
    run.all(&early, &definitions).await?;
    let Run { mut answers, found, mut statistics, .. } = run;
    statistics.conditions = conditions.len();
    let mut found = found.into_iter();
    let mut sessions = Sessions::default();
    let yielded = statements::answers(conn, due, &mut sessions).await?;
    let mut gathered = Vec::with_capacity(values.len());
    for due in values {
        gathered.push(match due.computed {
            Computed::Sql(of) => traits::values(conn, &mut sessions, due.key, &of.statement).await?,
            computed => gather(computed, &mut found),
        });
    }
    drop(sessions);
    let asked = due.iter().map(|due| due.universe).chain(values.iter().map(|due| due.universe));
    let asked: BTreeSet<&Universe> = asked.collect();
    let mut known = BTreeMap::<&str, RoaringBitmap>::new();
    for id_type in asked.iter().flat_map(|universe| universe.types()).collect::<BTreeSet<_>>() {
        known.insert(id_type, universe::members(conn, id_type, &moment, settings.remember).await?);
    }
    let leaving = leaving::leaving(conn).await?;
    planner::restore(conn, &timeout).await?;
    let within = |universe: &Universe| {
        let members = universe.types().filter_map(|id_type| known.get(id_type));
        members.fold(RoaringBitmap::new(), |all, members| all | members) - &leaving
    };
    // Most have the same: it is put together and kept once.
    let universes: HashMap<&Universe, Arc<RoaringBitmap>> =
        asked.into_iter().map(|universe| (universe, Arc::new(within(universe)))).collect();
    let findings = values.iter().zip(gathered).map(|(due, found)| Finding {
        key: due.key.to_owned(),
        found,
        universe: Arc::clone(&universes[due.universe]),
        shape: Shape::of(due.computed),
    });
    let settled = settle(conn, findings.collect()).await?;
    let current = Current { settled: &settled, stored, limits: &settings.limits };
    let compared = compare::answers(conn, due.iter().map(|due| due.formula), &current, t).await;
    let mut run = Run::new(conn, t, &names, settings.scan_bytes);
    (run.answers, run.statistics) = (answers, statistics);
    run.late(&late, &current, settings).await?;
    Run { answers, statistics, .. } = run;
    let mut audiences: Vec<(String, Result<RoaringBitmap>)> = Vec::with_capacity(due.len());
    for due in due {
        let universe = &universes[due.universe];
        let held = |key: &str, members| {
            let limit = settings.limits.get(key);
            limit.is_some_and(|limit| guard::judge_members(stored.get(key), members, limit).is_some())
        };
        let member = |key: &str| match audiences.iter().find(|(known, _)| known == key) {
            Some((_, Ok(members))) if !held(key, members) => Ok(members),
            Some((_, Ok(_))) => stored.get(key).ok_or_else(|| {
                Error::halted(format!("it refers to the audience `{key}`, whose first run is held"))
                    .help("`rollcall runs --held` says why; release or discard it.")
            }),
            Some((_, Err(error))) => {
                Err(Error::new(error.kind, format!("it refers to the audience `{key}`, which failed")))
            }
            None => stored.get(key).ok_or_else(|| {
                Error::definition(format!("it refers to the audience `{key}`, which was never computed"))
                    .help(format!("Compute `{key}` first, or in the same run."))
            }),
        };
        let answer = |leaf: &Formula| match leaf {
            Formula::Condition(condition) => told(answers.get(condition)).map(Members::answer),
            Formula::Statement(statement) => told(yielded.get(statement)).map(|(members, _)| members.answer()),
            Formula::Value(comparison) => told(compared.get(comparison)).map(Members::answer),
            Formula::Member(key) => member(key).map(|members| (members, false)),
            _ => Err(Error::internal("a formula was asked for whole")),
        };
        let members = members::members(due.formula, universe, &answer);
        audiences.push((due.key.to_owned(), members));
    }
    let passed_over = due.iter().filter_map(|due| match due.formula {
        Formula::Statement(of) => Some((due.key.to_owned(), yielded.get(of)?.as_ref().ok()?.1)),
        _ => None,
    });
    let passed_over = passed_over.collect();
    statistics.took = started.elapsed();
    Ok(Evaluation { values: settled, audiences, passed_over, statistics })
}

/// The values of one trait, from what the scans found for its definitions, in their order.
fn gather(computed: &Computed, found: &mut impl Iterator<Item = Option<Result<Values, Arc<Error>>>>) -> Result<Values> {
    let mut next = || match found.next().flatten() {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(again(&error)),
        None => Err(Error::internal("a computed trait was not evaluated")),
    };
    match computed {
        Computed::Value(_) => next(),
        Computed::Columns(keyed) => {
            // Each takes its own, also behind one that failed.
            let found: Vec<_> = keyed.iter().map(|(key, _)| Ok((key.clone(), next()?))).collect();
            columns::assemble(found.into_iter().collect::<Result<_>>()?)
        }
        Computed::Sql(_) | Computed::Members { .. } => Err(Error::internal("no scan finds this trait's values")),
    }
}

/// What was found, for one of those who ask for it.
fn told<T>(found: Option<&Result<T, Arc<Error>>>) -> Result<&T> {
    match found {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(again(error)),
        None => Err(Error::internal("what an audience is made of was not evaluated")),
    }
}

/// One error, told to each audience that it concerns.
pub(crate) fn again(error: &Arc<Error>) -> Error {
    let mut told = Error::new(error.kind, error.message.clone());
    told.help = error.help.clone();
    told.because(Arc::clone(error))
}

impl Reducer {
    /// Whether it is 0 where there is nothing to reduce: then whoever had a value has 0 when nothing is left.
    pub fn is_zero_of_nothing(&self) -> bool {
        matches!(self, Reducer::Count | Reducer::Sum(_) | Reducer::UniqueCount(_))
    }
}
