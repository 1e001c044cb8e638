//! `rollcall profile`: all that is known of one person.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::{Context, explain::describe_reason, output::minute, table};
use crate::{
    Result,
    audience::{
        catalogue::Catalogue,
        check::Known,
        computed::{Computed, Definition},
        explain::{self, Explanation},
        interpret::holds,
    },
    config::Config,
    ids::ProfileId,
    membership::{person, standing, values},
    profile::{
        lookup, merges,
        view::{self, Event, Identifier, Metadata},
    },
};

/// Show one person: identifiers, traits, audiences with since when and why, latest events, merges.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall profile 42                      the person with that user_id
  rollcall profile email:ann@example.com --events 100
  rollcall profile 42 --json | jq .traits")]
pub struct Args {
    /// Whom: a user_id, or another identifier with its type.
    #[arg(value_name = "IDENTIFIER")]
    pub person: String,
    /// How many of the latest events to show.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub events: u32,
}

/// What is printed.
#[derive(Serialize)]
struct Answer {
    profile: u32,
    metadata: Option<Metadata>,
    identifiers: Vec<Identifier>,
    traits: Map<String, Value>,
    /// As last computed.
    computed_traits: BTreeMap<String, Value>,
    audiences: Vec<Membership>,
    groups: Vec<String>,
    events: Vec<Event>,
    merges: Vec<Merged>,
}

/// An audience that they are in as of its last run.
#[derive(Serialize)]
struct Membership {
    #[serde(flatten)]
    standing: standing::Standing,
    /// Why, as of now; absent for an audience that is not in the configuration.
    why: Option<Explanation>,
}

/// A profile that became part of this one.
#[derive(Serialize)]
struct Merged {
    profile: u32,
    at: DateTime<Utc>,
    reason: String,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = if context.global().config.exists() { Some(context.config()?) } else { None };
    let pool = context.store().await?;
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let profile = lookup::find(&mut tx, &args.person).await?;
    let audiences = standing::standings(&mut tx, profile).await?;
    let mut why = match &config {
        Some(config) => explanations(&mut tx, config, profile, &audiences, context.clock().now()).await?,
        None => BTreeMap::new(),
    };
    let answer = Answer {
        profile: profile.0,
        metadata: view::metadata(&mut tx, profile).await?,
        identifiers: view::identifiers(&mut tx, profile).await?,
        traits: view::traits(&mut tx, profile).await?,
        computed_traits: values::of_person(&mut tx, profile)
            .await?
            .into_iter()
            .filter_map(|(key, value)| Some((key, serde_json::from_str(&value).ok()?)))
            .collect(),
        audiences: audiences
            .into_iter()
            .map(|standing| Membership { why: why.remove(&standing.key), standing })
            .collect(),
        groups: view::groups(&mut tx, profile).await?,
        events: view::events(&mut tx, profile, DateTime::UNIX_EPOCH, None, 0, args.events.into()).await?,
        merges: merges::of(&mut tx, profile)
            .await?
            .into_iter()
            .map(|merge| Merged { profile: merge.from.0, at: merge.merged_at, reason: merge.reason })
            .collect(),
    };
    tx.commit().await?;
    context.output().show(&answer, describe)
}

/// As in a tick: each audience after those it refers to, all as of one instant.
async fn explanations(
    conn: &mut PgConnection,
    config: &Config,
    profile: ProfileId,
    standing: &[standing::Standing],
    at: DateTime<Utc>,
) -> Result<BTreeMap<String, Explanation>> {
    let types = lookup::identifier_types(conn, profile).await?;
    let mut history = person::history(conn, profile, BTreeMap::new()).await?;
    let stored = values::of_person(conn, profile).await?;
    let mut found = BTreeMap::new();
    for audience in Catalogue::of(config, &Known::default()).audiences {
        let counts = audience.options.counting_types().iter().any(|kind| types.iter().any(|has| has == kind));
        let definition = match &audience.computed {
            Computed::Members { definition: Definition::Query(definition), .. } => definition,
            // As of its last run: nobody waits for every statement to look at one person.
            Computed::Members { definition: Definition::Statement(_), .. } => {
                let member = standing.iter().any(|standing| standing.key == audience.key);
                if member {
                    found.insert(audience.key.clone(), explain::statement(true, at));
                }
                history.memberships.insert(audience.key, member);
                continue;
            }
            _ => {
                // As last computed; those told together also each by its own key.
                let value: Option<Value> = stored.get(&audience.key).and_then(|value| serde_json::from_str(value).ok());
                if let Value::Object(traits) = &mut history.traits {
                    traits.extend(value.as_ref().and_then(Value::as_object).cloned().into_iter().flatten());
                    traits.insert(audience.key, value.unwrap_or_default());
                }
                continue;
            }
        };
        let member = counts && holds(definition, &history, at);
        if member {
            found.insert(audience.key.clone(), explain::explain(definition, &history, at));
        }
        history.memberships.insert(audience.key, member);
    }
    Ok(found)
}

fn describe(answer: &Answer) -> String {
    let mut text = format!("profile {}", answer.profile);
    if let Some(metadata) = &answer.metadata {
        text += &format!(", since {}", minute(metadata.created_at));
    }
    text += "\n\n";
    let rows = answer.identifiers.iter().map(|id| [format!("{}:{}", id.kind, id.value), minute(id.added_at)]);
    text += &table(["identifier", "since"], rows);
    section(&mut text, ["trait", "value"], answer.traits.iter().map(|(name, value)| [name.clone(), value.to_string()]));
    let computed = answer.computed_traits.iter();
    section(&mut text, ["computed trait", "value"], computed.map(|(name, value)| [name.clone(), value.to_string()]));
    if !answer.audiences.is_empty() {
        let rows = answer.audiences.iter().map(|Membership { standing, .. }| {
            let since = standing.since.map_or_else(|| "before the runs that are kept".into(), minute);
            [standing.key.clone(), since, standing.run.map(|run| run.to_string()).unwrap_or_default()]
        });
        section(&mut text, ["audience", "since", "run"], rows);
        for membership in &answer.audiences {
            text += &format!("\n\n{}\n", membership.standing.key);
            match &membership.why {
                Some(why) => describe_reason(&mut text, &why.reason, 1),
                None => text += "  as of its last run; by its definition they would not be in now\n",
            }
            text.truncate(text.trim_end().len());
        }
    }
    section(&mut text, ["group"], answer.groups.iter().map(|group| [group.clone()]));
    let rows =
        answer.events.iter().map(|event| [minute(event.occurred_at), event.name.clone(), event.properties.to_string()]);
    section(&mut text, ["event at", "name", "properties"], rows);
    let rows =
        answer.merges.iter().map(|merge| [merge.profile.to_string(), minute(merge.at), merge.reason.replace('_', " ")]);
    section(&mut text, ["merged profile", "at", "because of"], rows);
    text
}

/// A table below what is there, unless it has no rows.
fn section<const N: usize>(text: &mut String, header: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        *text += "\n\n";
        *text += &table(header, rows);
    }
}
