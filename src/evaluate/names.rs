//! What does the store call the events that definitions name, and which of their numbers have a column?

use std::collections::BTreeSet;

use sqlx::{PgConnection, Row as _};

use super::compile::Names;
use crate::{
    Result,
    audience::{
        ComputedTrait,
        ast::{Comparison, Scalar, Source, Stream},
        conditions::Condition,
        visit,
    },
};

/// What the store calls the events of these conditions and values.
pub(super) async fn names(
    conn: &mut PgConnection,
    conditions: &[&Condition],
    definitions: &[&ComputedTrait],
) -> Result<Names> {
    let mut events = BTreeSet::new();
    let mut see = |stream: &Stream| {
        if let Source::Event(name) = &stream.source
            && !name.contains('\0')
        {
            events.insert(name.clone());
        }
    };
    let mut within = |comparison: &Comparison| {
        let streams = comparison.scalars().filter_map(|scalar| match scalar {
            Scalar::Reduce(stream, _) => Some(stream),
            _ => None,
        });
        streams.for_each(|stream| see(stream));
    };
    conditions.iter().for_each(|condition| visit::within(&condition.0, &mut within));
    let streams = || definitions.iter().map(|definition| &definition.stream);
    streams().flat_map(Stream::conditions).for_each(|condition| visit::comparisons(condition, &mut within));
    streams().for_each(see);
    let events: Vec<String> = events.into_iter().collect();
    let rows = sqlx::query(
        "select n.id, n.name, p.path, p.slot from event_names n left join promotions p on p.name_id = n.id and p.ready \
         where n.name = any ($1)",
    )
    .bind(&events)
    .fetch_all(conn)
    .await?;
    let mut names = Names::default();
    for row in rows {
        let id: i32 = row.try_get(0)?;
        names.ids.insert(row.try_get(1)?, id);
        if let Some(path) = row.try_get::<Option<Vec<String>>, _>(2)? {
            names.promoted.insert((id, path), row.try_get(3)?);
        }
    }
    Ok(names)
}
