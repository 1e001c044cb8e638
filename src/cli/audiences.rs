//! `rollcall audiences`: whom do we mean, and what was found last?

use super::Context;
use crate::{Error, Result};

/// List the configured audiences with their state, schedule, last run and members.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context.config()?);
    Err(Error::internal("`audiences` is not here yet"))
}
