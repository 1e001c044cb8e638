//! How do two stored profiles become one? All that belongs to the one that goes is given to the one created first.
//!
//! In the transaction of the batch that showed them to be one, under the exclusive lock on identities: nobody else
//! writes for either. What was told of the one that goes follows at the next seal, by `merges`.

use sqlx::PgConnection;

use super::identity::{Owner, Resolution};
use crate::Result;

/// Gives identifiers, events and groups of merged profiles to those that are left, and notes each merge. Traits are merged
/// by the caller; profiles of this very batch have nothing to give yet.
pub(super) async fn store(connection: &mut PgConnection, resolution: &Resolution<'_>) -> Result<()> {
    let mut merges = Vec::new();
    for merge in &resolution.merges {
        if let (Owner::Stored(from), Owner::Stored(into)) = (merge.from, resolution.root(merge.into)) {
            merges.push((from, into, merge));
        }
    }
    if merges.is_empty() {
        return Ok(());
    }
    let from: Vec<i64> = merges.iter().map(|(from, ..)| *from).collect();
    let into: Vec<i64> = merges.iter().map(|(_, into, _)| *into).collect();
    // The tables are large and what moves is not: each is asked by profile through its index, partition by partition.
    set_planner(connection, "off").await?;
    for sql in [
        // They keep their xid: nobody got an identifier that he did not have before.
        "update identifiers i set profile_id = m.into_id
         from unnest($1::bigint[], $2::bigint[]) as m (from_id, into_id) where i.profile_id = m.from_id",
        "update events e set profile_id = m.into_id, xid = pg_current_xact_id()
         from unnest($1::bigint[], $2::bigint[]) as m (from_id, into_id) where e.profile_id = m.from_id",
        "insert into group_members (profile_id, group_id)
         select m.into_id, g.group_id from unnest($1::bigint[], $2::bigint[]) as m (from_id, into_id)
         join group_members g on g.profile_id = m.from_id on conflict do nothing",
    ] {
        sqlx::query(sql).bind(&from).bind(&into).execute(&mut *connection).await?;
    }
    for sql in ["delete from group_members where profile_id = any($1)", "delete from profiles where id = any($1)"] {
        sqlx::query(sql).bind(&from).execute(&mut *connection).await?;
    }
    set_planner(connection, "on").await?;
    let types = |types: &[String]| serde_json::Value::from(types).to_string();
    sqlx::query(
        "insert into merges (from_id, into_id, reason, from_types, into_types)
         select from_id, into_id, reason, array(select jsonb_array_elements_text(from_types::jsonb)),
                array(select jsonb_array_elements_text(into_types::jsonb))
         from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) with ordinality
              as m (from_id, into_id, reason, from_types, into_types, n) order by n",
    )
    .bind(&from)
    .bind(&into)
    .bind(
        merges.iter().map(|(.., merge)| if merge.by_alias { "alias" } else { "shared_identifier" }).collect::<Vec<_>>(),
    )
    .bind(merges.iter().map(|(.., merge)| types(&merge.from_types)).collect::<Vec<_>>())
    .bind(merges.iter().map(|(.., merge)| types(&merge.into_types)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Until the end of the transaction, or until it is set again.
async fn set_planner(connection: &mut PgConnection, value: &str) -> Result<()> {
    sqlx::query(
        "select set_config(name, $1, true) from unnest(array['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) name",
    )
    .bind(value)
    .execute(connection)
    .await?;
    Ok(())
}
