//! Whom does a statement on somebody's other Postgres yield? It is asked there; its user ids are looked up here, on the run's snapshot.
//!
//! Must never write there, and never let what is wrong there end the transaction here.

use std::{collections::HashMap, sync::Arc};

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    evaluate::again,
    statement::{self, Yielded},
    tally::Ids,
};
use crate::{
    Error, Result,
    audience::computed::Elsewhere,
    limits,
    pull::session::{self, patience},
};

/// The sessions of one run, by source: each database is asked to let us in once, and if it does not, for none of its audiences again.
#[derive(Default)]
pub(super) struct Sessions<'d>(HashMap<&'d str, Result<PgConnection, Arc<Error>>>);

impl<'d> Sessions<'d> {
    /// Runs a statement of one column of user ids there.
    ///
    /// The outer error means that the transaction of `conn` cannot go on.
    pub async fn members(
        &mut self,
        conn: &mut PgConnection,
        text: &str,
        there: &'d Elsewhere,
    ) -> Result<Result<Yielded>> {
        let name = there.source.as_str();
        if !self.0.contains_key(name) {
            self.0.insert(name, open(there).await.map_err(Arc::new));
        }
        let session = match self.0.get_mut(name) {
            Some(Ok(session)) => session,
            Some(Err(error)) => return Ok(Err(again(error))),
            None => return Err(Error::internal("a session was opened and lost")),
        };
        let yielded = read(conn, session, statement::one(text)).await;
        // Whatever it was, the next statement begins on a session that can read.
        if let Ok(Err(_)) = &yielded
            && patience(run(session, "rollback to savepoint statement")).await.is_err()
        {
            self.0.remove(name);
        }
        yielded
    }
}

/// Whether a statement there yields any of these user ids.
///
/// # Errors
/// What is wrong with the statement, or with its database.
pub(super) async fn yields(text: &str, there: &Elsewhere, user_ids: &[String]) -> Result<bool> {
    let text = statement::one(text);
    let mut session = open(there).await?;
    patience(statement::check(&mut session, text)).await?;
    let asked = format!("select exists (select from ({text}\n) r (user_id) where r.user_id::text = any($1))");
    let asked = sqlx::query_scalar(AssertSqlSafe(asked)).bind(user_ids).persistent(false).fetch_one(&mut session);
    patience(async { asked.await.map_err(statement::failed) }).await
}

async fn open(there: &Elsewhere) -> Result<PgConnection> {
    let mut session = session::open(&there.source, session::options(&there.source, &there.database)?).await?;
    patience(run(&mut session, "savepoint statement")).await?;
    Ok(session)
}

async fn run(session: &mut PgConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(session).await?;
    Ok(())
}

/// The inner error is that of the statement, the outer one that of `here`.
async fn read(here: &mut PgConnection, there: &mut PgConnection, text: &str) -> Result<Result<Yielded>> {
    let declared = async {
        statement::check(there, text).await?;
        let declare = format!(
            "declare users no scroll cursor for select r.user_id::text from ({text}\n) r (user_id) where r.user_id is not null"
        );
        sqlx::query(AssertSqlSafe(declare)).persistent(false).execute(&mut *there).await.map_err(statement::failed)?;
        Ok(())
    };
    if let Err(error) = patience(declared).await {
        return Ok(Err(error));
    }
    let (mut ids, mut yielded, mut count) = (Ids::default(), Yielded::default(), 0);
    let fetch = format!("fetch {} from users", limits::SQL_PAGE_ROWS);
    loop {
        let fetched = sqlx::query_scalar(AssertSqlSafe(fetch.as_str())).persistent(false).fetch_all(&mut *there);
        let page: Vec<String> = match patience(async { fetched.await.map_err(statement::failed) }).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        count += page.len() as u64;
        if count > limits::SQL_ROWS {
            let message = format!("the statement yields more than {} users", limits::SQL_ROWS);
            return Ok(Err(Error::definition(message)));
        }
        let known = profiles(here, &page).await?;
        yielded.unknown += (page.len() - known.len()) as u64;
        known.into_iter().for_each(|id| ids.insert(u32::try_from(id).unwrap_or_default()));
    }
    if let Err(error) = patience(run(there, "close users")).await {
        return Ok(Err(error));
    }
    yielded.ids = ids.to_bitmap();
    Ok(Ok(yielded))
}

/// The profiles of these user ids, as many times as they are named.
async fn profiles(here: &mut PgConnection, user_ids: &[String]) -> Result<Vec<i64>> {
    let found = sqlx::query_scalar(
        "select i.profile_id from unnest($1::text[]) as named (user_id) cross join lateral
             (select profile_id from identifiers where type = 'user_id' and value = named.user_id limit 1) i",
    );
    Ok(found.bind(user_ids).fetch_all(here).await?)
}
