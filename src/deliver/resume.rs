//! Where does a session go on? It claims the stream, fences the others, gathers the facts in the one safe order, and obeys the decision.
//!
//! ```text
//! claim the stream → fence retired streams → fence this one → read the cursor → is the lease still ours? → decide → go on, or halt
//! ```

use std::sync::Arc;

use super::{
    cursor::Read,
    outside::{Failure, Outside},
    recover::{self, Decision, Facts, Found},
    session::{Delivered, Session, Stop},
};
use crate::{Error, Result, config::Delivery, fault::Safeguard, ids::Position};

impl<O: Outside> Session<O> {
    pub(super) async fn recover(
        &mut self,
        told: &mut Delivered,
        go_on: &(dyn Fn(&Delivered) -> bool + Sync),
    ) -> Result<Position, Stop> {
        tracing::debug!("recovering");
        // What must be behind the cursor is read before it, what must be ahead of it after: then only a true contradiction
        // looks like one, even if another instance takes over and goes on while we read.
        let mirror = self.outside.head().await?.mirror;
        // Before fencing: whoever is fenced by us finds that we have claimed.
        let claim = self.outside.claim(self.stream).await?.ok_or_else(new_stream)?;
        self.claim = Some(claim);
        self.fence_retired().await?;
        // Nothing is under way yet: who cannot even begin tells the caller, who knows when to try again.
        let Read { found: cursor, start, end } = begun(self.outside.open().await)?;
        let head = self.outside.head().await?;
        told.end = head.end;
        if head.stream != self.stream {
            return Err(new_stream().into());
        }
        if !go_on(told) {
            return Err(Stop::Asked);
        }
        let chain = match &cursor {
            Found::Cursor(cursor) => self.outside.chain_at(cursor.next).await?,
            _ => None,
        };
        let deleted = match &cursor {
            // Where our cursors would stand, the topic has lost its records, or is too short to be the same.
            Found::Nothing => {
                let from = self.outside.cursor_from(&claim, end).await?;
                start > from || end < from
            }
            _ => false,
        };
        let recreated = self.topics.recreated(&self.outside).await?;
        let (delivery, stream) = (self.target.delivery, self.stream);
        let facts = Facts { delivery, stream, log_end: head.end, mirror, cursor, deleted, chain, recreated };
        let position = match recover::decide(&facts) {
            Decision::Halt(halt) => return Err(self.halt(&halt).await),
            Decision::Resume(position) | Decision::Idle(position) => position,
        };
        let chain = match delivery {
            Delivery::ExactlyOnce => facts.chain,
            // It goes on from the mirror, which the cursor may be ahead of.
            Delivery::AtLeastOnce => self.outside.chain_at(position).await?,
        };
        self.outside.live(&claim).await?;
        self.outside.mirror(&claim, position).await?;
        tracing::debug!(%position, end = %head.end, "delivery recovered");
        self.skipped = Arc::new(self.outside.skipped(position).await?);
        self.at = Some((position, chain.unwrap_or_default()));
        Ok(position)
    }

    /// Fences the streams that this one took the place of, of both lanes.
    async fn fence_retired(&self) -> Result<(), Stop> {
        if self.target.delivery == Delivery::AtLeastOnce || !Safeguard::RetiredFenced.is_on() {
            return Ok(());
        }
        let retired = self.outside.retired().await?;
        for stream in &retired {
            begun(self.outside.fence(*stream).await)?;
        }
        Ok(self.outside.fenced(&retired).await?)
    }
}

fn begun<T>(result: Result<T, Failure>) -> Result<T, Stop> {
    result.map_err(|failure| match failure {
        Failure::Doubt(error) | Failure::Fenced(error) => Stop::Error(error),
        Failure::Refused { .. } => Stop::Again,
    })
}

fn new_stream() -> Error {
    Error::wait("the destination was given a new stream").help("Sync again.")
}
