//! Which connections may stay? As many as there is room for; then whoever has asked nothing for the longest makes room.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::{AbortHandle, JoinSet};

/// The open connections of one listener, in the order in which they came.
pub struct Connections {
    most: usize,
    tasks: JoinSet<()>,
    seats: VecDeque<(Busy, AbortHandle)>,
}

/// Whether a connection is at a request.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    pub fn set(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connections {
    pub fn new(most: usize) -> Connections {
        Connections { most, tasks: JoinSet::new(), seats: VecDeque::new() }
    }

    /// Makes room for one more. Waits only if every connection is at a request, which time limits end.
    pub async fn room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        if self.seats.len() < self.most {
            return;
        }
        self.seats.retain(|(_, task)| !task.is_finished());
        while self.seats.len() >= self.most {
            match self.seats.iter().position(|(busy, _)| !busy.get()).and_then(|idle| self.seats.remove(idle)) {
                // Its file is closed once it has wound up, which it does next.
                Some((_, idle)) => idle.abort(),
                None => {
                    self.tasks.join_next().await;
                    self.seats.retain(|(_, task)| !task.is_finished());
                }
            }
        }
    }

    /// Lets a connection be served.
    pub fn add<F: Future<Output = ()> + Send + 'static>(&mut self, serve: impl FnOnce(Busy) -> F) {
        let busy = Busy::default();
        let task = self.tasks.spawn(serve(busy.clone()));
        self.seats.push_back((busy, task));
    }

    /// Waits until all have ended by themselves.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
