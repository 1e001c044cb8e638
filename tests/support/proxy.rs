//! What lies between the program and its broker or database: a proxy that can stall, crawl, break, hold a request, or lose a reply.
//!
//! It understands frames, so that it hits one request of a kind, and hits it whole. It runs in the test's process, on a thread of its
//! own. Requests are called by what they ask for (`EndTxn commit`, `COMMIT of insert into runs …`); words that must all be
//! part of that name say which one is meant.

pub mod kafka;
pub mod postgres;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Runtime,
    sync::watch,
};

use super::kafka::PATIENCE;

/// A protocol, as far as one connection's frames must be understood.
pub trait Protocol: Send + 'static {
    /// How long the first request in these bytes is, once they tell it.
    fn request_length(&self, bytes: &[u8]) -> Option<usize>;
    /// The same for what is answered.
    fn reply_length(&self, bytes: &[u8]) -> Option<usize>;
    /// What a request asks for.
    fn request(&mut self, frame: &[u8]) -> String;
    /// The request that this frame answers, if it is one of interest. The frame may be changed, not its length.
    fn reply(&mut self, frame: &mut [u8]) -> Option<String>;
}

/// How bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// Not at all, and nobody is told.
    Stall,
    /// One by one, each in a packet of its own.
    Slow,
}

/// How the connections of a moment end; later ones are not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order (FIN).
    Close,
    /// By a reset (RST).
    Reset,
    /// The server is gone, and the client is not told: what it sends is lost.
    HalfOpen,
}

/// Where the server is.
#[derive(Debug, Clone)]
pub enum Upstream {
    Tcp(String),
    Unix(PathBuf),
}

/// One proxy; its connections end with it.
pub struct Proxy {
    pub address: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    flow: watch::Sender<Flow>,
    /// How often connections were cut, and how.
    cut: watch::Sender<(u64, Cut)>,
    seen: Mutex<HashMap<String, usize>>,
    traps: Mutex<Vec<Trap>>,
}

/// Waits for the n-th request, or the reply to it, that has all these words.
struct Trap {
    words: Vec<String>,
    nth: usize,
    on_reply: bool,
    caught: mpsc::Sender<Vec<u8>>,
}

/// What a trap will have caught.
pub struct Caught(mpsc::Receiver<Vec<u8>>);

impl Caught {
    /// Waits until it is caught; the frame.
    pub fn wait(&self) -> Vec<u8> {
        self.0.recv_timeout(PATIENCE).expect("the proxy catches it")
    }
}

impl Proxy {
    /// Listens at a port of its own; `protocol` makes what understands one connection, given that port.
    fn start<P: Protocol>(upstream: Upstream, protocol: impl Fn(u16) -> P + Send + 'static) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            flow: watch::channel(Flow::Pass).0,
            cut: watch::channel((0, Cut::Close)).0,
            seen: Mutex::default(),
            traps: Mutex::default(),
        });
        let shared = state.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let connection = Connection { protocol: Arc::new(Mutex::new(protocol(port))), state: shared.clone() };
                tokio::spawn(connection.run(client, upstream.clone()));
            }
        });
        Proxy { address: format!("127.0.0.1:{port}"), state, runtime: Some(runtime) }
    }

    /// How bytes move from now on, on all connections.
    pub fn flow(&self, flow: Flow) {
        self.state.flow.send_replace(flow);
    }

    /// Ends the connections of this moment.
    pub fn cut(&self, cut: Cut) {
        self.state.cut.send_modify(|last| *last = (last.0 + 1, cut));
    }

    /// How many requests with all these words have come.
    pub fn seen(&self, words: &[&str]) -> usize {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))).map(|(_, count)| count).sum()
    }

    /// Keeps the n-th request from now on that has all these words, and what comes after it on its connection.
    pub fn hold(&self, words: &[&str], nth: usize) -> Caught {
        self.trap(words, nth, false)
    }

    /// Passes that request on, and drops the reply to it and the connection: the server has acted, and the client does not know.
    pub fn lose_reply(&self, words: &[&str], nth: usize) -> Caught {
        self.trap(words, nth, true)
    }

    fn trap(&self, words: &[&str], nth: usize, on_reply: bool) -> Caught {
        let (caught, waiting) = mpsc::channel();
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.state.traps.lock().unwrap().push(Trap { words, nth, on_reply, caught });
        Caught(waiting)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Tests run in a runtime of their own, in which none may be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    /// Whether a trap closes on this.
    fn catches(&self, name: &str, on_reply: bool, frame: &[u8]) -> bool {
        let mut traps = self.traps.lock().unwrap();
        let mut closed = None;
        for (index, trap) in traps.iter_mut().enumerate() {
            if trap.on_reply == on_reply && trap.words.iter().all(|word| name.contains(word)) {
                trap.nth -= 1;
                closed = closed.or((trap.nth == 0).then_some(index));
            }
        }
        let Some(index) = closed else { return false };
        traps.swap_remove(index).caught.send(frame.to_vec()).ok();
        true
    }

    async fn send(&self, to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
        let mut flow = self.flow.subscribe();
        let mut left = frame;
        while !left.is_empty() {
            let now = *flow.wait_for(|flow| *flow != Flow::Stall).await.map_err(io::Error::other)?;
            let (part, rest) = left.split_at(if now == Flow::Slow { 1 } else { left.len() });
            to.write_all(part).await?;
            to.flush().await?;
            left = rest;
        }
        Ok(())
    }
}

struct Connection<P> {
    protocol: Arc<Mutex<P>>,
    state: Arc<State>,
}

impl<P: Protocol> Connection<P> {
    async fn run(self, mut client: TcpStream, upstream: Upstream) {
        let mut cuts = self.state.cut.subscribe();
        let Ok((from_server, to_server)) = open(&upstream).await else { return };
        client.set_nodelay(true).ok();
        // Borrowed halves say nothing when they are dropped: the client hears of an end only what is said here.
        let (from_client, to_client) = client.split();
        let cut = tokio::select! {
            _ = self.requests(from_client, to_server) => Cut::Close,
            lost = self.replies(from_server, to_client) => if lost.is_ok_and(|lost| lost) { Cut::Reset } else { Cut::Close },
            _ = cuts.changed() => cuts.borrow().1,
        };
        match cut {
            Cut::Close => {}
            Cut::Reset => drop(client.set_zero_linger()),
            Cut::HalfOpen => drop(tokio::io::copy(&mut client, &mut tokio::io::sink()).await),
        }
    }

    async fn requests(&self, mut from: impl Reads, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        let length = |bytes: &[u8]| self.protocol.lock().unwrap().request_length(bytes);
        while let Some(frame) = next(&mut from, &mut bytes, length).await? {
            let name = self.protocol.lock().unwrap().request(&frame);
            *self.state.seen.lock().unwrap().entry(name.clone()).or_default() += 1;
            if self.state.catches(&name, false, &frame) {
                std::future::pending::<()>().await;
            }
            self.state.send(&mut to, &frame).await?;
        }
        Ok(())
    }

    /// True if a reply was lost on purpose.
    async fn replies(&self, mut from: impl Reads, mut to: impl AsyncWrite + Unpin) -> io::Result<bool> {
        let mut bytes = BytesMut::new();
        let length = |bytes: &[u8]| self.protocol.lock().unwrap().reply_length(bytes);
        while let Some(mut frame) = next(&mut from, &mut bytes, length).await? {
            let name = self.protocol.lock().unwrap().reply(&mut frame);
            if name.is_some_and(|name| self.state.catches(&name, true, &frame)) {
                return Ok(true);
            }
            self.state.send(&mut to, &frame).await?;
        }
        Ok(false)
    }
}

trait Reads: AsyncRead + Unpin + Send {}
impl<T: AsyncRead + Unpin + Send> Reads for T {}

/// The next whole frame; none once the other side has ended.
async fn next(
    from: &mut impl Reads,
    bytes: &mut BytesMut,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> io::Result<Option<BytesMut>> {
    loop {
        if let Some(length) = length(bytes).filter(|length| *length <= bytes.len()) {
            return Ok(Some(bytes.split_to(length)));
        }
        if from.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

async fn open(upstream: &Upstream) -> io::Result<(Box<dyn Reads>, Box<dyn AsyncWrite + Unpin + Send>)> {
    Ok(match upstream {
        Upstream::Tcp(address) => {
            let (from, to) = TcpStream::connect(address).await?.into_split();
            (Box::new(from), Box::new(to))
        }
        Upstream::Unix(path) => {
            let (from, to) = UnixStream::connect(path).await?.into_split();
            (Box::new(from), Box::new(to))
        }
    })
}

/// A number of four bytes at a place, as both protocols write it.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?;
    usize::try_from(i32::from_be_bytes(four.try_into().ok()?)).ok()
}
