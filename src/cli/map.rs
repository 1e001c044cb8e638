//! `rollcall map`: what record does an event become?

pub mod vectors;

use super::Context;
use crate::{Error, Result};

/// Show the Kafka record that an event becomes, without sending it.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`map` is not here yet"))
}
