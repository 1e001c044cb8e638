//! Who may work on something, for a while? One holder at a time, as long as clocks run at about the same pace.
//!
//! Safety never depends on a lease: it keeps two instances from taking turns, and tells that one has died. What must
//! happen once is guarded where it happens.
//!
//! ```text
//!  attempt starts                      answer          trusted until           expires (Postgres)
//!  ├──── the statement runs ───────────┤               ├──── margin ───────────┤
//!  └──── ttl − margin, on our monotonic clock ─────────┘                       others may take it
//!        └──── ttl, on the clock of Postgres, from some moment after the start ┘
//! ```
//!
//! The holder counts from *before* it asked, on a clock that does not jump, and stops `margin` early; Postgres counts from
//! when it wrote. So the holder ceases to trust before anybody else can take over, however long the answer took.

mod held;
mod leased;

use std::time::{Duration, Instant};

use sqlx::{PgExecutor, postgres::types::PgInterval};
use uuid::Uuid;

use crate::{Error, Result, clock::Clock, fault::Safeguard};
pub use held::{Held, Instance};
pub use leased::Leased;

/// The share of the time to live that is not trusted: clocks that differ by less than that in pace do no harm.
const MARGIN_SHARE: u32 = 10;

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for, as `instance:…` or `destination:…`.
    pub name: String,
    pub holder: Uuid,
    /// Grows with each grant of this name: who was granted later knows the greater one.
    pub epoch: i64,
    ttl: Duration,
    trusted_until: Instant,
    /// Whether somebody waited for it when it was last renewed.
    asked: bool,
}

impl Lease {
    /// A lease that was asked for at `started`.
    pub fn granted(name: &str, holder: Uuid, epoch: i64, started: Instant, ttl: Duration) -> Lease {
        Lease { name: name.into(), holder, epoch, ttl, trusted_until: trusted_until(started, ttl), asked: false }
    }

    /// Whether the holder may still act on it. It stops being so without anyone telling.
    pub fn is_trusted(&self, clock: &Clock) -> bool {
        clock.monotonic() < self.trusted_until || !Safeguard::Lease.is_on()
    }

    /// For how long it may still be acted on; zero if no longer.
    pub fn trusted_for(&self, clock: &Clock) -> Duration {
        self.trusted_until.saturating_duration_since(clock.monotonic())
    }

    /// Whether somebody waits for it: its holder ends what it is at, and gives it back.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// How often to renew: often enough that two attempts in a row may fail.
    pub fn renew_every(&self) -> Duration {
        self.ttl / 4
    }
}

/// Asks for the lease called `name`, for `ttl`. None if another holder has it.
///
/// Who has it already is granted it anew, with a greater epoch; what was granted before can then no longer be renewed.
pub async fn acquire(
    database: impl PgExecutor<'_>,
    clock: &Clock,
    name: &str,
    holder: Uuid,
    ttl: Duration,
) -> Result<Option<Lease>> {
    let started = clock.monotonic();
    // clock_timestamp, not now: in a transaction, or after waiting for a row, time has passed since the latter.
    let epoch: Option<i64> = sqlx::query_scalar(
        "insert into leases (name, holder, epoch, expires_at)
         values ($1, $2, nextval('lease_epochs'), clock_timestamp() + $3)
         on conflict (name) do update
             set holder = excluded.holder, epoch = nextval('lease_epochs'), expires_at = clock_timestamp() + $3,
                 asked_until = null
             where not rollcall_is_in_force(leases.expires_at) or leases.holder = excluded.holder or $4
         returning epoch",
    )
    .bind(name)
    .bind(holder)
    .bind(interval(ttl)?)
    .bind(!Safeguard::Lease.is_on())
    .fetch_optional(database)
    .await?;
    Ok(epoch.map(|epoch| Lease::granted(name, holder, epoch, started, ttl)))
}

/// Makes the lease last for its time to live from now. False if it ended meanwhile: work under it must stop, and
/// [`acquire`] may grant it again with a greater epoch.
pub async fn renew(database: impl PgExecutor<'_>, clock: &Clock, lease: &mut Lease) -> Result<bool> {
    let started = clock.monotonic();
    let renewed: Option<bool> = sqlx::query_scalar(
        "update leases set expires_at = clock_timestamp() + $4
         where name = $1 and holder = $2 and epoch = $3 and expires_at > clock_timestamp()
         returning coalesce(asked_until > clock_timestamp(), false)",
    )
    .bind(&lease.name)
    .bind(lease.holder)
    .bind(lease.epoch)
    .bind(interval(lease.ttl)?)
    .fetch_optional(database)
    .await?;
    if let Some(asked) = renewed {
        lease.trusted_until = trusted_until(started, lease.ttl);
        lease.asked = asked;
    }
    Ok(renewed.is_some())
}

/// Asks whoever holds the lease to give it back; forgotten after `patience`.
pub async fn ask(database: impl PgExecutor<'_>, name: &str, patience: Duration) -> Result<()> {
    sqlx::query("update leases set asked_until = clock_timestamp() + $2 where name = $1")
        .bind(name)
        .bind(interval(patience)?)
        .execute(database)
        .await?;
    Ok(())
}

/// Gives the lease back, so that others need not wait for its end. One that has ended is let alone.
pub async fn release(database: impl PgExecutor<'_>, lease: Lease) -> Result<()> {
    sqlx::query("delete from leases where name = $1 and holder = $2 and epoch = $3")
        .bind(lease.name)
        .bind(lease.holder)
        .bind(lease.epoch)
        .execute(database)
        .await?;
    Ok(())
}

/// Gives all leases of a holder back: what it does when it ends.
pub async fn release_all(database: impl PgExecutor<'_>, holder: Uuid) -> Result<()> {
    sqlx::query("delete from leases where holder = $1").bind(holder).execute(database).await?;
    Ok(())
}

/// The names of the leases that a holder has now.
pub async fn of(database: impl PgExecutor<'_>, holder: Uuid) -> Result<Vec<String>> {
    let names = sqlx::query_scalar("select name from leases where holder = $1 and rollcall_is_in_force(expires_at)");
    Ok(names.bind(holder).fetch_all(database).await?)
}

/// Who holds a lease now whose name begins so, in a fixed order.
pub async fn holders(database: impl PgExecutor<'_>, prefix: &str) -> Result<Vec<Uuid>> {
    let holders = sqlx::query_scalar(
        "select distinct holder from leases where starts_with(name, $1) and rollcall_is_in_force(expires_at) order by holder",
    );
    Ok(holders.bind(prefix).fetch_all(database).await?)
}

/// What names of leases for computing and storing begin with, and of the sessions in their name.
pub const PREFIX: &str = "instance:";

/// Ends sessions in the name of a lease that has ended: of a process that is dead, stopped or cut off. Nothing else ends one whose
/// client is stopped amid rows that go to or fro, and it would keep its locks for as long. Their transactions are rolled back.
///
/// # Errors
/// The database's own.
pub async fn end_sessions_of_the_dead(database: impl PgExecutor<'_>) -> Result<()> {
    if !Safeguard::EndOfTheDead.is_on() {
        return Ok(());
    }
    let ended: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(a.pid) from pg_stat_activity a
         where a.datname = current_database() and a.usename = current_user and a.pid <> pg_backend_pid()
           and starts_with(a.application_name, $1)
           and not exists (select from leases l where l.name = a.application_name and rollcall_is_in_force(l.expires_at))",
    )
    .bind(PREFIX)
    .fetch_all(database)
    .await?;
    if !ended.is_empty() {
        tracing::warn!(sessions = ended.len(), "ended the sessions of an instance that is dead or stopped");
    }
    Ok(())
}

/// Deletes what dead instances left behind, a day after it ended. To be called now and then.
pub async fn sweep(database: impl PgExecutor<'_>) -> Result<u64> {
    let swept = sqlx::query("delete from leases where expires_at < clock_timestamp() - interval '1 day'");
    Ok(swept.execute(database).await?.rows_affected())
}

/// Until when a lease is trusted that was asked for at `started`.
fn trusted_until(started: Instant, ttl: Duration) -> Instant {
    started + (ttl - ttl / MARGIN_SHARE)
}

fn interval(ttl: Duration) -> Result<PgInterval> {
    PgInterval::try_from(ttl)
        .map_err(|error| Error::internal(format!("a lease cannot last for {ttl:?}")).because(error.to_string()))
}
