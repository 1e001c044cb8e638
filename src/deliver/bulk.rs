//! How are backfills told? The bulk lane gets its next slices, and is told them by a session of its own.

use sqlx::PgPool;

use super::{Delivered, Session, Target};
use crate::{
    Result,
    delta::{
        backfill::{self, Topped},
        lane::Lane,
    },
};

/// The bulk lane of one destination. Its trouble is its own: the live lane goes on.
pub struct Bulk {
    pool: PgPool,
    target: Target,
    /// Kept as long as nothing goes wrong; none before the lane is first needed.
    session: Option<Session>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub topped: Topped,
    /// `None` where the lane is not needed yet.
    pub told: Option<Delivered>,
}

impl Step {
    /// Whether something was done, so that the next step is due at once.
    pub fn got_on(&self) -> bool {
        self.topped.appended > 0 || self.told.is_some_and(|told| told.to > told.from)
    }
}

impl Bulk {
    /// Nothing is asked or connected yet.
    pub fn new(pool: PgPool, target: &Target) -> Bulk {
        Bulk { pool, target: target.lane(Lane::Bulk), session: None }
    }

    /// Adds slices where there is room for them, and tells what the lane's log has.
    ///
    /// # Errors
    /// As [`Session::deliver`]. The next step begins with a new session.
    pub async fn step(&mut self, go_on: &(dyn Fn(&Delivered) -> bool + Sync)) -> Result<Step> {
        let topped =
            backfill::top_up(&self.pool, &self.target.name, &self.target.terms(), self.target.pace.now()).await?;
        let mut session = match self.session.take() {
            Some(session) => session,
            None if !topped.has_lane => return Ok(Step { topped, told: None }),
            None => Session::start(self.pool.clone(), self.target.clone()).await?,
        };
        let told = session.deliver(go_on).await?;
        self.session = Some(session);
        Ok(Step { topped, told: Some(told) })
    }
}
