//! Who was in as of an earlier run? The membership of today with the runs since undone: the log makes this cheap.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use serde::Serialize;
use sqlx::{PgPool, Row, types::Json};

use crate::{
    Error, Result,
    ids::{AudienceId, RunId},
    membership::{
        diff::{self, Change},
        merges::Merges,
        run::{PassedOver, RunState},
    },
    profile::merges,
};

/// The members of an audience after a run; after the latest one when none is named.
///
/// # Errors
/// If the database cannot be asked, the audience was never run, or has no such run ([`crate::Kind::Settings`]).
pub async fn members(pool: &PgPool, key: &str, run: Option<RunId>) -> Result<RoaringBitmap> {
    let mut past = Past::of(pool, key).await?;
    match run {
        Some(run) => {
            past.must_be_an_audience().await?;
            past.back_to(run).await?;
        }
        None => past.follow_merges().await?,
    }
    Ok(past.members)
}

/// Which stretch of an audience's runs is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// What one run changed; the last one, if none is named.
    Of(Option<RunId>),
    /// From after one run to after another: the earliest and the last that are kept, where none is named.
    Between(Option<RunId>, Option<RunId>),
}

/// Who changed sides over a stretch of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Between {
    /// `None` before the first run.
    pub from: Option<Point>,
    pub to: Point,
    pub change: Change,
}

/// The membership after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    pub run: RunId,
    pub evaluated_at: DateTime<Utc>,
    pub members: u64,
}

/// Who entered and who left over a stretch of runs. Who did both is in neither.
///
/// # Errors
/// As [`members`].
pub async fn between(pool: &PgPool, key: &str, span: Span) -> Result<Between> {
    let mut past = Past::of(pool, key).await?;
    past.must_be_an_audience().await?;
    let (from, to) = match span {
        Span::Of(run) => (past.before(run.unwrap_or(past.run)).await?, run),
        Span::Between(None, to) => (past.earliest().await?, to),
        Span::Between(from, to) => (from, to),
    };
    // Whichever way round they are named: time is walked backwards.
    let to = to.unwrap_or(past.run);
    let backwards = from.is_some_and(|from| from > to);
    let (early, late) = if backwards { (Some(to), from.unwrap_or(to)) } else { (from, to) };
    past.back_to(late).await?;
    let late = (past.members.clone(), past.point().await?);
    let early = match early {
        Some(run) => {
            past.back_to(run).await?;
            (past.members.clone(), Some(past.point().await?))
        }
        None => (RoaringBitmap::new(), None),
    };
    Ok(match early {
        (members, Some(point)) if backwards => {
            Between { from: Some(late.1), to: point, change: Change::between(&late.0, &members) }
        }
        (members, from) => Between { from, to: late.1, change: Change::between(&members, &late.0) },
    })
}

/// An audience's membership, walked back from what it is now, on one snapshot.
struct Past<'k> {
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    key: &'k str,
    audience: AudienceId,
    /// The run after which `members` were in.
    run: RunId,
    members: RoaringBitmap,
    /// The last merge that the membership of today has followed.
    last_merge: i64,
}

impl<'k> Past<'k> {
    async fn of(pool: &PgPool, key: &'k str) -> Result<Past<'k>> {
        let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
        let latest = sqlx::query(
            "select m.audience_id, m.run_id, m.members, r.last_merge from memberships m
             join audiences a on a.id = m.audience_id join runs r on r.id = m.run_id where a.key = $1",
        )
        .bind(key)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| {
            Error::settings(format!("audience '{key}' was never run"))
                .help(format!("Run it with `rollcall sync {key}`, or list the audiences with `rollcall audiences`."))
        })?;
        let (audience, run) = (AudienceId(latest.try_get("audience_id")?), RunId(latest.try_get("run_id")?));
        let members = diff::decode(latest.try_get::<&[u8], _>("members")?)?;
        let last_merge = latest.try_get("last_merge")?;
        Ok(Past { tx, key, audience, run, members, last_merge })
    }

    /// Gives the places of profiles that were merged since the last run to those that they are now.
    async fn follow_merges(&mut self) -> Result<()> {
        let since = merges::after(&mut self.tx, self.last_merge).await?;
        Merges(since).follow(&mut self.members, self.last_merge);
        Ok(())
    }

    /// A trait's runs keep who got a value, also in place of another: who had one before cannot be told from them.
    async fn must_be_an_audience(&mut self) -> Result<()> {
        let class = sqlx::query_scalar::<_, String>("select class from audiences where id = $1").bind(self.audience);
        match class.fetch_one(&mut *self.tx).await?.as_str() {
            "audience" => Ok(()),
            _ => Err(Error::settings(format!("'{}' is a computed trait, whose earlier values are not kept", self.key))
                .help("`rollcall runs` counts who got another value in each of its runs.")),
        }
    }

    /// Undoes the runs after `run`, which must not be later than where we are.
    async fn back_to(&mut self, run: RunId) -> Result<()> {
        let known: bool = sqlx::query_scalar(
            "select exists (select from runs where audience_id = $1 and id = $2 and state in ('sealed', 'released'))",
        )
        .bind(self.audience)
        .bind(run)
        .fetch_one(&mut *self.tx)
        .await?;
        if !known {
            return Err(self.unknown(run).await?);
        }
        let mut rows = sqlx::query(
            "select entered, exited, went, came from runs left join run_merges on run_id = id
             where audience_id = $1 and id > $2 and id <= $3 and state in ('sealed', 'released') order by id desc",
        )
        .bind(self.audience)
        .bind(run)
        .bind(self.run)
        .fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            let change = Change {
                entered: diff::decode(row.try_get::<&[u8], _>("entered")?)?,
                exited: diff::decode(row.try_get::<&[u8], _>("exited")?)?,
            };
            self.members = change.undo(&self.members);
            if let (Some(went), Some(came)) = (row.try_get::<Option<&[u8]>, _>("went")?, row.try_get("came")?) {
                let merged = Change { entered: diff::decode(came)?, exited: diff::decode(went)? };
                self.members = merged.undo(&self.members);
            }
        }
        drop(rows);
        self.run = run;
        Ok(())
    }

    async fn unknown(&mut self, run: RunId) -> Result<Error> {
        let (key, earliest) = (self.key, self.earliest().await?);
        let list = format!("List its runs with `rollcall runs {key}`; those that were held changed nothing.");
        Ok(match earliest {
            Some(earliest) if run < earliest => Error::settings(format!(
                "run {run} of audience '{key}' is not kept any more: its earliest is run {earliest}"
            ))
            .help(format!("`retention.runs` says for how long runs are kept. {list}")),
            _ => Error::settings(format!("audience '{key}' has no accepted run {run}")).help(list),
        })
    }

    async fn earliest(&mut self) -> Result<Option<RunId>> {
        let earliest =
            sqlx::query_scalar("select min(id) from runs where audience_id = $1 and state in ('sealed', 'released')");
        Ok(earliest.bind(self.audience).fetch_one(&mut *self.tx).await?)
    }

    /// The accepted run before another; none before the audience's first.
    async fn before(&mut self, run: RunId) -> Result<Option<RunId>> {
        let before = sqlx::query_scalar::<_, Option<RunId>>(
            "select max(id) from runs where audience_id = $1 and id < $2 and state in ('sealed', 'released')",
        );
        let before = before.bind(self.audience).bind(run).fetch_one(&mut *self.tx).await?;
        // As many were in before as were in after, less who entered, and those who exited.
        let then =
            sqlx::query_scalar::<_, i64>("select members - entered_count + exited_count from runs where id = $1");
        let then = then.bind(run).fetch_optional(&mut *self.tx).await?;
        if before.is_none() && then.is_some_and(|then| then > 0) {
            return Err(Error::settings(format!(
                "the run before run {run} of audience '{}' is not kept any more",
                self.key
            ))
            .help("`retention.runs` says for how long runs are kept."));
        }
        Ok(before)
    }

    async fn point(&mut self) -> Result<Point> {
        let evaluated_at = sqlx::query_scalar("select evaluated_at from runs where id = $1");
        let evaluated_at = evaluated_at.bind(self.run).fetch_one(&mut *self.tx).await?;
        Ok(Point { run: self.run, evaluated_at, members: self.members.len() })
    }
}

/// The id of the computed trait with this key; none if it is not one.
///
/// # Errors
/// The database's own.
pub async fn computed(pool: &PgPool, key: &str) -> Result<Option<AudienceId>> {
    Ok(sqlx::query_scalar("select id from audiences where key = $1 and class = 'trait'")
        .bind(key)
        .fetch_optional(pool)
        .await?)
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct RunRow {
    /// Absent, as all that is counted, where it failed: then nothing was recorded.
    pub run: Option<RunId>,
    pub key: String,
    pub definition_version: Option<i32>,
    pub evaluated_at: DateTime<Utc>,
    /// When it was sealed, or failed.
    pub ended_at: DateTime<Utc>,
    pub members: Option<i64>,
    pub entered: Option<i64>,
    pub exited: Option<i64>,
    /// Until it was sealed or failed; unknown where the instance that computed it went away.
    pub took_ms: Option<i64>,
    /// The tick that it was sealed for, and at which try; absent where a person asked.
    pub scheduled_for: Option<DateTime<Utc>>,
    pub attempt: Option<i32>,
    pub state: RunState,
    /// Why it is or was held, or failed.
    pub reason: Option<String>,
    /// Changes of this run that some destination has not been told, as far as Postgres knows.
    pub pending: Option<i64>,
    /// Which rows of an SQL audience's statement put nobody in.
    pub passed_over: Option<Json<PassedOver>>,
}

/// The latest runs, of one audience or of all, newest first, those that failed among them; only those in one state, if asked.
///
/// # Errors
/// The database's own.
pub async fn runs(pool: &PgPool, key: Option<&str>, state: Option<RunState>, limit: u32) -> Result<Vec<RunRow>> {
    Ok(sqlx::query_as(
        "(select r.id as run, a.key, r.definition_version, r.evaluated_at, r.sealed_at as ended_at, r.members,
                 r.entered_count as entered, r.exited_count as exited, r.evaluate_ms as took_ms, r.scheduled_for, r.attempt,
                 r.state, r.held_because as reason,
                 (select coalesce(max(n), 0)::bigint from (
                      select sum(l.to_position - greatest(l.from_position, coalesce(v.cursor_position, 0))) as n
                      from deltas l join destinations d on d.id = l.destination_id
                      left join deliveries v on v.destination_id = d.id
                      where l.run_id = r.id and l.to_position > coalesce(v.cursor_position, 0) group by d.name) s) as pending, r.passed_over
          from runs r join audiences a on a.id = r.audience_id
          where ($1::text is null or a.key = $1) and ($2::text is null or r.state = $2)
          order by r.id desc limit $3)
         union all
         (select null, a.key, null, f.evaluated_at, f.failed_at, null, null, null, f.took_ms, f.scheduled_for, f.attempt,
                 'failed', f.reason, null, null
          from failed_runs f join audiences a on a.id = f.audience_id
          where ($1::text is null or a.key = $1) and ($2::text is null or $2 = 'failed')
          order by f.id desc limit $3)
         order by ended_at desc, run desc limit $3",
    )
    .bind(key)
    .bind(state)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?)
}

/// An audience as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct AudienceRow {
    pub key: String,
    pub name: String,
    pub state: String,
    /// Of its last run; all four are absent before the first.
    pub run: Option<RunId>,
    pub evaluated_at: Option<DateTime<Utc>>,
    pub sealed_at: Option<DateTime<Utc>>,
    pub members: Option<i64>,
}

/// Every audience that is not deleted, with its last run.
///
/// # Errors
/// The database's own.
pub async fn audiences(pool: &PgPool) -> Result<Vec<AudienceRow>> {
    Ok(sqlx::query_as(
        "select a.key, a.name, a.state, r.id as run, r.evaluated_at, r.sealed_at, r.members
         from audiences a left join memberships m on m.audience_id = a.id left join runs r on r.id = m.run_id
         where a.state <> 'deleted' order by a.key",
    )
    .fetch_all(pool)
    .await?)
}
