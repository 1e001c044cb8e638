//! `rollcall diff`: who entered and who left between two runs?

use std::str::FromStr;

use serde::Serialize;

use super::{Context, output::minute};
use crate::{
    Result,
    ids::{ProfileId, RunId},
    profile::lookup::{self, Name},
    runs::history::{self, Point, Span},
};

/// Show who entered and who left an audience between two runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall diff big_spenders                  what its last run changed
  rollcall diff big_spenders 17               what run 17 changed
  rollcall diff big_spenders 17..21           from after run 17 to after run 21
  rollcall diff big_spenders 17.. --only exited --limit 1000
  rollcall diff big_spenders 17.. --json | jq '.people[].user_id'

`rollcall runs KEY` lists the runs. Who entered and left again in between is not shown.")]
pub struct Args {
    /// Key of the audience.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// `FROM..TO`; without TO up to the last run, without FROM from the earliest that is kept. One number: what that run changed.
    #[arg(value_name = "RUN..RUN", default_value = "last", hide_default_value = true)]
    pub runs: Runs,
    /// Only who entered, or only who exited.
    #[arg(long, value_name = "WHICH")]
    pub only: Option<Side>,
    /// How many people to list at most, of each side.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
}

/// Which side of a membership somebody changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Entered,
    Exited,
}

/// Two runs, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs(Span);

impl FromStr for Runs {
    type Err = String;

    fn from_str(text: &str) -> Result<Runs, String> {
        let run = |text: &str| -> Result<Option<RunId>, String> {
            let number = (!text.is_empty()).then(|| text.parse()).transpose();
            number.map(|run| run.map(RunId)).map_err(|_| "expected the numbers of runs, as 17..21, 17.. or 17".into())
        };
        match text.split_once("..") {
            _ if text == "last" => Ok(Runs(Span::Of(None))),
            Some((from, to)) => Ok(Runs(Span::Between(run(from)?, run(to)?))),
            None => Ok(Runs(Span::Of(run(text)?))),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    audience: String,
    /// Absent if it begins before the first run, where nobody was a member.
    from: Option<Point>,
    to: Point,
    entered: u64,
    exited: u64,
    people: Vec<Person>,
}

#[derive(Debug, Serialize)]
struct Person {
    change: Side,
    #[serde(flatten)]
    name: Name,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let found = history::between(&pool, &args.key, args.runs.0).await?;
    let mut conn = pool.acquire().await?;
    let mut people = Vec::new();
    for (change, who) in [(Side::Entered, &found.change.entered), (Side::Exited, &found.change.exited)] {
        if args.only.is_none_or(|only| only == change) {
            let listed: Vec<ProfileId> = who.iter().take(args.limit as usize).map(ProfileId).collect();
            let names = lookup::names(&mut conn, &listed).await?;
            people.extend(names.into_iter().map(|name| Person { change, name }));
        }
    }
    let (entered, exited) = (found.change.entered.len(), found.change.exited.len());
    let report = Report { audience: args.key, from: found.from, to: found.to, entered, exited, people };
    context.output().show(&report, text)?;
    let listed = |side| report.people.iter().filter(|person| person.change == side).count() as u64;
    let hides = |side, all| args.only.is_none_or(|only| only == side) && listed(side) < all;
    if !context.output().is_json() && (hides(Side::Entered, entered) || hides(Side::Exited, exited)) {
        context.output().note("--limit shows more.")?;
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let point =
        |point: &Point| format!("run {} ({}, {} members)", point.run, minute(point.evaluated_at), point.members);
    let from = report.from.as_ref().map_or_else(|| "nothing".into(), point);
    let mut text = format!("{}: from {from} to {}\n", report.audience, point(&report.to));
    text += &format!("{} entered, {} exited\n", report.entered, report.exited);
    for Person { change, name } in &report.people {
        text += &format!("{} {name}\n", if *change == Side::Entered { '+' } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_written_as_one_number_or_two_with_either_left_away() {
        let read = |text: &str| text.parse::<Runs>().map(|runs| runs.0);
        assert_eq!(read("17..21"), Ok(Span::Between(Some(RunId(17)), Some(RunId(21)))));
        assert_eq!(read("17.."), Ok(Span::Between(Some(RunId(17)), None)));
        assert_eq!(read("..21"), Ok(Span::Between(None, Some(RunId(21)))));
        assert_eq!(read("17"), Ok(Span::Of(Some(RunId(17)))));
        assert!(read("17...21").is_err() && read("a..b").is_err() && read("-").is_err());
    }
}
