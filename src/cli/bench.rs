//! `rollcall bench`: how fast is it here, beside its yardsticks?

pub mod import;

use super::Context;
use crate::{Error, Result};

/// Measure evaluation, first sync and import beside their yardsticks.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`bench` is not here yet"))
}
