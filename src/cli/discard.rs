//! `rollcall discard`: a held run is wrong; nobody is told of it.

use serde_json::json;

use super::Context;
use crate::{Result, membership::run::RunState, runs::held};

/// Refuse a held run: nobody is told of it, and the audience stays as it was.
///
/// The audience's next run is evaluated and judged anew, so mend what came in first. Without a decision a held run counts as
/// superseded as soon as the next one is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall runs --held                      what is held, and why
  rollcall discard 4711
  rollcall discard big_spenders             the held run of this audience")]
pub struct Args {
    /// A run's number, or the key of its audience.
    #[arg(value_name = "RUN|KEY")]
    pub run: String,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let held = held::find(&pool, &args.run).await?;
    held::discard(&pool, held.run).await?;
    context.output().show(&json!({"run": held.run, "key": held.key, "state": RunState::Discarded}), |_| {
        format!("Run {} of '{}' is discarded; nobody is told of it.", held.run, held.key)
    })
}
