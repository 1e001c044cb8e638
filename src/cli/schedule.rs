//! `rollcall schedule`: when will audiences be computed?

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::{Context, instant, table};
use crate::{Error, Result, schedule::Setting};

/// Print the coming ticks of the schedules, and which of them a clock change moves.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall schedule
  rollcall schedule lapsed --next 5
  rollcall schedule lapsed --from 2026-03-28    over the change to summer time")]
pub struct Args {
    /// Only this audience or trait.
    key: Option<String>,
    /// How many ticks.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    next: u16,
    /// The ticks after this instant (2026-03-28T12:00:00Z), or after the midnight in UTC of a date; now when not given.
    #[arg(long, value_parser = instant, value_name = "INSTANT")]
    from: Option<DateTime<Utc>>,
}

/// A coming tick of one audience.
#[derive(Debug, Serialize)]
struct Coming {
    /// With the offset of its zone at that time.
    at: DateTime<Tz>,
    audience: String,
    zone: &'static str,
    /// Whether a clock change skips its local time, so that it falls on the first instant after.
    moved: bool,
    /// When the run starts: the tick and the audience's share of the jitter.
    starts_at: DateTime<Utc>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let wanted = |(key, enabled, _): &(String, bool, Option<&Setting>)| match &args.key {
        Some(wanted) => wanted == key,
        None => *enabled,
    };
    let computations: Vec<_> = config.computations().filter(wanted).collect();
    if let (Some(key), true) = (&args.key, computations.is_empty()) {
        let error = Error::settings(format!("no audience or trait has the key `{key}`"));
        return Err(error.help("`rollcall audiences` lists them."));
    }
    let from = args.from.unwrap_or_else(|| context.clock().now());
    let count = usize::from(args.next);
    let mut coming = Vec::new();
    for (key, _, setting) in computations {
        let Some(setting) = setting else { continue };
        let schedule = setting
            .parse(&format!("schedule of `{key}`"))
            .map_err(|problems| Error::settings(format!("the schedule of `{key}` is not understood")).at(problems))?;
        coming.extend(schedule.ticks(from).take(count).map(|tick| Coming {
            at: tick.at.with_timezone(&schedule.zone()),
            audience: key.clone(),
            zone: schedule.zone().name(),
            moved: tick.moved,
            starts_at: tick.at + schedule.delay(&key),
        }));
        // Never more than is shown, however many audiences there are.
        coming.sort_by(|one, other| (one.at, &one.audience).cmp(&(other.at, &other.audience)));
        coming.truncate(count);
    }
    context.output().show(&coming, |coming| {
        if coming.is_empty() {
            return match &args.key {
                Some(key) => format!("`{key}` has no schedule."),
                None => "No enabled audience has a schedule.".into(),
            };
        }
        let at = |tick: &Coming| tick.at.format("%Y-%m-%d %H:%M:%S %:z").to_string();
        let rows = coming.iter().map(|tick| [at(tick), tick.audience.clone(), tick.zone.into(), tick.note()]);
        table(["at", "audience", "zone", "note"], rows)
    })
}

impl Coming {
    fn note(&self) -> String {
        let starts_at = self.starts_at.with_timezone(&self.at.timezone());
        let moved = self.moved.then(|| "moved by a clock change".to_string());
        let delayed = (starts_at > self.at).then(|| format!("starts at {}", starts_at.format("%H:%M:%S")));
        moved.into_iter().chain(delayed).collect::<Vec<_>>().join(", ")
    }
}
