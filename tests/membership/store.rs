//! Histories, put into a store as an import would.

use std::collections::{BTreeMap, HashMap};

use rollcall::{audience::interpret::Profile, membership::diff, values::Column};
use sqlx::{PgPool, postgres::PgPool as Pool};

/// Stores the profiles with ids from 1 on, each with a `user_id`.
pub async fn insert(pool: &PgPool, profiles: &[Profile]) {
    let ids: Vec<i64> = (1..=profiles.len() as i64).collect();
    let traits: Vec<_> = profiles.iter().map(|profile| profile.traits.clone()).collect();
    sqlx::query("insert into profiles (id, traits) select * from unnest($1::bigint[], $2::jsonb[])")
        .bind(&ids)
        .bind(&traits)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("insert into identifiers (type, value, profile_id, added_at) select 'user_id', 'u' || id, id, now() from unnest($1::bigint[]) id")
        .bind(&ids)
        .execute(pool)
        .await
        .unwrap();
    let mut names = HashMap::new();
    for name in profiles.iter().flat_map(|profile| &profile.events).map(|event| event.name.as_str()) {
        if !names.contains_key(name) {
            names.insert(name, event_name(pool, name).await);
        }
    }
    let events: Vec<_> = profiles
        .iter()
        .zip(&ids)
        .flat_map(|(profile, id)| profile.events.iter().map(move |event| (*id, event)))
        .collect();
    sqlx::query(
        "insert into events (profile_id, name_id, occurred_at, message_id, source_id, properties, context) \
         select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[])",
    )
    .bind(events.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| names[event.name.as_str()]).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.occurred_at).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.message_id.clone()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.source_id.clone()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.properties.clone()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.context.clone()).collect::<Vec<_>>())
    .execute(pool)
    .await
    .unwrap();
}

pub async fn event_name(pool: &Pool, name: &str) -> i32 {
    sqlx::query_scalar(
        "insert into event_names (name) values ($1) on conflict (name) do update set name = excluded.name returning id",
    )
    .bind(name)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Gives a number of an event a typed column, and fills it, as `store.promote` does.
pub async fn promote(pool: &Pool, name: &str, path: &str, slot: i16) {
    let id = event_name(pool, name).await;
    sqlx::query("insert into promotions (name_id, path, slot) values ($1, array[$2], $3)")
        .bind(id)
        .bind(path)
        .bind(slot)
        .execute(pool)
        .await
        .unwrap();
    let fill = format!(
        "update events set number_{slot} = case jsonb_typeof(properties -> $2) when 'number' then (properties -> $2)::numeric \
         when 'string' then rollcall_number(properties ->> $2) end where name_id = $1"
    );
    sqlx::query(sqlx::AssertSqlSafe(fill)).bind(id).bind(path).execute(pool).await.unwrap();
}

/// Stores a computed trait with a run that found these values by profile, as JSON text; few enough for one chunk.
pub async fn insert_values(pool: &PgPool, key: &str, values: &BTreeMap<u32, String>) {
    let mut column = Column::default();
    values.iter().for_each(|(id, value)| column.push(u16::try_from(*id).unwrap(), value));
    let members = diff::encode(&values.keys().copied().collect());
    sqlx::query(
        "with a as (insert into audiences (computation_id, key, name, class) values ($1, $1, $1, 'trait') returning id),
         v as (insert into trait_values (audience_id, chunk, values) select id, 0, $2 from a),
         r as (insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count, exited_count,
                                 entered, exited, evaluate_ms)
               select id, 1, now(), pg_current_snapshot()::text, $4, $4, 0, $3, $5, 0 from a returning id, audience_id)
         insert into memberships (audience_id, run_id, members) select audience_id, id, $3 from r",
    )
    .bind(key)
    .bind(column.encode())
    .bind(members)
    .bind(values.len() as i64)
    .bind(diff::encode(&Default::default()))
    .execute(pool)
    .await
    .unwrap();
}
