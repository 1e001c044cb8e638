//! `rollcall explain`: why is this person in, or out, or which value do they have?

mod value;

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{Context, instant};
use crate::{
    Error, Result,
    audience::{
        Computed, Definition,
        catalogue::Catalogue,
        check::Known,
        explain::{self, Explanation, NextChange, Reason},
        interpret::holds,
    },
    membership::{history, person, register, standing, statement, values},
    profile::lookup,
};

/// Say whether one person is in an audience, which conditions hold, and when time alone will change that; or which value of
/// a computed trait they have, and of which events it is made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall explain big_spenders u_00042
  rollcall explain total_revenue u_00042
  rollcall explain big_spenders u_00042 --at 1997-06-01 --json")]
pub struct Args {
    /// Key of the audience or trait.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The person's userId.
    #[arg(value_name = "USER")]
    pub user: String,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
}

/// What is printed.
#[derive(Serialize)]
struct Answer {
    key: String,
    /// In, by the definition and with an identifier that counts.
    member: bool,
    /// Whether the profile has an identifier of a type that this audience tells.
    has_identifier: bool,
    /// In, as of the audience's last run; absent if it never ran.
    member_at_last_run: Option<bool>,
    #[serde(flatten)]
    explanation: Explanation,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let mut catalogue = Catalogue::of(&config, &Known::default());
    if let Some(error) = catalogue.refused.remove(&args.key) {
        return Err(error);
    }
    let pool = context.store().await?;
    let at = args.at.unwrap_or_else(|| context.clock().now());
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let profile = lookup::find(&mut tx, &args.user).await?;
    let types = lookup::identifier_types(&mut tx, profile).await?;
    let mut history = person::history(&mut tx, profile, BTreeMap::new()).await?;
    let stored = values::of_person(&mut tx, profile).await?;
    let standing = standing::standings(&mut tx, profile).await?;
    if let serde_json::Value::Object(traits) = &mut history.traits {
        // Those that are not configured any more keep their last values.
        for key in register::known(&mut *tx).await?.computed.into_keys() {
            let value = value::json(stored.get(&key).map(String::as_str));
            traits.insert(key, value);
        }
    }

    // As in a tick: each audience after those it refers to, all as of one instant.
    for audience in &catalogue.audiences {
        let has_identifier = audience.options.counting_types().iter().any(|kind| types.iter().any(|has| has == kind));
        let definition = match &audience.computed {
            Computed::Members { definition, .. } => definition,
            computed => {
                let keys = match computed {
                    Computed::Columns(columns) => columns.iter().map(|(key, _)| key.as_str()).collect(),
                    Computed::Sql(_) => Vec::new(),
                    _ => vec![audience.key.as_str()],
                };
                let (mut definitions, mut all) = (computed.definitions().into_iter(), serde_json::Map::new());
                for key in keys {
                    let stored = stored.get(key).map(String::as_str);
                    let Some(definition) = definitions.next() else { continue };
                    if key == args.key {
                        let answer = value::Answer::new(key, definition, &history, has_identifier, stored, at);
                        return context.output().show(&answer, |answer| answer.describe(&args.user));
                    }
                    let now = value::now(definition, &history, stored, at).filter(|_| has_identifier);
                    all.insert(key.to_owned(), value::json(now.as_deref()));
                }
                if audience.key == args.key {
                    let stored = stored.get(&audience.key).map(String::as_str);
                    let answer = value::Stored::new(&audience.key, stored, computed);
                    return context.output().show(&answer, |answer| answer.describe(&args.user));
                }
                if let serde_json::Value::Object(traits) = &mut history.traits {
                    // What is told together is read below the key of the whole too; what a statement yields, there alone.
                    let whole = match computed {
                        Computed::Sql(_) => Some(value::json(stored.get(&audience.key).map(String::as_str))),
                        Computed::Columns(_) => Some(value::whole(&all)),
                        _ => None,
                    };
                    traits.extend(whole.map(|whole| (audience.key.clone(), whole)));
                    traits.extend(all);
                }
                continue;
            }
        };
        let asked = audience.key == args.key;
        let explanation = match definition {
            Definition::Query(definition) if asked => explain::explain(definition, &history, at),
            Definition::Statement(_) if asked && args.at.is_some() => {
                let error = Error::settings("a statement says who is in now, and not at another time");
                return Err(error.help("Leave out --at."));
            }
            Definition::Statement(of) if asked => {
                explain::statement(statement::yields(&mut tx, of, profile).await?, at)
            }
            Definition::Query(definition) => {
                let member = has_identifier && holds(definition, &history, at);
                history.memberships.insert(audience.key.clone(), member);
                continue;
            }
            // Whoever refers to it gets its last members.
            Definition::Statement(_) => {
                let member = standing.iter().any(|standing| standing.key == audience.key);
                history.memberships.insert(audience.key.clone(), member);
                continue;
            }
        };
        let last = history::members(&pool, &args.key, None).await;
        let answer = Answer {
            key: args.key,
            member: explanation.holds && has_identifier,
            has_identifier,
            member_at_last_run: last.ok().map(|members| members.contains(profile.0)),
            explanation,
        };
        return context.output().show(&answer, |answer| describe(answer, &args.user));
    }
    let keys = [args.key];
    catalogue.select(&keys)?;
    Err(Error::internal("an audience was found and lost"))
}

fn describe(answer: &Answer, user: &str) -> String {
    let side = |member| if member { "in" } else { "not in" };
    let explanation = &answer.explanation;
    let at = explanation.evaluated_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let mut text = format!("{user} is {} {} as of {at}\n\n", side(answer.member), answer.key);
    describe_reason(&mut text, &explanation.reason, 1);
    if !answer.has_identifier {
        text += "\nThe profile has no identifier that this audience tells, so it is no member whatever holds.\n";
    }
    text += "\n";
    text += &match explanation.next_change {
        NextChange::At(at) => {
            let at = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            format!("Time alone will change the answer at {at}.")
        }
        NextChange::Never => "Time alone will not change the answer.".to_owned(),
        NextChange::Unknown => "When time alone will change the answer is not known.".to_owned(),
    };
    match answer.member_at_last_run {
        Some(member) => text + &format!("\nAs of the last run: {}.", side(member)),
        None => text + "\nThe audience was never run.",
    }
}

pub(super) fn describe_reason(text: &mut String, reason: &Reason, depth: usize) {
    let indent = "  ".repeat(depth);
    let mark = if reason.holds { "✓" } else { "✗" };
    let values = reason.left.iter().chain(&reason.right).cloned().collect::<Vec<_>>().join(" against ");
    let values = if values.is_empty() { values } else { format!("   is {values}") };
    *text += &format!("{indent}{mark} {}{values}\n", reason.text);
    reason.parts.iter().for_each(|part| describe_reason(text, part, depth + 1));
}
