//! How many bytes may requests hold? Together so many; when they are used up, bodies that have been on their way the longest give way.
//!
//! A body that is not whole yet costs its sender nothing to hold. Whoever opens many and goes on slowly, or never, is the oldest there
//! is, and so makes room for whoever sends at once. What has come whole is never taken away: it waits for its commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::telemetry::metrics::INTAKE_BYTES;

/// How long those who give way may take to be scheduled and do so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that requests share.
#[derive(Debug, Clone)]
pub struct Budget {
    all: Arc<Semaphore>,
    bytes: usize,
    /// Whether the metric tells of it.
    is_shown: bool,
    coming: Arc<Mutex<Coming>>,
}

/// The bodies that are not whole yet, in the order in which they began.
#[derive(Debug, Default)]
struct Coming {
    begun: u64,
    bodies: BTreeMap<u64, Body>,
}

#[derive(Debug, Default)]
struct Body {
    bytes: usize,
    gives_way: Arc<Notify>,
}

/// There are not enough bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Bytes that a request holds, from its first one to its answer; given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
    /// Its place among the bodies that are not whole.
    place: u64,
    gives_way: Arc<Notify>,
}

impl Budget {
    /// So many bytes, none of them used.
    pub fn new(bytes: usize, is_shown: bool) -> Budget {
        Budget { all: Arc::new(Semaphore::new(bytes)), bytes, is_shown, coming: Arc::default() }
    }

    /// None of the bytes, yet, for a body that begins to come.
    pub fn room(&self) -> Room {
        let gives_way = Arc::new(Notify::new());
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.begun += 1;
        let place = coming.begun;
        coming.bodies.insert(place, Body { bytes: 0, gives_way: gives_way.clone() });
        Room { budget: self.clone(), held: None, place, gives_way }
    }

    fn show(&self) {
        if self.is_shown {
            metrics::gauge!(INTAKE_BYTES).set(self.bytes.saturating_sub(self.all.available_permits()) as f64);
        }
    }
}

impl Room {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`Full`], if all hold too much, and those bodies that began before this one and are not whole hold too little.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let count = u32::try_from(bytes).map_err(|_| Full)?;
        let more = match self.budget.all.clone().try_acquire_many_owned(count) {
            Ok(more) => more,
            Err(_) => {
                self.make_way(bytes)?;
                let more = timeout(PATIENCE, self.budget.all.clone().acquire_many_owned(count));
                more.await.map_err(|_| Full)?.map_err(|_| Full)?
            }
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        if let Some(body) = self.coming().bodies.get_mut(&self.place) {
            body.bytes += bytes;
        }
        self.budget.show();
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Waits until this body is to give way to another.
    pub fn gives_way(&self) -> impl Future<Output = ()> + use<> {
        let gives_way = self.gives_way.clone();
        async move { gives_way.notified().await }
    }

    /// The body is whole: nothing is taken away any more.
    pub fn is_whole(&mut self) {
        self.coming().bodies.remove(&self.place);
    }

    /// Gives all back.
    pub fn give_back(&mut self) {
        self.is_whole();
        self.held = None;
        self.budget.show();
    }

    /// Tells the oldest bodies to give way, as many as it takes.
    fn make_way(&self, bytes: usize) -> Result<(), Full> {
        let mut lacking = bytes.saturating_sub(self.budget.all.available_permits());
        let mut coming = self.coming();
        let mut chosen = Vec::new();
        for (place, body) in coming.bodies.range(..self.place).filter(|(_, body)| body.bytes > 0) {
            if lacking == 0 {
                break;
            }
            lacking = lacking.saturating_sub(body.bytes);
            chosen.push(*place);
        }
        if lacking > 0 {
            return Err(Full);
        }
        // Nobody is told twice: what it holds is promised.
        chosen.iter().filter_map(|place| coming.bodies.remove(place)).for_each(|body| body.gives_way.notify_one());
        Ok(())
    }

    fn coming(&self) -> std::sync::MutexGuard<'_, Coming> {
        self.budget.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_body_that_is_not_whole_gives_way_and_none_that_is() {
        let budget = Budget::new(10, false);
        let (mut whole, mut oldest, mut older) = (budget.room(), budget.room(), budget.room());
        whole.grow(4).await.unwrap();
        whole.is_whole();
        oldest.grow(3).await.unwrap();
        older.grow(3).await.unwrap();
        let mut newest = budget.room();
        let cut_off = tokio::spawn(async move {
            oldest.gives_way().await;
            drop(oldest);
        });
        newest.grow(2).await.unwrap();
        cut_off.await.unwrap();
        assert_eq!(older.grow(9).await, Err(Full), "nobody before it would give way");
        assert_eq!(newest.grow(7).await, Err(Full), "what is whole stays");
        assert_eq!((whole.bytes(), older.bytes(), newest.bytes()), (4, 3, 2), "and nobody gave way in vain");
        drop((whole, older, newest));
        assert_eq!(budget.all.available_permits(), 10);
    }
}
