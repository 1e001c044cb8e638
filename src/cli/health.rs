//! `rollcall health`: is the `serve` on this machine well? For health checks of containers, which may have no other HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::ValueEnum;
use serde_json::Value;

use super::Context;
use crate::{
    Error, Result,
    config::{Config, Http},
};

/// How long the listener may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask the `serve` on this machine whether it is well: exit code 0 if it is, 5 if not or if nobody answers.
///
/// It asks the listener that the configuration names under `http`, with its token.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall health                   does it live? HEALTHCHECK CMD [\"rollcall\", \"health\"]
  rollcall health ready             can it work?
  rollcall health fresh             is every audience as fresh as promised?")]
pub struct Args {
    /// What to ask.
    #[arg(value_enum, default_value_t)]
    question: Question,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Question {
    /// The process lives, and its ticker goes round.
    #[default]
    Alive,
    /// The database answers, and has the right schema.
    Ready,
    /// No audience is overdue, and no destination halted.
    Fresh,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = if context.global().config.exists() { context.config()? } else { Config::default() };
    let address = address(&config.http)?;
    let path = match args.question {
        Question::Alive => "healthz",
        Question::Ready => "readyz",
        Question::Fresh => "freshness",
    };
    let token = config.http.token.map(|token| format!("Bearer {}", token.expose()));
    let asked = tokio::task::spawn_blocking(move || ask(&format!("http://{address}/{path}"), token.as_deref()));
    let (status, body) =
        asked.await.map_err(|panic| Error::internal("asking broke off").because(panic))?.map_err(|error| {
            Error::wait(format!("nobody answers on {address}"))
                .help("Is `rollcall serve` running, with this configuration? Its log says where it listens.")
                .because(error)
        })?;
    let said = body["status"].as_str().unwrap_or("not understood").replace('_', " ");
    if status == 200 {
        return context.output().show(&body, |_| said);
    }
    let names = |list: &Value| {
        let names = list.as_array().into_iter().flatten().map(|one| one["key"].as_str().or(one.as_str()));
        names.flatten().collect::<Vec<_>>().join(", ")
    };
    let about = [names(&body["overdue"]), names(&body["halted"])].into_iter().filter(|names| !names.is_empty());
    let about: Vec<String> = about.collect();
    let about = if about.is_empty() { String::new() } else { format!(": {}", about.join(", ")) };
    Err(Error::wait(format!("serve is {said}{about}")).help("`rollcall status` and the log say more."))
}

/// Where to reach the listener from this machine.
fn address(http: &Http) -> Result<SocketAddr> {
    let address = http.address().ok_or_else(|| {
        Error::settings("the configuration wants no listener").help("Remove `enabled: false` below `http`.")
    })?;
    if address.port() == 0 {
        return Err(Error::settings("the listener's port is whichever was free, so it is not known here")
            .help("Name a port in `http: {listen: …}`."));
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

fn ask(url: &str, authorization: Option<&str>) -> Result<(u16, Value), ureq::Error> {
    // No proxy: it is this machine that is asked.
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.build().into();
    let mut request = agent.get(url);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let mut answer = request.call()?;
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listen;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        let at = |listen: &str| {
            address(&Http { listen: Some(Listen(listen.parse().unwrap())), ..Http::default() }).map(|at| at.to_string())
        };
        assert_eq!(at("0.0.0.0:80").unwrap(), "127.0.0.1:80");
        assert_eq!(at("[::]:80").unwrap(), "[::1]:80");
        assert_eq!(at("10.1.2.3:80").unwrap(), "10.1.2.3:80");
        assert!(at("0.0.0.0:0").is_err());
        assert!(address(&Http { enabled: false, ..Http::default() }).is_err());
    }
}
