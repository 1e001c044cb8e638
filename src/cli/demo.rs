//! `rollcall demo`: the whole flow on real customers' orders, with nothing to prepare.

use super::Context;
use crate::{Error, Result};

/// See it work: real customers' orders, eight audiences, weekly syncs, events read back from Kafka.
///
/// Starts its own Postgres and an in-process Kafka, and stops both on exit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall demo
  rollcall demo --weeks 60
  rollcall demo --kafka localhost:9092 --database postgres://localhost/rollcall")]
pub struct Args {
    /// A real Kafka to send to, instead of the in-process one.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// How many weekly syncs follow the first one.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub weeks: u32,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`demo` is not here yet"))
}
