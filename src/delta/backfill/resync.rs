//! Who is told again, when somebody asks for it? Every member, and everybody who was one.

use roaring::RoaringBitmap;
use sqlx::{PgPool, Row};

use super::{Kind, insert};
use crate::{
    Error, Result,
    delta::log::Told,
    ids::{AudienceId, BackfillId},
    membership::diff::{self, Change},
    registry::register,
};

/// Which part of a membership is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// `true` to every member.
    True,
    /// `false` to everybody who was told `true` once and is no member.
    False,
}

/// Opens a backfill that tells the whole of an audience to a destination again. `only` a part of it, or both: then a consumer ends
/// up right whatever it has missed.
///
/// # Errors
/// [`crate::Kind::Settings`] if the audience was never run, or is being told again already.
pub async fn resync(
    pool: &PgPool,
    key: &str,
    destination: &str,
    only: Option<Only>,
    rate_limit: Option<u32>,
) -> Result<BackfillId> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query(
        "select a.id, m.members, r.last_merge from audiences a join memberships m on m.audience_id = a.id
         join runs r on r.id = m.run_id where a.key = $1 and a.state <> 'deleted'",
    )
    .bind(key)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| {
        Error::settings(format!("audience '{key}' was never run")).help("Its first sync tells all of it.")
    })?;
    let (audience, members): (AudienceId, _) = (row.try_get("id")?, diff::decode(row.try_get("members")?)?);
    let listener = register::destination(&mut tx, destination).await?;
    // Whoever asks at the same time waits here.
    sqlx::query("select from destinations where id = $1 for no key update").bind(listener).execute(&mut *tx).await?;
    let open: Option<BackfillId> = sqlx::query_scalar(
        "select id from backfills where destination_id = $1 and audience_id = $2 and kind = 'resync' and state in ('running', 'paused')",
    )
    .bind(listener)
    .bind(audience)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(open) = open {
        return Err(Error::settings(format!("audience '{key}' is being told to '{destination}' again already"))
            .help(format!("`rollcall backfills` shows how far it is; `rollcall backfills cancel {open}` ends it.")));
    }
    let told = Told::read(&mut tx, listener, audience).await?;
    let all = Change {
        entered: if only == Some(Only::False) { RoaringBitmap::new() } else { members.clone() },
        exited: if only == Some(Only::True) { RoaringBitmap::new() } else { told.former - members },
    };
    let id =
        insert(&mut tx, listener, audience, Kind::Resync, rate_limit, &all, Some(row.try_get("last_merge")?)).await?;
    tx.commit().await?;
    Ok(id)
}
