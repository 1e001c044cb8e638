//! Which partitions are whose? Each instance works it out for itself, from who is there. Pure.
//!
//! Two that see different instances for a moment may both read a partition; what each stores of it is guarded in
//! [`crate::profile::streamed`].

use uuid::Uuid;

use crate::profile::streamed::Partition;

/// Those of `partitions` that are `mine`: dealt out in turn among the instances, all in a fixed order.
pub fn share(mut partitions: Vec<Partition>, instances: &[Uuid], mine: Uuid) -> Vec<Partition> {
    let Some(place) = instances.iter().position(|instance| *instance == mine) else { return Vec::new() };
    partitions.sort();
    partitions.into_iter().skip(place).step_by(instances.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_somebodys_and_shares_differ_by_one_at_most() {
        let partition = |number| Partition { topic: "events".into(), number, topic_id: Uuid::nil() };
        for (partitions, instances) in [(0, 1), (1, 3), (7, 3), (12, 4)] {
            let all: Vec<_> = (0..partitions).rev().map(partition).collect();
            let ids: Vec<Uuid> = (0..instances).map(Uuid::from_u128).collect();
            let shares: Vec<_> = ids.iter().map(|id| share(all.clone(), &ids, *id)).collect();
            let mut dealt: Vec<_> = shares.iter().flatten().cloned().collect();
            dealt.sort();
            assert_eq!(dealt, (0..partitions).map(partition).collect::<Vec<_>>());
            let sizes = || shares.iter().map(Vec::len);
            assert!(sizes().max() <= sizes().min().map(|least| least + 1));
            assert!(share(all, &ids, Uuid::max()).is_empty(), "who is not there reads nothing");
        }
    }
}
