//! What do live sources send that is wrong? How often and why, kept until it is forgotten by hand; never a value of a message.
//!
//! (An import writes its refusals beside its file; whoever sends live reads an answer that nobody may look at.)

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};

use super::Refusal;
use crate::Result;

/// Messages of one source that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Refused {
    /// The name of the write key, of the stream or of the SQL source; empty where no key is asked for.
    pub source: String,
    /// A path in the message, or `line` for the whole.
    pub field: String,
    pub reason: String,
    pub messages: i64,
    /// Whether they are stored all the same, with another time than they name.
    pub is_stored: bool,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

/// Who was refused what: (source, field, reason).
pub type Cause = (String, &'static str, String);

/// The cause of a refusal, the same for messages that differ in a count alone.
pub fn cause(source: Option<&str>, refusal: &Refusal) -> Cause {
    let reason = refusal.reason.split(" (byte ").next().unwrap_or_default();
    // `is 40000 bytes; the most is …`, `has 500 members; …`
    let mut words: Vec<&str> = reason.split(' ').collect();
    if let Some(word) = words.get_mut(1).filter(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
        *word = "too many";
    }
    (source.unwrap_or_default().to_owned(), refusal.field, words.join(" "))
}

const MISDATED: &str = "cannot be read: the message is stored as of its arrival";

/// The cause of what is stored, yet with the time of its arrival in place of one that cannot be read.
pub fn misdated(source: Option<&str>) -> Cause {
    (source.unwrap_or_default().to_owned(), "timestamp", MISDATED.to_owned())
}

/// How many of these have which cause.
pub fn count<'r>(source: &str, refusals: impl IntoIterator<Item = &'r Refusal>) -> Vec<(Cause, i64)> {
    let mut counts: BTreeMap<Cause, i64> = BTreeMap::new();
    for refusal in refusals {
        *counts.entry(cause(Some(source), refusal)).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Adds what was refused since the last time.
pub async fn add(database: impl PgExecutor<'_>, counts: &[(Cause, i64)]) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let columns = |pick: fn(&Cause) -> &str| counts.iter().map(|(cause, _)| pick(cause)).collect::<Vec<_>>();
    sqlx::query(
        "insert into refusals as r (source, field, reason, messages, is_stored)
         select *, reason = $5 from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as new (source, field, reason, messages)
         order by 1, 2, 3
         on conflict (source, field, reason) do update set messages = r.messages + excluded.messages, last_at = now()",
    )
    .bind(columns(|cause| &cause.0))
    .bind(columns(|cause| cause.1))
    .bind(columns(|cause| &cause.2))
    .bind(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>())
    .bind(MISDATED)
    .execute(database)
    .await?;
    Ok(())
}

/// All of them, the latest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Refused>> {
    let all = "select source, field, reason, messages, is_stored, first_at, last_at from refusals order by last_at desc, source, field, reason";
    Ok(sqlx::query_as(all).fetch_all(pool).await?)
}

/// Forgets them; says how many reasons that were.
pub async fn clear(pool: &PgPool) -> Result<u64> {
    Ok(sqlx::query("delete from refusals").execute(pool).await?.rows_affected())
}
