//! `rollcall explain`: why is this person in, or out, or which value do they have?

mod value;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{Context, instant};
use crate::{
    Error, Result,
    audience::{
        Computed, ComputedTrait, Definition,
        catalogue::{Audience, Catalogue},
        check::Known,
        explain::{self, Explanation, NextChange, Reason},
    },
    evaluate::{person, statements::yields},
    profile::lookup,
    runs::history,
    telemetry::line,
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
    let profile = lookup::find(&mut tx, &lookup::Identifier::of(&args.user, &context.rules()?)).await?;
    let user = line::shown(&args.user, |_| false).into_owned();
    let mut outlook = person::outlook(&mut tx, profile, &catalogue.audiences).await?;
    for audience in &catalogue.audiences {
        if let Some(definition) = value_of(audience, &args.key) {
            let answer = value::Answer::new(&args.key, (audience, definition), &mut outlook, at);
            return context.output().show(&answer, |answer| answer.describe(&user));
        }
        if audience.key != args.key {
            continue;
        }
        let explanation = match &audience.computed {
            Computed::Members { definition: Definition::Query(definition), .. } => {
                outlook.explain(audience, definition, at)
            }
            Computed::Members { definition: Definition::Statement(_), .. } if args.at.is_some() => {
                return Err(past("who is in"));
            }
            Computed::Members { definition: Definition::Statement(of), .. } => {
                explain::statement(yields::member(&mut tx, of, profile).await?, at)
            }
            computed => {
                let now = match computed {
                    Computed::Sql(_) if args.at.is_some() => return Err(past("which values there are")),
                    Computed::Sql(of) => Some(yields::values(&mut tx, &of.statement, profile).await?),
                    _ => None,
                };
                let stored = outlook.values.get(&audience.key).map(String::as_str);
                let answer = value::Stored::new(&audience.key, now, stored, computed);
                return context.output().show(&answer, |answer| answer.describe(&user));
            }
        };
        let has_identifier = outlook.counts(audience);
        let last = history::members(&pool, &args.key, None).await;
        let answer = Answer {
            member: explanation.holds && has_identifier,
            has_identifier,
            member_at_last_run: last.ok().map(|members| members.contains(profile.0)),
            explanation,
            key: args.key,
        };
        return context.output().show(&answer, |answer| describe(answer, &user));
    }
    catalogue.select(&[args.key])?;
    Err(Error::internal("an audience was found and lost"))
}

/// The definition of the computed trait with this key, if the audience is it or tells it among others.
fn value_of<'a>(audience: &'a Audience, key: &str) -> Option<&'a ComputedTrait> {
    match &audience.computed {
        Computed::Value(definition) => (audience.key == key).then_some(definition),
        Computed::Columns(columns) => columns.iter().find(|(of, _)| of == key).map(|(_, definition)| definition),
        Computed::Members { .. } | Computed::Sql(_) => None,
    }
}

fn past(what: &str) -> Error {
    Error::settings(format!("a statement says {what} now, and not at another time")).help("Leave out --at.")
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
    // A value is anybody's.
    let said = line::shown(&format!("{}{values}", reason.text), |_| false).into_owned();
    *text += &format!("{indent}{mark} {said}\n");
    reason.parts.iter().for_each(|part| describe_reason(text, part, depth + 1));
}
