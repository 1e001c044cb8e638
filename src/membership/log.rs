//! What is each destination still to be told? Writes the log: gapless, and in the seal's own transaction.
//!
//! Only the seal calls this; nothing else writes `deltas`, `told` or a destination's row.

use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row};

use super::{
    chain::Chain,
    diff::{self, Change},
    leave, merges,
    register::Listener,
    seal::Run,
    values,
};
use crate::{
    Error, Result,
    audience::Class,
    ids::{AudienceId, Position, RunId},
};

/// Appends to a destination's log what it has not been told yet, and remembers the membership as told.
pub(super) async fn tell(
    tx: &mut PgConnection,
    destination: &Listener,
    (audience, class): (AudienceId, Class),
    run: &Run,
    change: &Change,
    members: &RoaringBitmap,
) -> Result<()> {
    let run_id = run.run.ok_or_else(|| Error::internal("a run is told before it is recorded"))?;
    let told = sqlx::query_as::<_, (RunId, Vec<u8>, i64)>(
        "select run_id, members, last_merge from told where destination_id = $1 and audience_id = $2",
    )
    .bind(destination.id)
    .bind(audience)
    .fetch_optional(&mut *tx)
    .await?;
    let (told_run, mut told, last_merge) = match told {
        Some((run, bytes, last_merge)) => (Some(run), diff::decode(&bytes)?, last_merge),
        None => (None, RoaringBitmap::new(), i64::MAX),
    };
    // Whoever is told for the first time, or after a pause, is told all of several values.
    let mut missed = true;
    let suppressed = leave::suppressed(tx).await?;
    let mut members = members.clone();
    let untold = match class {
        Class::Audience => {
            let unsure = merges::follow_told(tx, &mut told, last_merge, run_id).await?;
            leave::keep(&mut members, &suppressed, &told);
            Change::between_unsure(&told, &(unsure - suppressed), &members)
        }
        // A merged profile has no value any more, and the survivor's is computed anew: that is its own change.
        Class::Trait => {
            leave::keep(&mut members, &suppressed, &told);
            let mut untold = Change::between(&told, &members);
            if let Some(told_run) = told_run {
                let (changed, runs) = values::changed_since(tx, audience, told_run).await?;
                untold.entered |= (changed & &members) - suppressed;
                missed = runs > 1;
            }
            untold
        }
    };
    let members = &members;
    sqlx::query(
        "insert into told (destination_id, audience_id, run_id, members) values ($1, $2, $3, $4)
         on conflict (destination_id, audience_id) do update
         set run_id = excluded.run_id, members = excluded.members, last_merge = excluded.last_merge",
    )
    .bind(destination.id)
    .bind(audience)
    .bind(run_id)
    .bind(diff::encode(members))
    .execute(&mut *tx)
    .await?;
    if untold.is_empty() {
        return Ok(());
    }
    if class == Class::Trait {
        values::seal(tx, run_id, audience, &untold, &told, missed).await?;
    }
    append(tx, destination, run_id, &untold, *change == untold).await
}

/// Takes the next range of a destination's log; the row lock keeps ranges gapless and in commit order.
pub(super) async fn append(
    tx: &mut PgConnection,
    destination: &Listener,
    run: RunId,
    untold: &Change,
    as_the_run: bool,
) -> Result<()> {
    let row = sqlx::query("select next_position, chain from destinations where id = $1 for update")
        .bind(destination.id)
        .fetch_one(&mut *tx)
        .await?;
    let from = Position(row.try_get("next_position")?);
    let to = Position(from.0 + untold.len() as i64);
    let (entered, exited) = (diff::encode(&untold.entered), diff::encode(&untold.exited));
    let chain = Chain(row.try_get("chain")?).link(run, &(from..to), &entered, &exited);
    sqlx::query(
        "insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, entered, exited, chain)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(destination.id)
    .bind(from)
    .bind(to)
    .bind(run)
    .bind(&destination.mapping_version)
    .bind((!as_the_run).then_some(entered))
    .bind((!as_the_run).then_some(exited))
    .bind(&chain.0)
    .execute(&mut *tx)
    .await?;
    sqlx::query("update destinations set next_position = $2, chain = $3 where id = $1")
        .bind(destination.id)
        .bind(to)
        .bind(&chain.0)
        .execute(tx)
        .await?;
    Ok(())
}
