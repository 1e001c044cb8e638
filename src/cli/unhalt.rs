//! `rollcall unhalt`: how does a halted destination go on, once a person has decided?

use sqlx::PgPool;

use super::Context;
use crate::{
    Error, Result,
    deliver::unhalt::{self, Anew},
    delta::{self, Head, lane::Lane},
};

/// Decide what a halted destination does next. Nothing is sent by this; the next sync goes on.
///
/// An instance that tells the destination ends the transaction that it is at, and waits meanwhile. A halt whose cause was put right needs no decision: the next sync looks at the facts anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall status                                        why it halted
  rollcall unhalt kafka --forget-topic audiences         the topic was emptied on purpose: go on from here
  rollcall unhalt kafka --start-over                     tell the whole log again, from its beginning")]
pub struct Args {
    /// The destination's name in the configuration.
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    #[command(flatten)]
    pub decision: Decision,
}

/// Exactly one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Decision {
    /// Begin a new stream: every change ever sealed is told again in its order, with new message ids.
    #[arg(long)]
    pub start_over: bool,
    /// Take a topic that was deleted and created again for what it is, empty, and go on where the cursor stands.
    #[arg(long, value_name = "TOPIC")]
    pub forget_topic: Option<String>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let head = delta::head(&pool, &args.destination, Lane::Live).await?;
    let name = &args.destination;
    let held = unhalt::lease(&context.instance().await?, name).await?;
    let decided = decide(&args, &pool, &head).await;
    held.release().await;
    let said = decided?;
    context.output().show(&serde_json::json!({"destination": name, "decided": said}), |_| said.clone())
}

async fn decide(args: &Args, pool: &PgPool, head: &Head) -> Result<String> {
    let name = &args.destination;
    let said = match &args.decision.forget_topic {
        Some(topic) if unhalt::forget_topic(pool, head.destination, topic).await? => {
            format!("'{name}' takes the topic '{topic}' for a new one, and goes on from position {}.", head.mirror)
        }
        Some(topic) => {
            return Err(Error::settings(format!("'{name}' never told the topic '{topic}' anything"))
                .help("`rollcall status` names the topic that it halted for."));
        }
        None => {
            let bulk = delta::find(pool, name, Lane::Bulk).await?;
            let changes = head.end.0 + bulk.map_or(0, |bulk| bulk.end.0);
            match unhalt::start_over(pool, head.destination).await? {
                Anew::Log => format!("'{name}' begins a new stream; the next sync tells {changes} changes again."),
                Anew::Memberships => format!(
                    "'{name}' begins a new stream. A part of its log is past retention or damaged, so each audience's next run tells all members."
                ),
            }
        }
    };
    Ok(said)
}
