//! `rollcall pull`: what is new in the tables of `sources`.

use serde::Serialize;

use super::{Context, sync, table};
use crate::{
    Error, Result,
    profile::{promote::promote, pulled::Summary},
    pull,
};

/// Read what is new in the SQL sources, once, and store it. `serve` does so by their schedules.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall pull                  every enabled source
  rollcall pull customers --json")]
pub struct Args {
    /// The source; every enabled one when not given.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// What is printed.
#[derive(Serialize)]
struct Answer {
    pulled: Vec<Summary>,
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    source: String,
    error: String,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let chosen = pull::chosen(&config, args.name.as_deref())?;
    let instance = context.instance().await?;
    promote(&instance.pool, &config.store.promote, |_, _| {}).await?;
    let (mut answer, mut errors) = (Answer { pulled: Vec::new(), failed: Vec::new() }, Vec::new());
    for name in chosen {
        let mut progress = context.output().progress("rows", None);
        let mut told = 0;
        let tell = |summary: &Summary| {
            let done = summary.rows + summary.unchanged;
            progress.add(done - told);
            told = done;
        };
        let pulled = match pull::lease(&instance, name).await? {
            Some(held) => {
                let pulled = pull::pull(&instance, &config, name, tell).await;
                held.release().await;
                pulled
            }
            None => Err(Error::wait(format!("another instance is pulling the source '{name}'"))),
        };
        match pulled {
            Ok(summary) => answer.pulled.push(summary),
            Err(error) => {
                answer.failed.push(Failed { source: name.to_owned(), error: error.message.clone() });
                errors.push((format!("source '{name}'"), error));
            }
        }
    }
    context.output().show(&answer, |answer| {
        let rows = answer.pulled.iter().map(|of| {
            let counts = [of.rows, of.stored, of.repeated, of.unchanged, of.vanished, of.refused, of.suppressed];
            let mut cells = vec![of.source.clone()];
            cells.extend(counts.map(|count| count.to_string()));
            <[String; 8]>::try_from(cells).unwrap_or_default()
        });
        table(["source", "rows", "stored", "known", "unchanged", "vanished", "refused", "suppressed"], rows)
    })?;
    sync::all(errors.into_iter(), context)
}
