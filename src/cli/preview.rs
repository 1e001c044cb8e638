//! `rollcall preview`: who would be in, if this were an audience?

use chrono::{DateTime, Utc};

use serde::Serialize;

use super::{Context, instant, members::Valued};
use crate::{
    Result,
    audience::{
        self, Computed, Sql,
        computed::as_expr,
        conditions::{self, Formula},
        missing::Missing,
        statement::Statement,
    },
    evaluate::{
        Universe,
        preview::{self, Found},
    },
    ids::ProfileId,
    membership::PassedOver,
    profile::lookup::{self, Name},
    registry::seen,
};

/// Count and sample the members of a definition, without storing anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall preview \"event('Order Completed').within(30 days).count() >= 1\"
  rollcall preview \"trait('plan') = 'pro'\" --sample 5 --json
  rollcall preview \"event('Order Completed').sum(property('revenue')) > 500\" --at 1997-06-01
  rollcall preview --sql \"select user_id from subscriptions where active\"
  rollcall preview --trait \"event('Order Completed').within(90 days).sum(property('revenue'))\"
  rollcall preview --trait --sql \"select user_id, grade from customers\" --source crm")]
pub struct Args {
    /// A definition in the audience language, or with --sql a statement.
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
    /// How many members to show.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub sample: usize,
    /// Count profiles without a user_id as well.
    #[arg(long)]
    pub include_anonymous: bool,
    /// The definition is a statement that yields user ids; with --trait, `user_id` and values.
    #[arg(long, conflicts_with = "at")]
    pub sql: bool,
    /// With --sql, the source in whose database it runs; in the store's own, if not given.
    #[arg(long, value_name = "NAME", requires = "sql")]
    pub source: Option<String>,
    /// The definition is that of a computed trait: show values.
    #[arg(long = "trait")]
    pub is_trait: bool,
}

#[derive(Serialize)]
struct Preview {
    at: DateTime<Utc>,
    members: u64,
    /// Which rows of a statement put nobody in.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<PassedOver>,
    /// Whom comparisons decide about since they lack a trait.
    missing: Vec<Missing>,
    /// Names that nothing has.
    warnings: Vec<String>,
    sample: Vec<Name>,
}

#[derive(Serialize)]
struct Values {
    at: DateTime<Utc>,
    /// How many have a value.
    values: u64,
    /// Names that nothing has.
    warnings: Vec<String>,
    sample: Vec<Valued>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    if args.is_trait {
        return show_values(args, context).await;
    }
    let expr = if args.sql { None } else { Some(audience::parse("the query", &args.query)?) };
    let pool = context.store().await?;
    let (formula, warnings) = match &expr {
        Some(expr) => {
            let keys = preview::keys(&pool).await?;
            let warnings = seen::warnings(&mut *pool.acquire().await?, expr, &keys).await?;
            (conditions::formula(expr, &keys)?, warnings)
        }
        None => (Formula::Statement(statement(&args, context)?), Vec::new()),
    };
    let at = args.at.unwrap_or_else(|| context.clock().now());
    let universe = Universe::users(args.include_anonymous);
    let Found { members, passed_over, missing } = preview::members(&pool, &formula, &universe, at).await?;
    let sample: Vec<ProfileId> = members.iter().take(args.sample).map(ProfileId).collect();
    let sample = lookup::names(&mut *pool.acquire().await?, &sample).await?;
    let preview = Preview { at, members: members.len(), passed_over, missing, warnings, sample };
    context.output().show(&preview, |preview| {
        let names: Vec<String> = preview.sample.iter().map(|name| format!("  {name}")).collect();
        let more = preview.members.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
        let rows = preview.passed_over.filter(|rows| !rows.is_none()).map(|rows| rows.to_string());
        let notes = rows.into_iter().chain(preview.missing.iter().map(ToString::to_string));
        let notes: String = notes.chain(mistakes(&preview.warnings)).map(|note| note + "\n").collect();
        format!("{} members as of {}\n{notes}{}{more}", preview.members, preview.at.to_rfc3339(), names.join("\n"))
    })
}

fn mistakes(warnings: &[String]) -> impl Iterator<Item = String> {
    warnings.iter().map(|warning| format!("perhaps a mistake: {warning}"))
}

fn statement(args: &Args, context: &Context) -> Result<Statement> {
    match args.source.as_deref() {
        Some(source) => Statement::of(&context.config()?, &args.query, Some(source)),
        None => Ok(Statement { text: args.query.clone(), elsewhere: None }),
    }
}

async fn show_values(args: Args, context: &Context) -> Result<()> {
    let computed = match args.sql {
        true => Computed::Sql(Sql { statement: statement(&args, context)?, additive: false }),
        false => Computed::Value(audience::parse_trait("the query", &args.query)?),
    };
    let pool = context.store().await?;
    let mut warnings = Vec::new();
    if let Computed::Value(definition) = &computed {
        let keys = preview::keys(&pool).await?;
        warnings = seen::warnings(&mut *pool.acquire().await?, &as_expr(definition), &keys).await?;
        let keys = keys.audiences.into_iter().chain(keys.traits.into_keys()).collect();
        audience::parse::without_references("the query", &args.query, &keys)?;
    }
    let at = args.at.unwrap_or_else(|| context.clock().now());
    let found = preview::values(&pool, &computed, &Universe::users(args.include_anonymous), at).await?;
    let sample = found.sample(args.sample)?;
    let ids: Vec<ProfileId> = sample.iter().map(|(id, _)| *id).collect();
    let names = lookup::names(&mut *pool.acquire().await?, &ids).await?;
    let sample = names.into_iter().zip(sample).map(|(name, (_, value))| Valued::new(name, &value)).collect();
    context.output().show(&Values { at, values: found.members.len(), warnings, sample }, |preview| {
        let names: Vec<String> = preview.sample.iter().map(|valued| format!("  {valued}")).collect();
        let more = preview.values.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
        let notes: String = mistakes(&preview.warnings).map(|note| note + "\n").collect();
        let at = preview.at.to_rfc3339();
        format!("{} people with a value as of {at}\n{notes}{}{more}", preview.values, names.join("\n"))
    })
}
