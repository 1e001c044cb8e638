//! Why does a short exchange over TCP not wait for 40 ms? Because Nagle's algorithm is switched off on every connection to Postgres.
//!
//! With it, a small write waits until the one before is acknowledged, and the other side delays that acknowledgement by 40 ms. sqlx
//! 0.9.0 leaves it on (launchbadge/sqlx#4335) and shows nobody its socket, so the socket is looked for among our open files, by the
//! port that it leads to. This module goes, with the crate `socket2`, once we use a sqlx that sets TCP_NODELAY itself (#4336).

use std::{fs, os::fd::BorrowedFd};

use socket2::SockRef;

/// Where the system lists our open files, by number.
const OPEN_FILES: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// Switches it off on each TCP connection of ours that leads to this port: to be called when one has just been made.
///
/// Where the list cannot be read all works as before, only slower.
pub(super) fn set(port: u16) {
    for file in fs::read_dir(OPEN_FILES).into_iter().flatten().flatten() {
        let Some(number) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // SAFETY: the number was one of an open file a moment ago. If it has been closed since, or is another file's by now, the calls
        // below fail, or switch Nagle's algorithm off on a connection that leads to Postgres as well: nothing is read, written or closed.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&socket);
        let leads_there =
            socket.peer_addr().ok().and_then(|peer| peer.as_socket()).is_some_and(|peer| peer.port() == port);
        if leads_there && let Err(error) = socket.set_tcp_nodelay(true) {
            tracing::debug!(%error, "statements will wait for acknowledgements");
        }
    }
}
