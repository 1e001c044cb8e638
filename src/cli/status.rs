//! `rollcall status`: does each destination keep up, and is any of them halted?

use super::Context;
use crate::{Error, Result};

/// Show each destination: its state, position, what is left to send, and what is quarantined.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall status
  rollcall status --json | jq '.[] | select(.state == \"halted\")'")]
pub struct Args {}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`status` is not here yet"))
}
