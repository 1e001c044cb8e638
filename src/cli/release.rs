//! `rollcall release`: a held run is right; let it through.

use super::Context;
use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    runs::held,
    sync,
};

/// Let a held run through, exactly as it was evaluated.
///
/// Its members become the audience's membership, and its change stands in the log of each destination. Nothing is sent by this
/// command: `rollcall serve` tells it at once, else the next sync does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall runs --held                      what is held, and why
  rollcall release 4711
  rollcall release big_spenders             the held run of this audience")]
pub struct Args {
    /// A run's number, or the key of its audience.
    #[arg(value_name = "RUN|KEY")]
    pub run: String,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let pool = context.store().await?;
    let held = held::find(&pool, &args.run).await?;
    let catalogue = Catalogue::of(&config, &Known::default());
    let audience = catalogue.audiences.into_iter().find(|audience| audience.key == held.key).ok_or_else(|| {
        Error::settings(format!("the configuration has no sound audience '{}'", held.key))
            .help("It says who is told: name the configuration that defines the audience, or discard the run.")
    })?;
    let terms = sync::terms(&sync::targets(&config));
    let run = held::release(&pool, held.run, &audience, &terms).await?;
    context.output().show(&run, |run| {
        format!(
            "Run {} of '{}' is released: {} enter, {} leave, {} are in. `rollcall serve` or the next sync tells them.",
            held.run, run.key, run.entered, run.exited, run.members
        )
    })
}
