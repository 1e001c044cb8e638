//! `rollcall check`: is everything that the configuration names within reach?

use super::Context;
use crate::{Error, Result};

/// Check the configuration, the database and every destination, and say how to mend what is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`check` is not here yet"))
}
