//! How do messages get in while they are being sent? Those of many requests in one transaction, each answered after its commit.
//!
//! ```text
//!  request ──► Room (bytes; none left is told at once) ──► queue ──► writer: all that waits, one COPY, one commit ──► answers
//! ```
//!
//! Nothing is answered as stored before the commit that stored it. A writer never gives up: while Postgres is away it keeps what
//! it took and tries again, and each request is told after [`limits::INTAKE_PATIENCE_SECONDS`] that it must come again. That its
//! messages may have been stored all the same does no harm: a message id counts once.

use std::{collections::BTreeMap, error::Error as _, ops::Range, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    import::{Piece, commit, is_about_data, reason},
    message::Message,
    room::{Budget, Full, Room},
    rules::Rules,
    store::{Store, Stored},
};
use crate::{
    Error, Result,
    clock::Clock,
    lease::Leased,
    limits,
    telemetry::metrics::{INTAKE_COMMIT, INTAKE_MESSAGES},
};

/// While one waits for its commit, the other sends.
const WRITERS: usize = 2;
/// Requests that wait. Their bytes are bounded by [`Room`]; this bounds many small ones.
const QUEUED_REQUESTS: usize = 10_000;
/// The pause before Postgres is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where live messages are handed in. Clones hand in to the same writers, which end with the last of them.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: mpsc::Sender<Parcel>,
    budget: Budget,
}

/// The tasks that write what was handed in.
#[derive(Debug)]
pub struct Writers(Vec<JoinHandle<()>>);

/// By place in the request, from 0: what only Postgres found fault with, and why.
pub type Refused = BTreeMap<usize, String>;

/// Why messages were not stored, as far as is known. They should come again, with the same ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstored {
    /// Too much waits already.
    Full,
    /// Postgres did not commit in time.
    Away,
}

impl From<Full> for Unstored {
    fn from(Full: Full) -> Unstored {
        Unstored::Full
    }
}

/// The messages of one request.
#[derive(Debug)]
struct Parcel {
    messages: Vec<Message>,
    receipt: Receipt,
}

/// Who waits for the commit of a parcel.
#[derive(Debug)]
struct Receipt {
    answer: oneshot::Sender<Refused>,
    /// Given back once it is answered.
    _room: Room,
}

impl Intake {
    /// Starts the writers. Each has a connection of its own beside the pool's, made when it is first needed.
    pub fn start(pool: &PgPool, clock: &Clock, rules: &Arc<Rules>) -> (Intake, Writers) {
        let (queue, parcels) = mpsc::channel(QUEUED_REQUESTS);
        let parcels = Arc::new(Mutex::new(parcels));
        let writer = |_| {
            let store = Store::new(rules.clone());
            let writer = Writer { pool: pool.clone(), clock: clock.clone(), session: None, store };
            tokio::spawn(writer.run(parcels.clone()))
        };
        let writers = Writers((0..WRITERS).map(writer).collect());
        (Intake { queue, budget: Budget::new(limits::INTAKE_BYTES, true) }, writers)
    }

    /// None of the bytes that all requests share, yet.
    pub fn room(&self) -> Room {
        self.budget.room()
    }

    /// Stores the messages of one request, for which `room` was taken. Returns after their commit.
    pub async fn store(&self, messages: Vec<Message>, room: Room) -> Result<Refused, Unstored> {
        if messages.is_empty() {
            return Ok(Refused::new());
        }
        let (answer, answered) = oneshot::channel();
        let receipt = Receipt { answer, _room: room };
        self.queue.try_send(Parcel { messages, receipt }).map_err(|_| Unstored::Full)?;
        let patience = Duration::from_secs(limits::INTAKE_PATIENCE_SECONDS);
        timeout(patience, answered).await.ok().and_then(Result::ok).ok_or(Unstored::Away)
    }
}

impl Writers {
    /// Waits until all that was handed in is dealt with; that is never while an [`Intake`] is left.
    pub async fn ended(self) {
        for writer in self.0 {
            writer.await.ok();
        }
    }
}

/// The messages of several requests, which are stored together.
#[derive(Debug, Default)]
struct Group {
    messages: Vec<Message>,
    /// In the order of their messages, each with how many are its own.
    receipts: Vec<(usize, Receipt)>,
}

impl Group {
    fn add(&mut self, parcel: Parcel) {
        self.receipts.push((parcel.messages.len(), parcel.receipt));
        self.messages.extend(parcel.messages);
    }

    /// Whether everybody has been told to come again, or has gone.
    fn is_given_up(&self) -> bool {
        self.receipts.iter().all(|(_, receipt)| receipt.answer.is_closed())
    }

    /// Tells everybody that the messages are stored, save those `refused` by their place in the group.
    fn answer(self, mut refused: Refused) {
        let mut end = self.messages.len();
        for (count, receipt) in self.receipts.into_iter().rev() {
            end -= count;
            let own = refused.split_off(&end).into_iter().map(|(place, reason)| (place - end, reason)).collect();
            receipt.answer.send(own).ok();
        }
    }
}

/// Waits for a parcel and takes all that wait behind it, as many as one transaction should store.
async fn gather(parcels: &Mutex<mpsc::Receiver<Parcel>>) -> Option<Group> {
    let mut parcels = parcels.lock().await;
    let mut group = Group::default();
    group.add(parcels.recv().await?);
    while group.messages.len() < limits::INTAKE_MESSAGES
        && let Ok(parcel) = parcels.try_recv()
    {
        group.add(parcel);
    }
    Some(group)
}

struct Writer {
    pool: PgPool,
    clock: Clock,
    /// Not the pool's: computing never takes it away, and dropped amid a transaction it is closed, and so rolled back.
    session: Option<Leased>,
    store: Store,
}

impl Writer {
    async fn run(mut self, parcels: Arc<Mutex<mpsc::Receiver<Parcel>>>) {
        let limit = Duration::from_secs(limits::INTAKE_WRITE_SECONDS);
        while let Some(group) = gather(&parcels).await {
            while !group.is_given_up() {
                let start = Instant::now();
                let written = timeout(limit, self.write(&group.messages)).await;
                metrics::histogram!(INTAKE_COMMIT).record(start.elapsed().as_secs_f64());
                match written.unwrap_or_else(|_| Err(Error::wait("Postgres takes too long to store messages"))) {
                    Ok(refused) => {
                        group.answer(refused);
                        break;
                    }
                    Err(error) => {
                        let cause = error.source().map(ToString::to_string).unwrap_or_default();
                        tracing::warn!(%error, cause, "messages are not stored yet");
                        self.session = None;
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Commits messages, all in one transaction unless Postgres refuses one of them: then its neighbours without it.
    async fn write(&mut self, messages: &[Message]) -> Result<Refused> {
        let mut refused = Refused::new();
        let mut parts: Vec<Range<usize>> = std::iter::once(0..messages.len()).collect();
        while let Some(part) = parts.pop() {
            let session = match &mut self.session {
                Some(session) if session.is_trusted() => session,
                none => none.insert(Leased::open(&self.pool).await?),
            };
            let piece = Piece::of(&messages[part.clone()]);
            match commit(session, &mut self.store, &piece, None, self.clock.now()).await {
                Ok(Stored { accepted, suppressed }) => {
                    let repeated = part.len() as u64 - accepted - suppressed;
                    for (outcome, count) in [("stored", accepted), ("repeated", repeated), ("suppressed", suppressed)] {
                        metrics::counter!(INTAKE_MESSAGES, "outcome" => outcome).increment(count);
                    }
                }
                Err(error) if is_about_data(&error) && part.len() == 1 => {
                    refused.insert(part.start, reason(&error));
                }
                Err(error) if is_about_data(&error) => {
                    let middle = part.start + part.len() / 2;
                    // Popped in their order.
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }
}
