//! `rollcall sync`: compute audiences now and tell the difference.

use std::{collections::HashMap, sync::Mutex};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Context, Progress, instant, output::minute, report, table};
use crate::{
    Error, Result,
    deliver::Delivered,
    delta::lane::Lane,
    membership::run::{Run, RunState},
    sync::{self, Report, Request, Told},
};

/// Compute audiences and tell Kafka who entered and who left.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall sync                             every enabled audience
  rollcall sync big_spenders lapsed         these two; what they refer to counts as last computed
  rollcall sync --at 1997-06-01             as of that midnight in UTC
  rollcall sync --dry-run                   counts alone: nothing is stored, nothing is sent")]
pub struct Args {
    /// Keys of audiences; every enabled one when none is given.
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
    /// Compute and count, but store and send nothing.
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let instance = context.instance().await?;
    let t = args.at.unwrap_or_else(|| context.clock().now());
    let request = Request { keys: args.keys, dry_run: args.dry_run };
    let bar = Bar::new(context);
    let progress = |name: &str, told: &Delivered| bar.told(name, told);
    let report = sync::sync(&instance, &config, &request, t, &progress).await?;
    drop(bar);
    show_with(&report, context, &json!({}), "")?;
    end(report, context)
}

/// One bar for all destinations, which are told at once.
pub(super) struct Bar(Mutex<(Progress, Places)>);

/// How far each lane of each destination is told.
type Places = HashMap<(String, Lane), i64>;

impl Bar {
    pub(super) fn new(context: &Context) -> Bar {
        Bar(Mutex::new((context.output().progress("changes told", None), HashMap::new())))
    }

    pub(super) fn told(&self, name: &str, told: &Delivered) {
        if let Ok(mut bar) = self.0.lock() {
            let before = bar.1.insert((name.to_owned(), told.lane), told.to.0).unwrap_or(told.from.0);
            bar.0.add(u64::try_from(told.to.0 - before).unwrap_or(0));
        }
    }
}

/// Shows a report below `said`, or beside the members of the object `more`.
pub(super) fn show_with(report: &Report, context: &Context, more: &Value, said: &str) -> Result<()> {
    let runs: Vec<_> = report.runs.iter().filter_map(|(_, run)| run.as_ref().ok()).collect();
    let deliveries: Vec<_> =
        report.deliveries.iter().filter_map(|(name, told)| Some((name, told.as_ref().ok()?))).collect();
    let failed: Vec<_> = failures(report).map(|(name, error)| json!({"name": name, "error": error.message})).collect();
    let told: Vec<_> = deliveries.iter().map(|(name, told)| json!({"destination": name, "told": told})).collect();
    let mut document = json!({"runs": runs, "deliveries": told, "failed": failed});
    for (name, value) in more.as_object().into_iter().flatten() {
        document[name] = value.clone();
    }
    context.output().show(&document, |_| {
        let header = ["run", "audience", "as of", "state", "members", "entered", "exited", "seconds"];
        let rows = runs.iter().map(|run| {
            [
                run.run.map_or_else(|| "dry".to_owned(), |run| run.to_string()),
                run.key.clone(),
                minute(run.evaluated_at),
                match run.run {
                    Some(_) => run.state.name().into(),
                    None if run.state == RunState::Held => "would be held".into(),
                    None => String::new(),
                },
                run.members.to_string(),
                run.entered.to_string(),
                run.exited.to_string(),
                format!("{:.3}", run.evaluate_ms as f64 / 1000.0),
            ]
        });
        let mut text = match (said.is_empty(), runs.is_empty()) {
            (true, _) => table(header, rows),
            (false, true) => said.to_owned(),
            (false, false) => format!("{said}\n{}", table(header, rows)),
        };
        for run in &runs {
            if let Some(rows) = run.passed_over.filter(|rows| !rows.is_none()) {
                text += &format!("\n{}: {rows}", run.key);
            }
        }
        for (name, Told { delivered: told, by_another }) in &deliveries {
            let lane = if told.lane == Lane::Bulk { ", bulk lane" } else { "" };
            text += &format!("\n{name}{lane}: {} changes told", told.to.0 - told.from.0);
            text += &if *by_another { ", by another instance".into() } else { format!(", {} records", told.records) };
            if told.quarantined > 0 {
                text += &format!(", {} in quarantine: `rollcall quarantine` lists them", told.quarantined);
            }
        }
        text
    })
}

/// A held run waits for a person, who must hear of it.
fn held(run: &Run) -> Option<Error> {
    let (id, why) = (run.run?, run.held_because.as_ref()?);
    let error = Error::halted(format!("run {id} is held and nobody is told of it: {why}"));
    Some(error.help(format!(
        "If that is right, `rollcall release {id}`. If not, mend what came in; the next run is judged anew, or `rollcall discard {id}`."
    )))
}

fn failures(report: &Report) -> impl Iterator<Item = (&String, &Error)> {
    let runs = report.runs.iter().filter_map(|(name, run)| Some((name, run.as_ref().err()?)));
    let deliveries = report.deliveries.iter().filter_map(|(name, told)| Some((name, told.as_ref().err()?)));
    runs.chain(deliveries)
}

/// What failed or is held is told in full, each by itself; the exit code is that of the one that most needs a person.
pub(super) fn end(report: Report, context: &Context) -> Result<()> {
    let Report { runs, deliveries } = report;
    let runs = runs.into_iter().filter_map(|(name, run)| {
        let error = match run {
            Ok(run) => held(&run)?,
            Err(error) => error,
        };
        Some((format!("audience '{name}'"), error))
    });
    let told = deliveries.into_iter().filter_map(|(name, told)| Some((format!("destination '{name}'"), told.err()?)));
    all(runs.chain(told), context)
}

/// Tells each failure by the name of what failed, in full; the last one, which most needs a person, by returning it.
pub(super) fn all(failed: impl Iterator<Item = (String, Error)>, context: &Context) -> Result<()> {
    let mut failed: Vec<Error> = failed
        .map(|(name, mut error)| {
            if !error.message.contains(&name) {
                error.message = format!("{name}: {}", error.message);
            }
            error
        })
        .collect();
    failed.sort_by_key(|error| error.kind.exit_code());
    let worst = failed.pop();
    failed.iter().for_each(|error| report::tell(error, context.output()));
    worst.map_or(Ok(()), Err)
}
