//! `rollcall import`: messages in.

use std::path::PathBuf;

use super::Context;
use crate::{Error, Result};

/// Read Segment messages (one JSON a line, also .gz and .zst) or CSV into the profile store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to read; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`import` is not here yet"))
}
