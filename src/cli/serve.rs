//! `rollcall serve`: keep audiences in sync by their schedules, until told to stop.

mod listening;

use listening::Listening;
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
  rollcall schedule                                 what will run, and when")]
pub struct Args {}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    // First of all, so that no signal is lost while the work begins.
    let (mut hangup, mut interrupt, mut terminate) =
        (listen(SignalKind::hangup())?, listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let config = context.config()?;
    let pool = context.store().await?;
    let mut listening = Listening::start(&config).await?;
    let mut server = Server::start(pool, context.clock().clone(), config).await?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                if let Err(error) = reload(context, &mut server, &mut listening).await {
                    serve::log(&error, "configuration", "the new configuration is refused; the old one stays in force");
                }
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            error = server.ended() => return Err(error),
        }
    }
    tracing::info!("told to stop");
    tokio::join!(server.stop(), listening.stop());
    Ok(())
}

/// Takes in what the configuration says now, as a whole or not at all.
async fn reload(context: &Context, server: &mut Server, listening: &mut Listening) -> Result<()> {
    let config = context.config()?;
    server.reload(config.clone())?;
    listening.follow(&config).await
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::internal("the system lets nobody listen to signals").because(error))
}
