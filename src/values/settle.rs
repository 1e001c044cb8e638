//! Whose value is another one than before, and what is it now? Old and new values, merged chunk by chunk. Pure but for
//! reading the old ones.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rayon::prelude::*;
use roaring::RoaringBitmap;
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::{Column, Values, columns, join, stored};
use crate::{
    Error, Result,
    audience::Computed,
    ids::ProfileId,
    membership::{diff::Change, guard::Standing},
};

/// A trait's values after a run, as far as they differ from those before.
#[derive(Debug, Default)]
pub struct Settled {
    /// Everybody with a value.
    pub members: RoaringBitmap,
    /// Entered: who has a value, and another one than before. Exited: whose value ceased to exist.
    pub change: Change,
    /// Of a trait, what the guard goes by.
    pub standing: Standing,
    /// The chunks that changed, compressed; without bytes where nobody has a value any more.
    pub chunks: BTreeMap<u16, Vec<u8>>,
    /// Of several values, those that changed, compressed: what the run tells of each.
    pub patches: BTreeMap<u16, Vec<u8>>,
    /// The keys of several values.
    pub columns: Vec<String>,
}

/// How a value that is not found any more, or not at first, is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// One value. With `zero` a value that was there becomes 0, as a counter does when its last event has left the window.
    One { zero: bool },
    /// Several, told together: of those in `zeros` the same holds. With `additive` none ceases.
    Columns { zeros: BTreeSet<String>, additive: bool },
}

impl Shape {
    /// What holds now, from what held and what was found.
    fn now<'v>(&self, old: Option<&'v str>, found: Option<&'v str>) -> Option<Cow<'v, str>> {
        match self {
            Shape::One { zero } => found.or(old.filter(|_| *zero).map(|_| "0")).map(Cow::Borrowed),
            Shape::Columns { zeros, additive } => columns::now(old, found, zeros, *additive),
        }
    }

    /// Whether a value is something: not the 0 of whoever has nothing left.
    fn is_something(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return false };
        match self {
            Shape::One { zero } => !(*zero && value == "0"),
            Shape::Columns { zeros, .. } if zeros.is_empty() => true,
            Shape::Columns { zeros, .. } => {
                columns::read(value).iter().any(|(key, value)| !(*value == "0" && zeros.contains(key)))
            }
        }
    }

    /// Of what is computed.
    pub(crate) fn of(computed: &Computed) -> Shape {
        match computed {
            Computed::Value(definition) => Shape::One { zero: definition.reducer.is_zero_of_nothing() },
            Computed::Columns(columns) => {
                let zeros = columns.iter().filter(|(_, definition)| definition.reducer.is_zero_of_nothing());
                Shape::Columns { zeros: zeros.map(|(key, _)| key.clone()).collect(), additive: false }
            }
            Computed::Sql(sql) => Shape::Columns { zeros: BTreeSet::new(), additive: sql.additive },
            Computed::Members { .. } => Shape::One { zero: false },
        }
    }
}

/// What was found of one trait, to be held against what is stored.
pub(crate) struct Finding {
    pub key: String,
    pub found: Result<Values>,
    /// Only its profiles have values.
    pub universe: Arc<RoaringBitmap>,
    pub shape: Shape,
}

/// Settles each trait, in their order. While the processors hold one's values against each other, the database brings the
/// old ones of the next.
pub(crate) async fn settle(conn: &mut PgConnection, findings: Vec<Finding>) -> Result<Vec<(String, Result<Settled>)>> {
    let (mut settled, mut running) = (Vec::with_capacity(findings.len()), None);
    for Finding { key, found, universe, shape } in findings {
        let task = match found {
            Ok(found) => {
                let stored = stored(conn, &key).await?;
                Ok(tokio::task::spawn_blocking(move || Settled::of(&stored, &found, &universe, &shape)))
            }
            Err(error) => Err(error),
        };
        if let Some((key, task)) = running.replace((key, task)) {
            settled.push((key, ended(task).await));
        }
    }
    if let Some((key, task)) = running {
        settled.push((key, ended(task).await));
    }
    Ok(settled)
}

async fn ended(task: Result<JoinHandle<Result<Settled>>>) -> Result<Settled> {
    task?.await.map_err(|error| Error::internal("the settling of values broke off").because(error))?
}

impl Settled {
    /// Values among those that changed, in the order of ids, at most so many; as JSON text.
    ///
    /// # Errors
    /// Never for what was settled here.
    pub fn sample(&self, limit: usize) -> Result<Vec<(ProfileId, String)>> {
        let mut sample = Vec::new();
        for (chunk, bytes) in self.chunks.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let column = Column::decode(bytes)?;
            let left = limit - sample.len();
            sample.extend(column.iter().take(left).map(|(at, value)| (ProfileId(join(*chunk, at)), value.to_owned())));
            if sample.len() == limit {
                break;
            }
        }
        Ok(sample)
    }

    fn of(stored: &BTreeMap<u16, Vec<u8>>, found: &Values, universe: &RoaringBitmap, shape: &Shape) -> Result<Settled> {
        let chunks: BTreeSet<u16> = found.chunks().chain(stored.keys().copied()).collect();
        // Chunks have nothing to do with each other: each processor takes some.
        let chunks = chunks.into_par_iter().map(|chunk| {
            let old = stored.get(&chunk).map_or_else(|| Ok(Column::default()), |bytes| Column::decode(bytes))?;
            let new = found.column(chunk)?;
            Ok(Settled::chunk(chunk, &old, &new, universe, shape))
        });
        let mut settled = Settled { columns: found.columns.clone(), ..Settled::default() };
        for chunk in chunks.collect::<Result<Vec<_>>>()? {
            settled.absorb(chunk);
        }
        Ok(settled)
    }

    /// What became of one chunk.
    fn chunk(chunk: u16, old: &Column, found: &Column, universe: &RoaringBitmap, shape: &Shape) -> Settled {
        let mut settled = Settled::default();
        let several = matches!(shape, Shape::Columns { .. });
        // What holds now, from where on it is not what was found: of single values often nowhere.
        let (mut state, mut patches) = (several.then(|| Column::like(found)), Column::default());
        let (mut entered, mut exited) = (Vec::new(), Vec::new());
        for (at, old, new) in merged(old, found) {
            let id = join(chunk, at);
            let now = if universe.contains(id) { shape.now(old, new) } else { None };
            let now = now.as_deref();
            if state.is_none() && now.is_some() != new.is_some() {
                state = Some(found.before(at));
            }
            if let (Some(state), Some(now)) = (&mut state, now) {
                state.push(at, now);
            }
            let was = shape.is_something(old);
            settled.standing.before += u64::from(was);
            if old == now {
                continue;
            }
            let is = shape.is_something(now);
            settled.standing.change.entered += u64::from(is && !was);
            settled.standing.change.exited += u64::from(was && !is);
            if several {
                patches.push(at, &columns::patch(old, now));
            }
            match now {
                Some(_) => entered.push(id),
                None => exited.push(id),
            }
        }
        let state = state.as_ref().unwrap_or(found);
        if !patches.is_empty() {
            settled.patches.insert(chunk, patches.encode());
        }
        if !entered.is_empty() || !exited.is_empty() {
            settled.chunks.insert(chunk, if state.is_empty() { Vec::new() } else { state.encode() });
        }
        settled.members = ascending(state.ids().iter().map(|at| join(chunk, *at)));
        settled.change = Change { entered: ascending(entered), exited: ascending(exited) };
        settled
    }

    /// Takes in a chunk beyond all those before.
    fn absorb(&mut self, mut chunk: Settled) {
        self.members |= chunk.members;
        self.change.entered |= chunk.change.entered;
        self.change.exited |= chunk.change.exited;
        self.standing.before += chunk.standing.before;
        self.standing.change.entered += chunk.standing.change.entered;
        self.standing.change.exited += chunk.standing.change.exited;
        self.chunks.append(&mut chunk.chunks);
        self.patches.append(&mut chunk.patches);
    }
}

/// A set of ids that come in order: several times faster than to look up each one's place.
fn ascending(ids: impl IntoIterator<Item = u32>) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(ids).expect("ids that come in order are sorted")
}

/// Each id that either column has, ascending, with its value in both.
pub(super) fn merged<'c>(
    left: &'c Column,
    right: &'c Column,
) -> impl Iterator<Item = (u16, Option<&'c str>, Option<&'c str>)> + 'c {
    let (mut l, mut r) = (0, 0);
    std::iter::from_fn(move || {
        let order = match (left.ids().get(l), right.ids().get(r)) {
            (Some(left), Some(right)) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let id = if order.is_le() { left.ids()[l] } else { right.ids()[r] };
        let values = (id, order.is_le().then(|| left.at(l)), order.is_ge().then(|| right.at(r)));
        l += usize::from(order.is_le());
        r += usize::from(order.is_ge());
        Some(values)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(values: &BTreeMap<u16, String>) -> Column {
        let mut column = Column::default();
        values.iter().for_each(|(id, value)| column.push(*id, value));
        column
    }

    fn values() -> impl Strategy<Value = BTreeMap<u16, String>> {
        prop::collection::btree_map(0u16..40, "[0-3]", 0..40)
    }

    proptest! {
        #[test]
        fn what_is_told_turns_what_held_into_what_holds(old in values(), found in values(), zero: bool, outside in 0u32..40) {
            let universe: RoaringBitmap = (0..40).filter(|id| *id != outside).collect();
            let settled = Settled::chunk(0, &column(&old), &column(&found), &universe, &Shape::One { zero });
            let mut expected = BTreeMap::new();
            for id in (0u16..40).filter(|id| u32::from(*id) != outside) {
                match (found.get(&id), old.get(&id)) {
                    (Some(found), _) => drop(expected.insert(id, found.clone())),
                    (None, Some(_)) if zero => drop(expected.insert(id, "0".into())),
                    (None, _) => {}
                }
            }
            prop_assert_eq!(settled.members.iter().map(|id| id as u16).collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>());
            let state = match settled.chunks.get(&0) {
                Some(bytes) if bytes.is_empty() => BTreeMap::new(),
                Some(bytes) => Column::decode(bytes).unwrap().iter().map(|(id, value)| (id, value.to_owned())).collect(),
                None => old.clone(),
            };
            prop_assert_eq!(&state, &expected);
            let something = |values: &BTreeMap<u16, String>, id: &u16| values.get(id).is_some_and(|value| !zero || value != "0");
            let (was, is): (Vec<u16>, Vec<u16>) =
                ((0..40).filter(|id| something(&old, id)).collect(), (0..40).filter(|id| something(&expected, id)).collect());
            prop_assert_eq!(settled.standing.before, was.len() as u64);
            prop_assert_eq!(settled.standing.change.entered, is.iter().filter(|id| !was.contains(id)).count() as u64);
            prop_assert_eq!(settled.standing.change.exited, was.iter().filter(|id| !is.contains(id)).count() as u64);
            for id in 0u16..40 {
                let (before, now) = (old.get(&id), expected.get(&id));
                prop_assert_eq!(settled.change.entered.contains(id.into()), now.is_some() && now != before);
                prop_assert_eq!(settled.change.exited.contains(id.into()), now.is_none() && before.is_some());
            }
        }
    }
}
