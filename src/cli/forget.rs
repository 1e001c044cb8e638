//! `rollcall forget`, `suppress` and `unsuppress`: people who do not want to be known.

use std::{fs, path::PathBuf};

use serde::Serialize;

use super::{Context, output::minute, table};
use crate::{
    Error, Result,
    clock::Clock,
    config::Config,
    forget,
    lease::Instance,
    limits::FORGOTTEN_AT_ONCE,
    profile::{
        forget::{self as requests, Asked, Report, Request},
        lookup::Identifier,
    },
    sync,
};

/// Forget people: tell false what was told true, then erase all that is known of them.
///
/// From then on nothing of them is taken in: of each identifier a salted digest is kept, and nothing else. A request that cannot
/// end yet, because a destination is away, goes on with `rollcall serve`, or when this is called again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall forget 42                          the person with that user_id
  rollcall forget email:ann@example.com --tombstone
  rollcall forget --file requests.txt         one identifier a line
  rollcall forget                             go on with requests that are not done
  rollcall forget --list")]
pub struct Args {
    /// Whom: a user_id, or another identifier with its type.
    #[arg(value_name = "IDENTIFIER")]
    pub people: Vec<String>,
    /// More of them, one a line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Tell each destination a null value for the record's key as well, which compacted topics forget by.
    #[arg(long)]
    pub tombstone: bool,
    /// Erase without waiting until every destination was told: whoever was not keeps what they know.
    #[arg(long)]
    pub now: bool,
    /// List the requests and how far each is.
    #[arg(long, conflicts_with_all = ["people", "file", "tombstone", "now"])]
    pub list: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Answer {
    requested: usize,
    /// Identifiers that nobody has; they are suppressed.
    unknown: usize,
    sealed: u64,
    erased: Vec<Report>,
    /// Requests that are not done.
    waiting: Vec<Request>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let people = people(&args)?;
    let pool = context.store().await?;
    if args.list {
        let requests = requests::list(&pool).await?;
        return context.output().show(&requests, |requests| describe_all(requests));
    }
    let config = if context.global().config.exists() { Some(context.config()?) } else { None };
    let rules = context.rules()?;
    let mut answer = Answer { requested: 0, unknown: 0, sealed: 0, erased: Vec::new(), waiting: Vec::new() };
    let mut progress = context.output().progress("people", Some(people.len() as u64));
    for person in &people {
        match requests::request(&pool, &Identifier::of(person, &rules), args.tombstone).await? {
            Asked::Requested(_) => answer.requested += 1,
            Asked::Unknown => answer.unknown += 1,
        }
        progress.add(1);
    }
    drop(progress);
    let mut failed = None;
    // Once before and once after telling: what nobody has to be told of is erased at once.
    for told in [false, true] {
        if told {
            failed = tell(&pool, config.as_ref(), &answer).await?;
            if args.now {
                requests::do_not_wait(&pool).await?;
            }
        }
        let step = forget::step(&pool, context.clock().now()).await?;
        answer.sealed += step.sealed;
        answer.erased.extend(step.report);
        answer.waiting = requests::list(&pool).await?.into_iter().filter(|request| request.state != "erased").collect();
    }
    context.output().show(&answer, describe)?;
    match answer.waiting.len() {
        0 => Ok(()),
        count => {
            let error = Error::wait(format!("{count} requests wait until every destination was told"));
            let error = error.help(
                "`rollcall serve` goes on with them, as does `rollcall forget` without a name; `--now` does not wait.",
            );
            Err(match failed {
                Some(failed) => error.because(failed),
                None => error,
            })
        }
    }
}

/// Tells the destinations what was sealed, if any request waits for it; returns what kept one of them.
async fn tell(pool: &sqlx::PgPool, config: Option<&Config>, answer: &Answer) -> Result<Option<Error>> {
    let (Some(config), false) = (config, answer.waiting.is_empty()) else { return Ok(None) };
    let waited: Vec<&String> = answer.waiting.iter().flat_map(|request| &request.waits_for).collect();
    let targets = sync::targets(config).into_iter().filter(|(name, _)| waited.contains(&name)).collect();
    let instance = Instance::new(pool.clone(), Clock::system()).await?;
    let told = sync::tell(&instance, targets, &|_, _| {}).await;
    Ok(told.into_iter().find_map(|(_, told)| told.err()))
}

fn people(args: &Args) -> Result<Vec<String>> {
    let mut people = args.people.clone();
    if let Some(path) = &args.file {
        let unreadable = |error| Error::settings(format!("{} cannot be read", path.display())).because(error);
        let text = match path.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()).map_err(unreadable)?,
            _ => fs::read_to_string(path).map_err(unreadable)?,
        };
        people.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if people.len() > FORGOTTEN_AT_ONCE {
        let help = format!("At most {FORGOTTEN_AT_ONCE} at once: split the file.");
        return Err(Error::settings(format!("{} people are named", people.len())).help(help));
    }
    Ok(people)
}

fn describe(answer: &Answer) -> String {
    let mut text = format!("{} asked for, {} known to nobody", answer.requested + answer.unknown, answer.unknown);
    for report in &answer.erased {
        text += &format!("\n{} forgotten\n\n", report.requests.len());
        let rows = report.tables.iter().filter(|(_, rows)| rows.before > 0 || rows.after > 0);
        let rows = rows.map(|(table, rows)| [table.clone(), rows.before.to_string(), rows.after.to_string()]);
        text += &table(["table", "rows before", "rows after"], rows);
        let mentioned: Vec<String> = report
            .mentioned
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(table, count)| format!("{count} of {table}"))
            .collect();
        text += &match mentioned.is_empty() {
            true => "\nNo row of any table holds one of their identifiers.".to_owned(),
            false => format!("\nTheir identifiers still stand in what others sent: {}.", mentioned.join(", ")),
        };
    }
    text
}

fn describe_all(requests: &[Request]) -> String {
    let rows = requests.iter().map(|request| {
        [
            request.id.to_string(),
            request.state.clone(),
            minute(request.requested_at),
            request.erased_at.map(minute).unwrap_or_default(),
            request.waits_for.join(", "),
        ]
    });
    table(["request", "state", "asked for", "erased", "waits for"], rows)
}

/// Take in nothing more of somebody and tell nothing more of them; what is known stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall suppress user_id:42              nothing more is taken in of them, and nothing told
  rollcall forget user_id:42                leave every audience and be erased instead")]
pub struct SuppressArgs {
    /// Whom: a user_id, or another identifier with its type.
    #[arg(value_name = "IDENTIFIER")]
    pub person: String,
}

pub async fn suppress(args: SuppressArgs, context: &Context) -> Result<()> {
    let rules = context.rules()?;
    let person = Identifier::of(&args.person, &rules);
    let known = requests::suppress(&context.store().await?, &person).await?;
    context.output().show(&serde_json::json!({"suppressed": true, "known": known}), |_| match known {
        true => "suppressed, with all identifiers of the profile".into(),
        false => "suppressed; nobody has that identifier".into(),
    })
}

/// Take in again what was suppressed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall unsuppress user_id:42            what comes in from now on counts again")]
pub struct UnsuppressArgs {
    /// Whom: a user_id, or another identifier with its type.
    #[arg(value_name = "IDENTIFIER")]
    pub person: String,
}

pub async fn unsuppress(args: UnsuppressArgs, context: &Context) -> Result<()> {
    let rules = context.rules()?;
    requests::unsuppress(&context.store().await?, &Identifier::of(&args.person, &rules)).await?;
    context.output().show(&serde_json::json!({"suppressed": false}), |_| "no longer suppressed".into())
}
