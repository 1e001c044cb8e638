//! Where do Kafka's blocking calls run? On a plain thread of their own, one per session, which does one thing after the other.

use std::sync::mpsc;

use tokio::sync::oneshot;

use super::producer::Producer;
use crate::{Error, Result};

type Job = Box<dyn FnOnce(&mut Producer) + Send>;

/// The thread that owns a [`Producer`]; it ends when this is dropped.
#[derive(Debug)]
pub struct Thread {
    jobs: mpsc::Sender<Job>,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(mut producer: Producer) -> Result<Thread> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("deliver".into())
            .spawn(move || {
                for job in inbox {
                    job(&mut producer);
                }
            })
            .map_err(|error| Error::wait("no thread can be started").because(error))?;
        Ok(Thread { jobs })
    }

    /// Runs `job` there, and waits for what it returns without blocking the caller's thread.
    ///
    /// # Errors
    /// If an earlier job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce(&mut Producer) -> T + Send + 'static) -> Result<T> {
        let gone = || Error::internal("the delivery thread is gone");
        let (answer, result) = oneshot::channel();
        // What is logged there is about the same as here.
        let about = tracing::Span::current();
        let job = Box::new(move |producer: &mut Producer| {
            let _about = about.enter();
            drop(answer.send(job(producer)));
        });
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }
}
