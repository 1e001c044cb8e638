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
    },
    config::Config,
    evaluate::person,
    ids::ProfileId,
    membership::standing,
    profile::{
        lookup, merges,
        view::{self, Event, Identifier, Metadata},
    },
    values,
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
    let profile = lookup::find(&mut tx, &lookup::Identifier::of(&args.person, &context.rules()?)).await?;
    let audiences = standing::standings(&mut tx, profile).await?;
    let mut why = match &config {
        Some(config) => explanations(&mut tx, config, profile, context.clock().now()).await?,
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

/// Why the person is in each of their audiences, as of now; nothing of those whose definitions would not have them now.
async fn explanations(
    conn: &mut PgConnection,
    config: &Config,
    profile: ProfileId,
    at: DateTime<Utc>,
) -> Result<BTreeMap<String, Explanation>> {
    let catalogue = Catalogue::of(config, &Known::default());
    let mut outlook = person::outlook(conn, profile, &catalogue.audiences).await?;
    let mut found = BTreeMap::new();
    for audience in &catalogue.audiences {
        let Computed::Members { definition, .. } = &audience.computed else { continue };
        if !outlook.member_of.contains(&audience.key) {
            continue;
        }
        let why = match definition {
            Definition::Query(definition) => outlook.explain(audience, definition, at),
            // As of its last run: nobody waits for every statement to look at one person.
            Definition::Statement(_) => explain::statement(true, at),
        };
        if why.holds && outlook.counts(audience) {
            found.insert(audience.key.clone(), why);
        }
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
