//! `rollcall serve`: keep audiences in sync by their schedules, until told to stop.

mod listening;
mod receiving;

use listening::Listening;
use receiving::Receiving;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Context;
use crate::{
    Error, Result,
    serve::{self, Server},
};

/// Keep audiences in sync by their schedules, until told to stop.
///
/// Any number of instances may run against one database: they share the work, and each takes over from one that died.
///
/// SIGTERM and Ctrl-C stop it within ten seconds, with exit code 0. SIGHUP reads the configuration again, with its variables and
/// secret files; a wrong one is refused, and the old one stays in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall serve                                    by the schedules of rollcall.yaml
  rollcall serve --log-format json                  log lines for a collector
  kill -HUP $(pidof rollcall)                       take in a changed configuration or password
  rollcall serve --only tracking                    take live messages in, and compute nothing
  rollcall schedule                                 what will run, and when")]
pub struct Args {
    /// Do one part of the work alone, so that others can do the rest.
    #[arg(long, value_enum, value_name = "PART")]
    pub only: Option<Part>,
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Compute audiences and tell changes.
    Audiences,
    /// Take live messages in.
    Tracking,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    // First of all, so that no signal is lost while the work begins.
    let (mut hangup, mut interrupt, mut terminate) =
        (listen(SignalKind::hangup())?, listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let config = context.config()?;
    if args.only == Some(Part::Tracking) && config.tracking.is_none() {
        return Err(Error::settings("`--only tracking` is asked for, but no `tracking` is configured")
            .help("Add `tracking:` with `write_keys` to the configuration."));
    }
    let pool = context.store().await?;
    let mut listening = Listening::start(&config, pool.clone(), context.clock().clone()).await?;
    let receives = config.tracking.as_ref().filter(|_| args.only != Some(Part::Audiences));
    let mut receiving = Receiving::start(pool.clone(), context.clock().clone(), receives, &config.identity).await?;
    let mut server = match args.only {
        Some(Part::Tracking) => None,
        _ => Some(Server::start(pool, context.clock().clone(), config).await?),
    };
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                if let Err(error) = reload(args.only, context, &mut server, &mut listening, &mut receiving).await {
                    serve::log(&error, "configuration", "the new configuration is refused; the old one stays in force");
                }
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            error = ended(&mut server) => return Err(error),
        }
    }
    tracing::info!("told to stop");
    let stopped = async {
        if let Some(server) = server {
            server.stop().await;
        }
    };
    tokio::join!(stopped, listening.stop(), receiving.stop());
    Ok(())
}

/// Waits for an end of the computing that nobody asked for.
async fn ended(server: &mut Option<Server>) -> Error {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}

/// Takes in what the configuration says now, as a whole or not at all.
async fn reload(
    only: Option<Part>,
    context: &Context,
    server: &mut Option<Server>,
    listening: &mut Listening,
    receiving: &mut Receiving,
) -> Result<()> {
    let config = context.config()?;
    if let Some(server) = server {
        server.reload(config.clone())?;
    }
    if only != Some(Part::Audiences) {
        receiving.follow(&config).await?;
    }
    listening.follow(&config).await
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::internal("the system lets nobody listen to signals").because(error))
}
