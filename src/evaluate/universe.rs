//! Who can be a member at all? Profiles with an identifier that counts, kept as one bitmap per identifier type.
//!
//! The bitmaps are brought up to date by the watermark of `identifiers`, so a tick reads the identifiers that came, not
//! all of them. What went cannot be seen that way: a profile loses its identifiers only by being merged or forgotten, and the
//! log of merges has the same watermark.

use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row as _};

use super::{compile::Query, query, tally::Ids};
use crate::{Error, Result, database};

/// The identifier types that make a profile a possible member of an audience.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Universe {
    types: Vec<String>,
}

impl Universe {
    /// Profiles with an identifier of one of these types.
    pub fn of<T: Into<String>>(types: impl IntoIterator<Item = T>) -> Universe {
        let mut types: Vec<String> = types.into_iter().map(Into::into).collect();
        types.sort();
        types.dedup();
        Universe { types }
    }

    /// Profiles with a `user_id`; with an `anonymous_id` too, if the audience includes anonymous users.
    pub fn users(include_anonymous: bool) -> Universe {
        Universe::of(["user_id"].into_iter().chain(include_anonymous.then_some("anonymous_id")))
    }

    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(String::as_str)
    }
}

/// Which store, and which moment of it: a snapshot's text means nothing in another cluster.
pub(super) struct Moment {
    snapshot: String,
    system_identifier: i64,
}

impl Moment {
    pub(super) async fn of(conn: &mut PgConnection) -> Result<Moment> {
        let row = sqlx::query(
            "select pg_current_snapshot()::text, (select system_identifier from pg_control_system()), pg_is_in_recovery()",
        )
        .fetch_one(conn)
        .await?;
        if row.try_get(2)? {
            // Snapshots of a standby lie about running transactions, so the watermark would lose rows.
            return Err(database::standby());
        }
        Ok(Moment { snapshot: row.try_get(0)?, system_identifier: row.try_get(1)? })
    }
}

/// The profiles with an identifier of this type, at the transaction's snapshot.
pub(super) async fn members(
    conn: &mut PgConnection,
    id_type: &str,
    moment: &Moment,
    remember: bool,
) -> Result<RoaringBitmap> {
    let known = sqlx::query("select snapshot, members from universes where id_type = $1 and system_identifier = $2")
        .bind(id_type)
        .bind(moment.system_identifier)
        .fetch_optional(&mut *conn)
        .await?;
    let known = match known {
        Some(row) => {
            let bytes: Vec<u8> = row.try_get(1)?;
            // A cache that cannot be read is built anew.
            RoaringBitmap::deserialize_from(&bytes[..]).ok().zip(row.try_get::<String, _>(0).ok())
        }
        None => None,
    };
    let complete = known.is_none();
    let (mut members, query) = match known {
        Some((mut members, previous)) => {
            went_since(conn, &previous).await?.into_iter().for_each(|id| {
                members.remove(id);
            });
            (members, came_since(id_type, previous))
        }
        None => (RoaringBitmap::new(), all(id_type)),
    };
    let mut ids = Ids::default();
    let rows = query::rows(conn, &query, |mut row| {
        ids.insert(row.profile_id()?);
        Ok(())
    })
    .await?;
    members |= ids.to_bitmap();
    if remember && (complete || rows > 0) {
        store(conn, id_type, moment, &mut members).await?;
    }
    Ok(members)
}

fn all(id_type: &str) -> Query {
    Query {
        text: "select i.profile_id from identifiers i where i.type = current_setting('rollcall.p1')".into(),
        parameters: vec![id_type.into()],
        negated: false,
    }
}

/// Each row that the earlier snapshot did not see, exactly once: late commits are later than no sequence and no clock; and those of
/// whoever has taken somebody in since.
fn came_since(id_type: &str, snapshot: String) -> Query {
    Query {
        text: "select i.profile_id from identifiers i where i.xid >= pg_snapshot_xmin(current_setting('rollcall.p2')::pg_snapshot) \
               and not pg_visible_in_snapshot(i.xid, (select current_setting('rollcall.p2')::pg_snapshot)) \
               and i.type = (select current_setting('rollcall.p1')) \
               union all select i.profile_id from merges m join identifiers i on i.profile_id = m.into_id \
               where m.xid >= pg_snapshot_xmin(current_setting('rollcall.p2')::pg_snapshot) \
               and not pg_visible_in_snapshot(m.xid, (select current_setting('rollcall.p2')::pg_snapshot)) \
               and i.type = (select current_setting('rollcall.p1'))"
            .into(),
        parameters: vec![id_type.into(), snapshot],
        negated: false,
    }
}

/// The profiles that are no more since then.
async fn went_since(conn: &mut PgConnection, snapshot: &str) -> Result<Vec<u32>> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "select from_id from merges where xid >= pg_snapshot_xmin($1::text::pg_snapshot)
         and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)",
    )
    .bind(snapshot)
    .fetch_all(conn)
    .await?;
    // The table's ids are those of profiles, whose CHECK bounds them.
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

/// Best effort: two evaluations at once may both be right, and the later one then keeps what the other stored.
async fn store(conn: &mut PgConnection, id_type: &str, moment: &Moment, members: &mut RoaringBitmap) -> Result<()> {
    members.optimize();
    let mut bytes = Vec::with_capacity(members.serialized_size());
    members
        .serialize_into(&mut bytes)
        .map_err(|error| Error::internal("a bitmap could not be written").because(error))?;
    sqlx::raw_sql("savepoint universe").execute(&mut *conn).await?;
    let stored = sqlx::query(
        "insert into universes (id_type, snapshot, system_identifier, members) values ($1, $2, $3, $4) \
         on conflict (id_type) do update set snapshot = excluded.snapshot, \
         system_identifier = excluded.system_identifier, members = excluded.members",
    )
    .bind(id_type)
    .bind(&moment.snapshot)
    .bind(moment.system_identifier)
    .bind(bytes)
    .execute(&mut *conn)
    .await;
    let end = if stored.is_ok() { "release savepoint universe" } else { "rollback to savepoint universe" };
    sqlx::raw_sql(end).execute(&mut *conn).await?;
    if let Err(error) = stored {
        tracing::debug!(%error, id_type, "another evaluation stored this universe first");
    }
    Ok(())
}
