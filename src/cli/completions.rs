//! `rollcall completions`: let the shell finish the words.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Context};
use crate::Result;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall completions bash > /etc/bash_completion.d/rollcall
  rollcall completions zsh > \"${fpath[1]}/_rollcall\"
  rollcall completions fish > ~/.config/fish/completions/rollcall.fish")]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rollcall", &mut script);
    context.output().line(&String::from_utf8_lossy(&script))
}
