//! For whom does a comparison with a computed trait hold? Its values, chunk by chunk, held against the comparator.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::PgConnection;

use super::{
    Settings,
    guard::{self, Counts},
    members::Members,
    tally::Ids,
    values::{Column, join, settle::Settled, stored},
};
use crate::{
    Error, Result,
    audience::{
        ast::{Comparison, Path, Scalar, Segment},
        interpret,
        value::{Value, walk},
    },
};

/// For whom a comparison with a computed trait holds: by the values of this tick, unless those will be held, else as stored.
pub(super) async fn answer(
    conn: &mut PgConnection,
    comparison: &Comparison,
    settled: &[(String, Result<Settled>)],
    stored: &HashMap<String, RoaringBitmap>,
    settings: &Settings,
    t: DateTime<Utc>,
) -> Result<Members> {
    let key = key(comparison);
    let settled = match settled.iter().find(|(known, _)| known == key) {
        Some((_, Ok(settled))) => Some(settled),
        Some((_, Err(error))) => {
            return Err(Error::new(error.kind, format!("it refers to the computed trait `{key}`, which failed")));
        }
        None => None,
    };
    let before = stored.get(key).map(RoaringBitmap::len);
    let held = |settled: &Settled| {
        let counts = Counts { entered: settled.change.entered.len(), exited: settled.change.exited.len() };
        let judge = |limit| guard::judge_values(before.is_none(), counts, settled.standing, limit);
        settings.limits.get(key).is_some_and(|limit| judge(limit).is_some())
    };
    let settled = settled.filter(|settled| !held(settled));
    if settled.is_none() && before.is_none() {
        return Err(Error::definition(format!("it refers to the computed trait `{key}`, which has no values yet"))
            .help(format!("Compute `{key}` first, or in the same run.")));
    }
    compare(conn, comparison, settled, t).await
}

/// Answers a comparison whose left side is the trait `key`: by what was just `settled`, else by what is stored.
async fn compare(
    conn: &mut PgConnection,
    comparison: &Comparison,
    settled: Option<&Settled>,
    t: DateTime<Utc>,
) -> Result<Members> {
    let Scalar::Trait(path) = &comparison.left else {
        return Err(Error::internal("a comparison of values has no trait on its left"));
    };
    let Some((Segment::Key(key), rest)) = path.0.split_first() else {
        return Err(Error::internal("a computed trait has no key"));
    };
    let rest = Path(rest.to_vec());
    let holds = |values: &[Value]| interpret::compares(values, &comparison.comparator, t);
    // Most people have no value: those are never listed, whatever holds for them.
    let missing = holds(&[]);
    let stored = stored(conn, key).await?;
    let mut chunks: BTreeMap<u16, &[u8]> = stored.iter().map(|(chunk, bytes)| (*chunk, &bytes[..])).collect();
    chunks.extend(settled.iter().flat_map(|settled| &settled.chunks).map(|(chunk, bytes)| (*chunk, &bytes[..])));
    let mut ids = Ids::default();
    // Counters and categories have few values: each is read once.
    let mut known: HashMap<String, bool> = HashMap::new();
    // Where nobody has a value any more, there are no bytes.
    for (chunk, bytes) in chunks.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for (at, text) in Column::decode(bytes)?.iter() {
            let answer = match known.get(text) {
                Some(answer) => *answer,
                None => {
                    let json = serde_json::from_str(text).unwrap_or_default();
                    let values: Vec<Value> = walk(&json, &rest).into_iter().filter_map(Value::from_json).collect();
                    let answer = holds(&values);
                    if known.len() < KNOWN {
                        known.insert(text.to_owned(), answer);
                    }
                    answer
                }
            };
            if answer != missing {
                ids.insert(join(chunk, at));
            }
        }
    }
    Ok(Members { ids: ids.to_bitmap(), all_but: missing })
}

/// Answers that are remembered.
const KNOWN: usize = 100_000;

/// The key of the trait on the left.
fn key(comparison: &Comparison) -> &str {
    match &comparison.left {
        Scalar::Trait(path) => match path.0.first() {
            Some(Segment::Key(key)) => key,
            _ => "",
        },
        _ => "",
    }
}
