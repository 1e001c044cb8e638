//! How is a Router served so that nobody can take it away from the others? With limits on connections, time and bytes.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::StatusCode};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use super::connections::{Busy, Connections};
use crate::{Error, Result, limits};

/// An address that is listened on; connections wait until it is started.
#[derive(Debug)]
pub struct Listener {
    name: &'static str,
    socket: Arc<TcpListener>,
    address: SocketAddr,
}

/// What a listener asks of each request.
#[derive(Debug, Clone, Copy)]
pub struct Guards {
    /// Bytes of a body, as sent; 413 beyond it.
    pub body_bytes: usize,
    /// From the head to the answer, reading the body included; 503 after it.
    pub request: Duration,
    /// Connections at a time.
    pub connections: usize,
}

impl Default for Guards {
    fn default() -> Self {
        Guards {
            body_bytes: limits::HTTP_BODY_BYTES,
            request: Duration::from_secs(limits::HTTP_REQUEST_SECONDS),
            connections: limits::HTTP_CONNECTIONS,
        }
    }
}

/// A listener that answers; dropped, it is cut off.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    address: SocketAddr,
    /// As long as it accepts.
    socket: Weak<TcpListener>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Takes the address. `name` is what logs and errors call the listener.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if the address is somebody else's or not this machine's.
    pub async fn bind(name: &'static str, address: SocketAddr) -> Result<Listener> {
        let refused = |error: io::Error| {
            Error::settings(format!("{name} cannot listen on {address}: {}", error.kind()))
                .help("Name another `listen` address; port 0 takes a free one.")
                .because(error)
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Listener { name, socket: Arc::new(socket), address })
    }

    /// Where it listens: with the port that was chosen, if any would do.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers by `routes` until it is stopped.
    pub fn start(self, routes: Router, guards: Guards) -> Running {
        let routes = routes
            .layer(RequestBodyLimitLayer::new(guards.body_bytes))
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, guards.request));
        let (stop, asked) = watch::channel(false);
        tracing::info!(listener = self.name, address = %self.address, "listening");
        let socket = Arc::downgrade(&self.socket);
        let task = tokio::spawn(accept(self.socket, routes, guards, asked));
        Running { name: self.name, address: self.address, socket, stop, task }
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same address for whoever answers there next: it is not given up between the two, so nobody else can take it. `None` if
    /// this one has ended.
    pub fn hand_over(&self) -> Option<Listener> {
        Some(Listener { name: self.name, socket: self.socket.upgrade()?, address: self.address })
    }

    /// Takes no more connections, lets the requests under way end, and cuts off those that take too long.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if timeout(Duration::from_secs(limits::STOP_SECONDS), &mut self.task).await.is_err() {
            tracing::warn!(listener = self.name, "requests were cut off");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(socket: Arc<TcpListener>, routes: Router, guards: Guards, mut asked: watch::Receiver<bool>) {
    let mut connections = Connections::new(guards.connections);
    loop {
        let stream = tokio::select! {
            stream = next(&socket, &mut connections) => stream,
            _ = asked.wait_for(|asked| *asked) => break,
        };
        let (routes, asked) = (routes.clone(), asked.clone());
        connections.add(|busy| serve(stream, routes, guards, busy, asked));
    }
    drop(socket);
    connections.ended().await;
}

async fn next(socket: &TcpListener, connections: &mut Connections) -> TcpStream {
    loop {
        connections.room().await;
        match socket.accept().await {
            Ok((stream, _)) => return stream,
            // A client that was gone before we came to it is its own affair; a lack of files passes, and is not asked about in a
            // circle.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: Router, guards: Guards, busy: Busy, mut asked: watch::Receiver<bool>) {
    stream.set_nodelay(true).ok();
    let routes = TowerToHyperService::new(routes);
    let answer = service_fn(|request: Request<Incoming>| {
        busy.set(true);
        let (answer, busy) = (routes.call(request.map(Body::new)), busy.clone());
        async move {
            let answer = answer.await;
            busy.set(false);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_SECONDS))
        .max_buf_size(limits::HTTP_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let too_old = sleep(Duration::from_secs(limits::HTTP_CONNECTION_SECONDS));
    tokio::select! {
        // What a client did wrong is its own affair; it has been told, or is gone.
        _ = connection.as_mut() => return,
        () = too_old => {}
        _ = asked.wait_for(|asked| *asked) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Also a client that does not read its answer comes to an end.
    timeout(guards.request + Duration::from_secs(limits::STOP_SECONDS), connection).await.ok();
}
