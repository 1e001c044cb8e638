//! For whom does a comparison with a computed trait hold? Its values, chunk by chunk, held against the comparator.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{members::Members, tally::Ids};
use crate::{
    Error, Result,
    audience::{
        ast::{Comparison, Path, Scalar, Segment},
        conditions::Formula,
        interpret,
        value::{Number, Value, walk},
    },
    values::{Column, columns, current::Current, join, stored},
};

/// For whom each comparison of some formulas with a computed trait holds.
pub(super) async fn answers<'c>(
    conn: &mut PgConnection,
    formulas: impl IntoIterator<Item = &'c Formula>,
    current: &Current<'_>,
    t: DateTime<Utc>,
) -> HashMap<&'c Comparison, Result<Members, Arc<Error>>> {
    let (mut asked, mut answers) = (Vec::new(), HashMap::new());
    formulas.into_iter().for_each(|formula| formula.values(&mut |comparison| asked.push(comparison)));
    for comparison in asked {
        if !answers.contains_key(comparison) {
            answers.insert(comparison, compare(conn, comparison, current, t).await.map_err(Arc::new));
        }
    }
    answers
}

async fn compare(
    conn: &mut PgConnection,
    comparison: &Comparison,
    current: &Current<'_>,
    t: DateTime<Utc>,
) -> Result<Members> {
    let Scalar::Computed(path) = &comparison.left else {
        return Err(Error::internal("a comparison of values has no computed trait on its left"));
    };
    let Some((Segment::Key(key), rest)) = path.0.split_first() else {
        return Err(Error::internal("a computed trait has no key"));
    };
    let settled = current.of(key)?;
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
                    let answer = holds(&read(text, rest));
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

/// The values at a path of a stored one. A number is what its text says, to the last digit, as it is for Postgres.
fn read(text: &str, path: &[Segment]) -> Vec<Value> {
    match path.split_first() {
        None if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            text.parse().map(|number| Value::Number(Number::new(number))).into_iter().collect()
        }
        Some((Segment::Key(key), rest)) if text.starts_with('{') => {
            columns::read(text).get(key).map_or_else(Vec::new, |value| read(value, rest))
        }
        _ => {
            let json = serde_json::from_str(text).unwrap_or_default();
            walk(&json, &Path(path.to_vec())).into_iter().filter_map(Value::from_json).collect()
        }
    }
}

/// Answers that are remembered.
const KNOWN: usize = 100_000;
