//! `rollcall refused`: what live sources send that is wrong.

use super::{Context, table};
use crate::{Result, profile::refused};

/// List what live sources sent that was refused, or stored with another time: how often and why, the latest first.
///
/// A source that was mended leaves its rows behind; `--clear` forgets them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall refused                          causes, with how often and when last
  rollcall refused --clear                  forget them, once the source is mended")]
pub struct Args {
    /// Forget what is listed.
    #[arg(long)]
    pub clear: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let all = refused::list(&pool).await?;
    context.output().show(&all, |all| {
        if all.is_empty() {
            return "nothing was refused".into();
        }
        let rows = all.iter().map(|refused| {
            let field = if refused.field == "line" { "message" } else { &refused.field };
            let seconds = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%SZ").to_string();
            [
                refused.source.clone(),
                format!("{field} {}", refused.reason),
                refused.messages.to_string(),
                seconds(refused.first_at),
                seconds(refused.last_at),
            ]
        });
        table(["source", "why", "messages", "first", "last"], rows)
    })?;
    if args.clear {
        refused::clear(&pool).await?;
    }
    Ok(())
}
