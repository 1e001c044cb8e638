//! `rollcall plan`: what would applying this configuration do?

mod markdown;
mod text;

use std::{fs, path::PathBuf, process::ExitCode};

use chrono::{DateTime, Utc};

use super::{Context, instant};
use crate::{
    Error, Result,
    plan::{self, Plan},
};

pub(super) use text::text;

/// The exit code of `--detailed-exitcode` where something would change. Terraform's is 2, which is here a wrong command line.
const CHANGES: u8 = 10;

/// Show what applying the configuration would do: which audiences change, who would enter and leave, and what is told of it.
///
/// Nothing is stored and nothing is sent. Numbers are of one snapshot, against what was last accepted and told; so they hold what
/// time and new events have changed since the last run as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall plan
  rollcall plan --samples 3                         with a few people in each direction
  rollcall plan --markdown > plan.md                for a pull request
  rollcall plan --out plan.json && rollcall apply --plan plan.json
  rollcall plan --detailed-exitcode                 0: nothing to do, 10: something would change")]
pub struct Args {
    /// Show so many of the people who would enter and leave, by their identifiers: personal data.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub samples: usize,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
    /// Write Markdown, as a comment on a pull request takes it.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Write the plan to a file as well, for `rollcall apply --plan`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit with 10 if something would change, and 0 if not.
    #[arg(long)]
    pub detailed_exitcode: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let config = context.config()?;
    let pool = context.store().await?;
    let at = args.at.unwrap_or_else(|| context.clock().now());
    let plan = plan::plan(&pool, &config, at, args.samples).await?;
    if let Some(file) = &args.out {
        write(file, &plan)?;
    }
    match args.markdown {
        true => context.output().line(&markdown::markdown(&plan))?,
        false => context.output().show(&plan, |plan| text(plan, context.output().colors()))?,
    }
    if let Some((key, _)) = plan.refused.iter().next() {
        let more = match plan.refused.len() {
            1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        return Err(Error::definition(format!("'{key}'{more} cannot be computed"))
            .help("`rollcall apply` does nothing as long as that is so; `rollcall sync --dry-run` shows each place."));
    }
    let changes = args.detailed_exitcode && !plan.is_empty();
    Ok(ExitCode::from(if changes { CHANGES } else { 0 }))
}

fn write(file: &PathBuf, plan: &Plan) -> Result<()> {
    let text = serde_json::to_string_pretty(plan)
        .map_err(|error| Error::internal("a plan cannot be written as JSON").because(error))?;
    fs::write(file, text + "\n")
        .map_err(|error| Error::settings(format!("the plan cannot be written to {}", file.display())).because(error))
}

/// Reads what [`write`] wrote, or what `rollcall plan --json` printed.
pub(super) fn read(file: &PathBuf) -> Result<Plan> {
    let text = fs::read_to_string(file)
        .map_err(|error| Error::settings(format!("the plan {} cannot be read", file.display())).because(error))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::settings(format!("{} is no plan", file.display()))
            .help("Make one with `rollcall plan --out FILE`.")
            .because(error)
    })
}
