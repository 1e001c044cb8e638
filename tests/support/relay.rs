//! Postgres by TCP, as users reach it, where the tests' own server has a socket alone; slower if wanted.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
    time::sleep,
};

use super::postgres::Database;

/// Passes all on between TCP and the server's socket, until dropped.
pub struct Relay {
    pub port: u16,
    options: PgConnectOptions,
    _accepting: JoinSet<()>,
}

impl Relay {
    /// One that takes this long for each piece, each way.
    pub async fn start(database: &Database, delay: Duration) -> Relay {
        let own = database.options();
        let name = format!(".s.PGSQL.{}", own.get_port());
        let socket = Arc::new(own.get_socket().expect("the tests' own server").join(name));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(own.get_username())
            .database(own.get_database().unwrap());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                client.set_nodelay(true).unwrap();
                connections.spawn(connect(client, socket.clone(), delay));
            }
        });
        Relay { port, options, _accepting: accepting }
    }

    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }
}

async fn connect(client: TcpStream, socket: Arc<std::path::PathBuf>, delay: Duration) {
    let Ok(server) = UnixStream::connect(&*socket).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Whoever ends first ends both.
    tokio::select! {
        () = pass(from_client, to_server, delay) => {}
        () = pass(from_server, to_client, delay) => {}
    }
}

async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    delay: Duration,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        sleep(delay).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
