//! `rollcall streams`: how far is each stream taken in?

use super::{Context, status::instant, table};
use crate::{Result, profile::streamed};

/// List how far the partitions of each stream are taken in, and what is left to read.
///
/// As the database knows it: Kafka is not asked. `looked at` says as of when the ends are; records that were refused are counted by
/// stream, and `rollcall refused` says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall streams
  rollcall streams --json | jq '[.[].lag] | add'            what is left to read, of all")]
pub struct Args {}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let all = streamed::progress(&context.store().await?).await?;
    context.output().show(&all, |all| {
        if all.is_empty() {
            return "no stream has been read".into();
        }
        let rows = all.iter().map(|of| {
            let (partition, next, end) =
                (of.partition.to_string(), of.next_offset.to_string(), of.end_offset.to_string());
            let (lag, refused, looked_at) = (of.lag.to_string(), of.refused.to_string(), instant(Some(of.looked_at)));
            [of.stream.clone(), of.topic.clone(), partition, next, end, lag, refused, looked_at]
        });
        table(["stream", "topic", "partition", "next offset", "end", "lag", "refused in all", "looked at"], rows)
    })
}
