//! What becomes of a backfill whose destination is taken from its audience? It is cancelled, and what was left of it is told if the
//! destination is given back.

use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgExecutor, Row};

use super::{keep, rest};
use crate::{
    Result,
    audience::catalogue::Audience,
    ids::{AudienceId, BackfillId, DestinationId},
    membership::diff::Change,
};

/// Cancels the open backfills of these audiences to destinations that they are no longer told to. A disabled destination is still theirs,
/// and its backfills wait. Only the state is touched, so this never waits for a run, and never makes one fail.
///
/// # Errors
/// The database's own.
pub async fn withdraw(database: impl PgExecutor<'_>, audiences: &[Audience]) -> Result<()> {
    let keys: Vec<&String> = audiences.iter().map(|audience| &audience.key).collect();
    let told = audiences.iter().flat_map(|of| of.destinations.iter().map(|name| (&of.key, name)));
    let (of, names): (Vec<_>, Vec<_>) = told.unzip();
    let cancelled: Vec<(i64, String, String)> = sqlx::query_as(
        "update backfills b set state = 'cancelled', withdrawn = true, finished_at = clock_timestamp()
         from audiences a, destinations d
         where a.id = b.audience_id and d.id = b.destination_id and b.state in ('running', 'paused') and a.key = any($1)
           and not exists (select from unnest($2::text[], $3::text[]) told (key, name) where told.key = a.key and told.name = d.name)
         returning b.id, a.key, d.name",
    )
    .bind(keys)
    .bind(of)
    .bind(names)
    .fetch_all(database)
    .await?;
    for (backfill, audience, destination) in cancelled {
        tracing::info!(
            backfill,
            audience,
            destination,
            "cancelled: the audience is no longer told to this destination"
        );
    }
    Ok(())
}

/// Takes over what was left when the destination was taken away: whoever is still in is to be told. Who was never told is told
/// by the difference alone; this is for values of a trait that changed by then. Under the turn, as all that writes the log.
pub(crate) async fn given_back(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
) -> Result<RoaringBitmap> {
    let rows = sqlx::query(
        "select b.id, r.entered, r.exited from backfills b join backfill_rests r on r.backfill_id = b.id
         where b.destination_id = $1 and b.audience_id = $2 and b.kind = 'changes' and b.withdrawn and r.remaining > 0",
    )
    .bind(destination)
    .bind(audience)
    .fetch_all(&mut *tx)
    .await?;
    let mut entered = RoaringBitmap::new();
    for row in rows {
        entered |= rest(&row)?.entered;
        // It is not this one that tells them.
        let id: BackfillId = row.try_get("id")?;
        sqlx::query("update backfill_rests set total = total - remaining where backfill_id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await?;
        keep(tx, id, &Change::default()).await?;
    }
    Ok(entered)
}
