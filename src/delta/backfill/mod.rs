//! What is too much to be told at once? Left here, and told slice by slice by the bulk lane; so is a membership told again.
//!
//! ```text
//!  seal ──► few changes: the log                          resync ──► the membership, and who was in it
//!     └───► more: a backfill (what is left, as bitmaps) ◄──┘
//!                    └──slice──► the bulk lane's log, when it has little left to tell
//! ```
//!
//! Nobody is forgotten and nobody is told twice: `told` is what the log says, a slice is made against it and against the membership
//! as it is then, and both change in one transaction. Whoever leaves before he was told is never told; whoever leaves after is told
//! by the ordinary difference. A backfill is rows: it survives whatever happens to who works on it.

mod list;
mod rate;
mod resync;
mod retry;
mod slice;
mod withdraw;

use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Result,
    ids::{AudienceId, BackfillId, DestinationId},
    membership::{
        diff::{self, Change},
        merges,
    },
};

pub use list::{BackfillRow, Decision, decide, find, list};
pub use resync::{Only, resync};
pub use retry::{Chosen, retry};
pub use slice::{Topped, top_up};
pub(super) use withdraw::given_back;
pub use withdraw::withdraw;

/// What a backfill is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Kind {
    /// Changes that were never told: of a first sync, of a new destination, of an edited definition.
    Changes,
    /// Told before, and told again because somebody asked.
    Resync,
    /// Put aside before, and told now because somebody asked: of the slice only those records.
    Retry,
}

/// Whether a backfill goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    Running,
    Paused,
    /// A person ended it. What was left of changes is not told, until they are told again by a resync or change sides.
    Cancelled,
    /// All of it is told.
    Done,
}

/// Takes out of `untold` what is too much for once: either side of it, if it is longer than `above`; all, if the audience has a
/// rate of its own, so that waiting for its turn holds up nobody else.
pub(super) fn too_much(untold: &mut Change, above: u32, rate_limit: Option<u32>) -> Change {
    let take = |side: &mut RoaringBitmap| match rate_limit.is_some() || side.len() > u64::from(above) {
        true => std::mem::take(side),
        false => RoaringBitmap::new(),
    };
    Change { entered: take(&mut untold.entered), exited: take(&mut untold.exited) }
}

/// Leaves changes, or people to be told again, to the audience's open backfill of that kind, or to a new one; which that is.
pub(super) async fn open(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
    kind: Kind,
    later: &Change,
) -> Result<BackfillId> {
    // Locked until the commit: what is being added to must not be cancelled meanwhile.
    let open = sqlx::query(
        "select b.id, r.entered, r.exited, r.last_merge from backfills b join backfill_rests r on r.backfill_id = b.id
         where b.destination_id = $1 and b.audience_id = $2 and b.kind = $3 and b.state in ('running', 'paused')
         for share of b",
    )
    .bind(destination)
    .bind(audience)
    .bind(kind)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(open) = open else {
        return insert(tx, destination, audience, kind, None, later, None).await;
    };
    let (id, mut rest) = (open.try_get("id")?, rest(&open)?);
    if kind == Kind::Resync {
        let last = open.try_get("last_merge")?;
        merges::follow(tx, [(&mut rest.entered, last), (&mut rest.exited, last)]).await?;
    }
    rest.entered |= &later.entered;
    rest.exited |= &later.exited;
    sqlx::query(
        "update backfill_rests set total = total + $2, last_merge = rollcall_last_merge() where backfill_id = $1",
    )
    .bind(id)
    .bind(later.len() as i64)
    .execute(&mut *tx)
    .await?;
    keep(tx, id, &rest).await?;
    Ok(id)
}

/// What is left as of a merge; none: as of now. With a `rate_limit` of its own, or, without one, that of its audience.
async fn insert(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
    kind: Kind,
    rate_limit: Option<u32>,
    rest: &Change,
    last_merge: Option<i64>,
) -> Result<BackfillId> {
    let id: BackfillId = sqlx::query_scalar(
        "insert into backfills (destination_id, audience_id, kind) values ($1, $2, $3) returning id",
    )
    .bind(destination)
    .bind(audience)
    .bind(kind)
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        "insert into backfill_rests (backfill_id, total, remaining, entered, exited, rate_limit, last_merge)
         values ($1, $2, $2, $3, $4, $5, coalesce($6, rollcall_last_merge()))",
    )
    .bind(id)
    .bind(rest.len() as i64)
    .bind(diff::encode(&rest.entered))
    .bind(diff::encode(&rest.exited))
    .bind(rate_limit.map(i64::from))
    .bind(last_merge)
    .execute(tx)
    .await?;
    Ok(id)
}

/// The changes that backfills have taken over, be they going on, paused or cancelled: the seal lets them alone. Whoever has changed
/// sides meanwhile is no longer theirs: should he change again, he is told by the ordinary difference. So it is with whoever of a
/// cancelled one has `changed` to another value of a trait; and whoever was merged away is nobody's: the survivor is told by the
/// difference, or waits here himself.
pub(super) async fn waiting(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
    members: &RoaringBitmap,
    changed: &RoaringBitmap,
) -> Result<Change> {
    let rows = sqlx::query(
        "select b.id, b.state, r.entered, r.exited from backfills b join backfill_rests r on r.backfill_id = b.id
         where b.destination_id = $1 and b.audience_id = $2 and b.kind = 'changes' and r.remaining > 0 and not b.withdrawn",
    )
    .bind(destination)
    .bind(audience)
    .fetch_all(&mut *tx)
    .await?;
    let mut waiting = Change::default();
    for row in rows {
        let mut rest = rest(&row)?;
        let before = rest.len();
        rest.entered &= members;
        rest.exited -= members;
        if row.try_get::<State, _>("state")? == State::Cancelled {
            rest.entered -= changed;
        }
        if rest.len() < before {
            keep(tx, row.try_get("id")?, &rest).await?;
        }
        waiting.entered |= rest.entered;
        waiting.exited |= rest.exited;
    }
    Ok(waiting)
}

/// Takes people out of whatever is left of an audience's backfills: they are told otherwise, for good.
pub(super) async fn forget(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
    leaving: &RoaringBitmap,
) -> Result<()> {
    let rows = sqlx::query(
        "select b.id, r.entered, r.exited from backfills b join backfill_rests r on r.backfill_id = b.id
         where b.destination_id = $1 and b.audience_id = $2 and r.remaining > 0",
    )
    .bind(destination)
    .bind(audience)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let mut rest = rest(&row)?;
        rest.entered -= leaving;
        rest.exited -= leaving;
        keep(tx, row.try_get("id")?, &rest).await?;
    }
    Ok(())
}

fn rest(row: &PgRow) -> Result<Change> {
    Ok(Change {
        entered: diff::decode(row.try_get::<&[u8], _>("entered")?)?,
        exited: diff::decode(row.try_get::<&[u8], _>("exited")?)?,
    })
}

/// Stores what is left of a backfill.
async fn keep(tx: &mut PgConnection, id: BackfillId, rest: &Change) -> Result<()> {
    sqlx::query("update backfill_rests set remaining = $2, entered = $3, exited = $4 where backfill_id = $1")
        .bind(id)
        .bind(rest.len() as i64)
        .bind(diff::encode(&rest.entered))
        .bind(diff::encode(&rest.exited))
        .execute(tx)
        .await?;
    Ok(())
}
