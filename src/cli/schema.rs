//! `rollcall schema`: what may stand in the configuration file? Said in JSON Schema, for editors.

use super::Context;
use crate::{Result, config};

/// Print the JSON Schema of rollcall.yaml, for editors.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall schema > rollcall.schema.json
  then, as the first line of rollcall.yaml:
  # yaml-language-server: $schema=rollcall.schema.json")]
pub struct Args {}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let schema = serde_json::to_string_pretty(&config::schema())
        .map_err(|error| crate::Error::internal("the schema could not be written").because(error))?;
    context.output().line(&schema)
}
