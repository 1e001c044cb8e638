//! `rollcall apply`: make it so, once a person has seen what it does.

use std::{
    io::{self, BufRead, IsTerminal as _, Write},
    path::PathBuf,
};

use serde_json::json;

use super::{Context, plan as shown, sync as told};
use crate::{
    Error, Result,
    config::Config,
    plan::{self, Applied, Plan},
    sync::{self, Report, Request},
};

/// Apply the configuration: register what is added and changed, delete what is removed, and tell the difference.
///
/// On a terminal it shows the plan and asks; elsewhere it wants `--yes`, or the plan that somebody has looked at. What is applied
/// is what was shown: if the configuration or the database has changed since, nothing is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall apply                            show the plan, ask, apply, sync what changed
  rollcall apply --plan plan.json           the plan of `rollcall plan --out plan.json`, without asking
  rollcall apply --plan-digest 0123456789abcdef
                                            the plan with this digest, as `rollcall plan` has shown it
  rollcall apply --yes                      without asking; a change beyond the guard is held
  rollcall apply --no-sync                  leave the computing and telling to `rollcall serve` or the next sync")]
pub struct Args {
    /// A plan that was looked at: its numbers are confirmed, and nothing else is applied.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// The digest that the plan which was looked at ends with: nothing else is applied, and nobody is asked. The numbers are not
    /// confirmed by it, so the guard holds what is beyond it.
    #[arg(long, value_name = "DIGEST", conflicts_with = "plan")]
    pub plan_digest: Option<String>,
    /// Do not ask. Nobody has confirmed the numbers then, so the guard holds what is beyond it.
    #[arg(long, short)]
    pub yes: bool,
    /// Register and delete, but compute and tell nothing.
    #[arg(long)]
    pub no_sync: bool,
    /// Show so many of the people who would enter and leave, by their identifiers: personal data.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub samples: usize,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let pool = context.store().await?;
    let now = context.clock().now();
    let looked_at = args.plan.as_ref().map(shown::read).transpose()?;
    let plan = plan::plan(&pool, &config, now, args.samples).await?;
    let expected = looked_at.as_ref().map(|looked_at| &looked_at.digest).or(args.plan_digest.as_ref());
    if expected.is_some_and(|digest| *digest != plan.digest) {
        return Err(plan::stale());
    }
    if plan.is_empty() && plan.refused.is_empty() {
        return context.output().show(&json!({"plan": plan}), |_| shown::text(&plan, context.output().colors()));
    }
    let seen = match looked_at {
        Some(looked_at) => Some(looked_at),
        None => ask(&args, &plan, context).await?.then(|| plan.clone()),
    };
    let applied = plan::apply(&pool, &config, &plan, seen.as_ref(), now).await?;
    let report = match args.no_sync {
        true => Report::default(),
        false => follow(&config, &plan, &applied, context).await?,
    };
    told::show_with(&report, context, &json!({"plan": plan, "applied": applied}), &said(&applied, args.no_sync))?;
    told::end(report, context)
}

/// Shows the plan to whoever may say no. Whether a person has said yes to its numbers.
async fn ask(args: &Args, plan: &Plan, context: &Context) -> Result<bool> {
    let output = context.output();
    if !output.is_json() {
        output.line(&shown::text(plan, output.colors()))?;
    }
    if args.yes || args.plan_digest.is_some() || !plan.refused.is_empty() {
        return Ok(false);
    }
    let is_terminal = !output.is_json() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let answer = tokio::task::spawn_blocking(move || confirm(io::stdin().lock(), io::stderr(), is_terminal));
    answer.await.map_err(|error| Error::internal("the question was not answered").because(error))??;
    Ok(true)
}

/// Asks whoever is at the terminal. All but a `yes` is a no, the end of the input too.
fn confirm(mut input: impl BufRead, mut output: impl Write, is_terminal: bool) -> Result<()> {
    if !is_terminal {
        return Err(Error::settings("nobody is here to be asked")
            .help("Give the plan that was looked at with --plan or --plan-digest, or --yes to apply without a look."));
    }
    let mut line = String::new();
    let answered =
        writeln!(output, "Apply this? Only `yes` is taken for one.").and_then(|()| input.read_line(&mut line));
    match answered {
        Ok(_) if line.trim() == "yes" => Ok(()),
        _ => Err(Error::settings("nothing was applied")),
    }
}

/// Computes what changed, and tells it.
async fn follow(config: &Config, plan: &Plan, applied: &Applied, context: &Context) -> Result<Report> {
    let instance = context.instance().await?;
    let keys = plan.to_sync();
    let bar = told::Bar::new(context);
    let progress = |name: &str, delivered: &crate::deliver::Delivered| bar.told(name, delivered);
    if !keys.is_empty() {
        let request = Request { keys, dry_run: false };
        return sync::sync(&instance, config, &request, context.clock().now(), &progress).await;
    }
    if applied.farewells.is_empty() {
        return Ok(Report::default());
    }
    Ok(Report { runs: Vec::new(), deliveries: sync::tell(&instance, sync::targets(config), &progress).await })
}

fn said(applied: &Applied, no_sync: bool) -> String {
    let of = |what: &str, keys: &[String]| (!keys.is_empty()).then(|| format!("{what}: {}.", keys.join(", ")));
    let parts =
        [of("Added", &applied.added), of("Changed", &applied.changed), of("Deleted", &applied.removed)].into_iter();
    let mut text = parts.flatten().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text = "Applied.".into();
    }
    if no_sync {
        text.push_str(" Nothing is computed or told yet: `rollcall serve` or the next sync does it.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_terminal_only_yes_is_taken_for_one() {
        for (answer, is_applied) in [
            ("yes\n", true),
            ("  yes \r\n", true),
            ("yes", true),
            ("y\n", false),
            ("Yes\n", false),
            ("no\nyes\n", false),
            ("\n", false),
            ("", false),
        ] {
            let mut asked = Vec::new();
            assert_eq!(confirm(answer.as_bytes(), &mut asked, true).is_ok(), is_applied, "{answer:?}");
            assert_eq!(asked, b"Apply this? Only `yes` is taken for one.\n");
        }
    }

    #[test]
    fn without_a_terminal_nobody_is_asked_whatever_the_input_says() {
        let (mut input, mut asked) = (&b"yes\n"[..], Vec::new());
        let error = confirm(&mut input, &mut asked, false).unwrap_err();
        assert_eq!((error.kind, error.to_string().as_str()), (crate::Kind::Settings, "nobody is here to be asked"));
        assert!(asked.is_empty());
        assert_eq!(input, b"yes\n", "it is not even read");
    }
}
