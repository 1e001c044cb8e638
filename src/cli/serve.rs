//! `rollcall serve`: keep audiences in sync by their schedules, until told to stop.

mod listening;
mod receiving;

use std::{sync::Arc, time::Duration};

use listening::{Answering, Listening};
use receiving::Receiving;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::interval,
};

use super::Context;
use crate::{
    Error, Result,
    config::Watch,
    database::{self, Sessions},
    fault::Safeguard,
    http::{
        operations::Operations,
        report::{Loaded, Reporter},
    },
    limits,
    profile::rules::Rules,
    serve::{self, Server, streaming::Streaming},
    telemetry::{Heartbeat, metrics},
};

/// How often to look whether the configuration has changed; a change is taken in at the second look.
const LOOK: Duration = Duration::from_secs(2);
/// How often what was counted is tidied up: else it would grow where nobody asks for it.
const UPKEEP: Duration = Duration::from_secs(30);

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
  rollcall serve --watch                            take in a changed configuration by itself
  kill -HUP $(pidof rollcall)                       take in a changed configuration or password
  rollcall serve --only tracking                    take messages of the tracking API in, and compute nothing
  rollcall serve --only streams                     take messages from Kafka in, and compute nothing
  rollcall schedule                                 what will run, and when")]
pub struct Args {
    /// Read the configuration again when its file, or one of those it takes in by `${file:…}`, has changed; as SIGHUP does.
    #[arg(long)]
    watch: bool,
    /// Do one part of the work alone, so that others can do the rest.
    #[arg(long, value_enum, value_name = "PART")]
    pub only: Option<Part>,
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Compute audiences and tell changes.
    Audiences,
    /// Take live messages in by the tracking API.
    Tracking,
    /// Take live messages in from Kafka.
    Streams,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    // First of all, so that no signal is lost while the work begins.
    let (mut hangup, mut interrupt, mut terminate) =
        (listen(SignalKind::hangup())?, listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut files = Watch::new(&context.global().config);
    let config = context.config()?;
    if args.only == Some(Part::Tracking) && config.tracking.is_none() {
        return Err(Error::settings("`--only tracking` is asked for, but no `tracking` is configured")
            .help("Add `tracking:` with `write_keys` to the configuration."));
    }
    if args.only == Some(Part::Streams) && !config.streams.values().any(|stream| stream.enabled) {
        return Err(Error::settings("`--only streams` is asked for, but no stream is configured")
            .help("Add one to `streams:` in the configuration, with `settings` and `topics`."));
    }
    let counted = metrics::start();
    let (pool, clock) = (context.store().await?, context.clock().clone());
    let rules = Arc::new(Rules::of(&config.identity)?);
    let listener = listening::bind(&config.http).await?;
    let receives = config.tracking.as_ref().filter(|_| does(args.only, Part::Tracking));
    let receiving = Receiving::start(pool.clone(), clock.clone(), receives, &config.identity).await?;
    let streaming = match does(args.only, Part::Streams) {
        true => Some(Streaming::start(pool.clone(), clock.clone(), &config).await?),
        false => None,
    };
    let server = match does(args.only, Part::Audiences) {
        true => Some(Server::start(pool.clone(), clock.clone(), config.clone()).await?),
        false => None,
    };
    let (loaded, in_force) = watch::channel(Arc::new(Loaded { config: config.clone(), at: clock.now() }));
    let instance = server.as_ref().map(Server::instance).unwrap_or_default();
    let ticker = server.as_ref().map(Server::ticker).unwrap_or_else(|| Heartbeat::of_nobody(clock.clone()));
    let reporter = Arc::new(Reporter::new(&pool, clock.clone(), in_force, instance));
    let reads = match Safeguard::ReadsApart.is_on() {
        true => database::pool(pool.connect_options().as_ref().clone(), Sessions::Reads, limits::READ_CONNECTIONS),
        false => pool.clone(),
    };
    let answering = Answering { operations: Operations { reporter, ticker }, reads, clock };
    let listening = Listening::start(listener, &config, rules, answering);
    let mut serving = Serving { only: args.only, context, server, listening, receiving, streaming, loaded };
    let (mut upkeep, mut look) = (interval(UPKEEP), interval(LOOK));
    loop {
        tokio::select! {
            _ = hangup.recv() => serving.reload().await,
            _ = look.tick(), if args.watch => {
                if files.has_changed() {
                    serving.reload().await;
                }
            }
            _ = upkeep.tick() => counted.run_upkeep(),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            error = ended(&mut serving.server) => return Err(error),
        }
    }
    tracing::info!("told to stop");
    let Serving { server, mut listening, mut receiving, streaming, .. } = serving;
    let stopped = async {
        if let Some(server) = server {
            server.stop().await;
        }
    };
    let streamed = async {
        if let Some(streaming) = streaming {
            streaming.stop().await;
        }
    };
    tokio::join!(stopped, listening.stop(), receiving.stop(), streamed);
    Ok(())
}

/// Whether a part of the work is done here.
fn does(only: Option<Part>, part: Part) -> bool {
    only.is_none_or(|only| only == part)
}

/// Waits for an end of the computing that nobody asked for.
async fn ended(server: &mut Option<Server>) -> Error {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}

/// What works by the configuration in force.
struct Serving<'a> {
    only: Option<Part>,
    context: &'a Context,
    server: Option<Server>,
    listening: Listening,
    receiving: Receiving,
    streaming: Option<Streaming>,
    loaded: watch::Sender<Arc<Loaded>>,
}

impl Serving<'_> {
    /// Takes in what the configuration says now; a wrong one is refused.
    async fn reload(&mut self) {
        let outcome = match self.follow().await {
            Ok(()) => "applied",
            Err(error) => {
                serve::log(&error, "configuration", "the new configuration is refused; the old one stays in force");
                "refused"
            }
        };
        metrics::reloaded(outcome);
    }

    async fn follow(&mut self) -> Result<()> {
        let config = self.context.config()?;
        if let Some(streaming) = &self.streaming {
            streaming.check(&config)?;
        }
        // All that can fail comes first: a configuration is in force as a whole, or not at all.
        let receiving = match does(self.only, Part::Tracking) {
            true => Some(self.receiving.prepare(&config).await?),
            false => None,
        };
        let listening = self.listening.prepare(&config).await?;
        if let Some(server) = &mut self.server {
            server.reload(config.clone())?;
        }
        if let Some(streaming) = &mut self.streaming {
            streaming.follow(&config);
        }
        if let Some(next) = receiving {
            self.receiving.follow(&config, next).await;
        }
        self.listening.follow(&config, listening).await;
        self.loaded.send_replace(Arc::new(Loaded { config, at: self.context.clock().now() }));
        Ok(())
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::internal("the system lets nobody listen to signals").because(error))
}
