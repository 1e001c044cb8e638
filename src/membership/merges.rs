//! Two profiles became one: what does that make of who was in, and of who was told what? Pure, but for reading the log.
//!
//! A bitmap is as of the run that it was stored with; merges since then are followed when it is next read. A membership of
//! either becomes one of the survivor. What was *told* is subtler: it was told under an identifier, and the question is
//! what the identifier was told under which the survivor is told from now on.
//!
//! ```text
//!  both were told the same                              that
//!  only one can have been told (by its identifiers)     what that one was told
//!  one has a user_id, the other has none                what the one with the user_id was told
//!  otherwise                                            unsure: the survivor is told its membership again, whichever it is
//! ```
//!
//! Entries of the log that were sealed before a merge and are delivered after it follow the same rule: see [`Merges::hears`].

use roaring::RoaringBitmap;
use sqlx::PgConnection;

use super::diff;
use crate::{
    Error, Result,
    audience::options::Options,
    ids::{AudienceId, ProfileId, RunId},
    profile::merges::{self, Merge},
};

/// Merges, in their order.
#[derive(Debug, Clone, Default)]
pub struct Merges(pub Vec<Merge>);

impl Merges {
    fn after(&self, last: i64) -> &[Merge] {
        &self.0[self.0.partition_point(|merge| merge.id <= last)..]
    }

    /// Brings a membership up to date that is as of merge `last`.
    pub fn follow(&self, members: &mut RoaringBitmap, last: i64) {
        for merge in self.after(last) {
            if members.remove(merge.from.0)
                && let Some(into) = merge.into
            {
                members.insert(into.0);
            }
        }
    }

    /// Brings what was told up to date; returns those of whom it is not sure what they were told.
    pub fn follow_told(&self, told: &mut RoaringBitmap, last: i64, options: &Options) -> RoaringBitmap {
        let mut unsure = RoaringBitmap::new();
        for merge in self.after(last) {
            let from = told.remove(merge.from.0);
            let from_unsure = unsure.remove(merge.from.0);
            let Some(into) = merge.into else { continue };
            let was_told = told.contains(into.0);
            let keeps = match Heard::of(merge, options) {
                _ if from == was_told => was_told,
                Heard::From => from,
                Heard::Into => was_told,
                Heard::Either => {
                    unsure.insert(into.0);
                    was_told
                }
            };
            if from_unsure {
                unsure.insert(into.0);
            }
            if keeps {
                told.insert(into.0);
            } else {
                told.remove(into.0);
            }
        }
        unsure
    }

    /// The survivors who are told by an identifier that heard of another profile, or may be.
    pub fn told_anothers(&self, last: i64, options: &Options) -> RoaringBitmap {
        let mut unsure = RoaringBitmap::new();
        for merge in self.after(last) {
            let was = unsure.remove(merge.from.0);
            if let Some(into) = merge.into
                && (was || Heard::of(merge, options) != Heard::Into)
            {
                unsure.insert(into.0);
            }
        }
        unsure
    }

    /// Who is meant by a log entry about `profile` that was sealed as of merge `last`: the survivor, or nobody, if the
    /// merges since then took it an identifier under which it would have been told something else.
    pub fn hears(&self, profile: ProfileId, last: i64, options: &Options) -> Option<ProfileId> {
        let mut profile = profile;
        for merge in self.after(last) {
            let heard = || Heard::of(merge, options);
            if merge.from == profile {
                match heard() {
                    Heard::From | Heard::Either => profile = merge.into?,
                    Heard::Into => return None,
                }
            } else if merge.into == Some(profile) && heard() == Heard::From {
                return None;
            }
        }
        Some(profile)
    }
}

/// Whose identifiers a survivor is told under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    From,
    Into,
    Either,
}

impl Heard {
    fn of(merge: &Merge, options: &Options) -> Heard {
        let counting = options.counting_types();
        let can = |types: &std::collections::HashSet<String>| counting.iter().any(|kind| types.contains(*kind));
        let known = |types: &std::collections::HashSet<String>| types.contains("user_id");
        match (can(&merge.from_types), can(&merge.into_types)) {
            (true, false) => return Heard::From,
            (false, _) => return Heard::Into,
            (true, true) => {}
        }
        // ID Sync tells several identifiers: those of both.
        match (known(&merge.from_types), known(&merge.into_types)) {
            (true, false) if options.id_sync.is_empty() => Heard::From,
            (false, true) if options.id_sync.is_empty() => Heard::Into,
            _ => Heard::Either,
        }
    }
}

/// Brings memberships up to date, each as of the merge beside it.
///
/// # Errors
/// The database's own.
pub(crate) async fn follow<'m>(
    tx: &mut PgConnection,
    memberships: impl IntoIterator<Item = (&'m mut RoaringBitmap, i64)>,
) -> Result<()> {
    let memberships: Vec<_> = memberships.into_iter().collect();
    // Where nothing is stored, nothing is to follow.
    let Some(oldest) = memberships.iter().map(|(_, last)| *last).min() else { return Ok(()) };
    let merges = Merges(merges::after(tx, oldest).await?);
    memberships.into_iter().for_each(|(members, last)| merges.follow(members, last));
    Ok(())
}

/// Brings what was told of an audience up to date, from the merge that it is as of; returns of whom it is unsure. `run` is one of
/// the audience, whose options say who is told.
///
/// # Errors
/// The database's own.
pub(crate) async fn follow_told(
    tx: &mut PgConnection,
    told: &mut RoaringBitmap,
    last: i64,
    run: RunId,
) -> Result<RoaringBitmap> {
    let merges = Merges(merges::after(tx, last).await?);
    if merges.0.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    Ok(merges.follow_told(told, last, &options(tx, run).await?))
}

/// The survivors of merges after `last` who are told of `run` by an identifier that was told of another profile, or may have been.
///
/// # Errors
/// The database's own.
pub(crate) async fn told_anothers(tx: &mut PgConnection, last: i64, run: RunId) -> Result<RoaringBitmap> {
    let merges = Merges(merges::after(tx, last).await?);
    match merges.0.is_empty() {
        true => Ok(RoaringBitmap::new()),
        false => Ok(merges.told_anothers(last, &options(tx, run).await?)),
    }
}

/// The options that a run was sealed with.
///
/// # Errors
/// The database's own.
pub(crate) async fn options(tx: &mut PgConnection, run: RunId) -> Result<Options> {
    let options: serde_json::Value = sqlx::query_scalar(
        "select v.options from runs r join definitions v on v.audience_id = r.audience_id and v.version = r.definition_version
         where r.id = $1",
    )
    .bind(run)
    .fetch_one(tx)
    .await?;
    serde_json::from_value(options)
        .map_err(|error| Error::halted("a stored definition's options cannot be read").because(error))
}

/// Notes what merges alone make of the audience's stored membership, before the run's own takes its place: so that undoing
/// the run gives exactly the membership before it.
///
/// # Errors
/// The database's own.
pub(crate) async fn note(tx: &mut PgConnection, audience: AudienceId, run: RunId) -> Result<()> {
    let last: Option<i64> = sqlx::query_scalar(
        "select r.last_merge from memberships m join runs r on r.id = m.run_id where m.audience_id = $1",
    )
    .bind(audience)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(last) = last else { return Ok(()) };
    let merges = Merges(merges::after(tx, last).await?);
    if merges.0.is_empty() {
        return Ok(());
    }
    let bytes: Vec<u8> = sqlx::query_scalar("select members from memberships where audience_id = $1")
        .bind(audience)
        .fetch_one(&mut *tx)
        .await?;
    let before = diff::decode(&bytes)?;
    let mut after = before.clone();
    merges.follow(&mut after, last);
    if after == before {
        return Ok(());
    }
    sqlx::query("insert into run_merges (run_id, went, came) values ($1, $2, $3)")
        .bind(run)
        .bind(diff::encode(&(&before - &after)))
        .bind(diff::encode(&(&after - &before)))
        .execute(tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn merge(id: i64, from: u32, into: u32, from_types: &[&str], into_types: &[&str]) -> Merge {
        let types = |types: &[&str]| types.iter().map(|kind| (*kind).to_owned()).collect();
        Merge {
            id,
            from: ProfileId(from),
            into: Some(ProfileId(into)),
            merged_at: DateTime::UNIX_EPOCH,
            reason: "shared_identifier".into(),
            from_types: types(from_types),
            into_types: types(into_types),
        }
    }

    /// A person as the model of a consumer sees it: what each identifier was told last.
    #[derive(Debug, Clone, Default)]
    struct Profile {
        user: Option<u32>,
        anonymous: Option<u32>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Both profiles become the first; refused where both have a user_id.
        Merge(usize, usize),
        /// A run, with these members.
        Seal(u8),
        /// Deliver as many entries.
        Deliver(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0..6usize, 0..6usize).prop_map(|(a, b)| Step::Merge(a.min(b), a.max(b))),
            3 => any::<u8>().prop_map(Step::Seal),
            2 => (1..5usize).prop_map(Step::Deliver),
        ];
        prop::collection::vec(step, 1..25)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// However runs, merges and deliveries interleave, after the last run each identifier under which somebody is told
        /// has been told last whether that person is in; and a merged-away profile is told nothing.
        #[test]
        fn a_consumer_ends_up_with_what_is_true(steps in steps(), anonymous in any::<bool>(), last in any::<u8>()) {
            let options = Options { include_anonymous: anonymous, ..Options::default() };
            // 0..3 are anonymous visitors, 3..6 known users; some of those have a device too.
            let mut profiles: Vec<Option<Profile>> = (0..6u32)
                .map(|n| Some(Profile { user: (n % 2 == 1).then_some(n), anonymous: (n % 3 != 1).then_some(n) }))
                .collect();
            let mut merges = Merges::default();
            let (mut told, mut told_as_of) = (RoaringBitmap::new(), 0);
            let mut log: Vec<(u32, bool, i64)> = Vec::new();
            let mut delivered = 0;
            let mut heard: std::collections::BTreeMap<(bool, u32), bool> = Default::default();
            let identity = |profile: &Profile| match (profile.user, profile.anonymous) {
                (Some(user), _) => Some((true, user)),
                (None, Some(device)) if anonymous => Some((false, device)),
                _ => None,
            };
            let steps = steps.into_iter().chain([Step::Seal(last), Step::Deliver(usize::MAX)]);
            for step in steps {
                match step {
                    Step::Merge(into, from) => {
                        let (Some(a), Some(b)) = (profiles[into].clone(), profiles[from].clone()) else { continue };
                        if into == from || a.user.is_some() && b.user.is_some() {
                            continue;
                        }
                        let types = |profile: &Profile| {
                            let user = profile.user.map(|_| "user_id");
                            user.into_iter().chain(profile.anonymous.map(|_| "anonymous_id")).collect::<Vec<_>>()
                        };
                        let id = merges.0.len() as i64 + 1;
                        merges.0.push(merge(id, from as u32, into as u32, &types(&b), &types(&a)));
                        // The latest device is the greater one, here.
                        let joined = Profile { user: a.user.or(b.user), anonymous: a.anonymous.max(b.anonymous) };
                        profiles[into] = Some(joined);
                        profiles[from] = None;
                    }
                    Step::Seal(bits) => {
                        let members: RoaringBitmap = (0..6u32)
                            .filter(|n| bits >> n & 1 == 1)
                            .filter(|n| profiles[*n as usize].as_ref().and_then(&identity).is_some())
                            .collect();
                        let unsure = merges.follow_told(&mut told, told_as_of, &options);
                        let change = diff::Change::between_unsure(&told, &unsure, &members);
                        told_as_of = merges.0.len() as i64;
                        log.extend(change.entered.iter().map(|id| (id, true, told_as_of)));
                        log.extend(change.exited.iter().map(|id| (id, false, told_as_of)));
                        told = members;
                    }
                    Step::Deliver(count) => {
                        for (id, entered, as_of) in log.iter().skip(delivered).take(count) {
                            let person = merges.hears(ProfileId(*id), *as_of, &options);
                            let person = person.and_then(|id| profiles[id.0 as usize].as_ref());
                            if let Some(identity) = person.and_then(&identity) {
                                heard.insert(identity, *entered);
                            }
                        }
                        delivered = log.len().min(delivered.saturating_add(count));
                    }
                }
            }
            for (n, profile) in profiles.iter().enumerate() {
                if let Some(identity) = profile.as_ref().and_then(&identity) {
                    let told = heard.get(&identity).copied().unwrap_or(false);
                    prop_assert_eq!(told, last >> n & 1 == 1, "{:?} as {:?}: {:?}", profile, identity, log);
                }
            }
        }
    }

    #[test]
    fn a_membership_of_either_is_one_of_the_survivor() {
        let merges = Merges(vec![merge(1, 5, 2, &[], &[]), merge(2, 2, 1, &[], &[]), merge(3, 9, 8, &[], &[])]);
        let mut members: RoaringBitmap = [3, 5, 8, 9].into_iter().collect();
        merges.follow(&mut members, 0);
        assert_eq!(members.iter().collect::<Vec<_>>(), [1, 3, 8]);
        let mut members: RoaringBitmap = [5].into_iter().collect();
        merges.follow(&mut members, 1);
        assert!(members.contains(5), "what was followed already is not followed again");
    }
}
