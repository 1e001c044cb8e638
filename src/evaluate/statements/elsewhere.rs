//! Whom does a statement on somebody's other Postgres yield, and with which values? It is asked there; its user ids are looked up here,
//! on the run's snapshot.
//!
//! Must never write there, and never let what is wrong there end the transaction here.

use std::{collections::HashMap, sync::Arc};

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    people::{self, Columns, Wanted, Yielded},
    traits,
};
use crate::{
    Error, Result,
    audience::statement::Elsewhere,
    database::statement::one,
    evaluate::{again, tally::Ids},
    limits,
    pull::session::{self, patience},
};

/// The sessions of one run, by source: each database is asked to let us in once, and if it does not, for none of its statements again.
#[derive(Default)]
pub(in crate::evaluate) struct Sessions<'d>(HashMap<&'d str, Result<PgConnection, Arc<Error>>>);

/// A user that the statement yields and the store knows.
pub(in crate::evaluate) struct Row {
    pub profile: u32,
    /// How many of the profile's user ids are later than this one; none if it has no other.
    pub later: Option<i64>,
    /// Those of the other columns that are not null, in one form; none if all are.
    pub values: Option<String>,
}

/// What is known of a statement that was read to its end.
pub(in crate::evaluate) struct Done {
    /// The names of the other columns, where they are wanted.
    pub keys: Vec<String>,
    pub rows: u64,
    /// Rows without a user id.
    pub null: u64,
    /// Rows with a user id that no profile has.
    pub unknown: u64,
}

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
        let mut ids = Ids::default();
        let each = |row: Row| {
            ids.insert(row.profile);
            Ok(())
        };
        let done = self.rows(conn, text, there, Wanted::Users, each).await?;
        Ok(done.map(|done| Yielded::of(&ids, done.rows, done.null, done.unknown)))
    }

    /// Runs a statement there and hands on each row whose user is known here, in no order. An error of `each` ends it.
    ///
    /// The outer error means that the transaction of `conn` cannot go on.
    pub async fn rows(
        &mut self,
        conn: &mut PgConnection,
        text: &str,
        there: &'d Elsewhere,
        wanted: Wanted,
        each: impl FnMut(Row) -> Result<()>,
    ) -> Result<Result<Done>> {
        let name = there.source.as_str();
        if !self.0.contains_key(name) {
            self.0.insert(name, open(there).await.map_err(Arc::new));
        }
        let session = match self.0.get_mut(name) {
            Some(Ok(session)) => session,
            Some(Err(error)) => return Ok(Err(again(error))),
            None => return Err(Error::internal("a session was opened and lost")),
        };
        let done = read(conn, session, one(text), wanted, each).await;
        // Whatever it was, the next statement begins on a session that can read.
        if let Ok(Err(_)) = &done
            && patience(run(session, "rollback to savepoint statement")).await.is_err()
        {
            self.0.remove(name);
        }
        done
    }
}

/// A session of its own, at a point to which it can go back.
pub(in crate::evaluate) async fn open(there: &Elsewhere) -> Result<PgConnection> {
    let mut session = session::open(&there.source, session::options(&there.source, &there.database)?).await?;
    patience(run(&mut session, "savepoint statement")).await?;
    Ok(session)
}

async fn run(session: &mut PgConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(session).await?;
    Ok(())
}

/// The inner error is that of the statement, the outer one that of `here`.
async fn read(
    here: &mut PgConnection,
    there: &mut PgConnection,
    text: &str,
    wanted: Wanted,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<Result<Done>> {
    let keys = match patience(declare(there, text, wanted)).await {
        Ok(keys) => keys,
        Err(error) => return Ok(Err(error)),
    };
    let mut done = Done { keys, rows: 0, null: 0, unknown: 0 };
    let fetch = format!("fetch {} from users", limits::SQL_PAGE_ROWS);
    loop {
        let page = match patience(page(there, &fetch)).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        done.rows += page.len() as u64;
        if done.rows > limits::SQL_ROWS {
            let message = format!("the statement yields more than {} users", limits::SQL_ROWS);
            return Ok(Err(Error::definition(message)));
        }
        let (users, mut values): (Vec<Option<String>>, Vec<Option<String>>) = page.into_iter().unzip();
        let known = profiles(here, &users, wanted).await?;
        let null = users.iter().filter(|user| user.is_none()).count();
        done.null += null as u64;
        done.unknown += (users.len() - null - known.len()) as u64;
        for (at, profile, later) in known {
            let values = values.get_mut(usize::try_from(at - 1).unwrap_or_default()).and_then(Option::take);
            if let Err(error) = each(Row { profile: u32::try_from(profile).unwrap_or_default(), later, values }) {
                return Ok(Err(error));
            }
        }
    }
    Ok(patience(run(there, "close users")).await.map(|()| done))
}

/// Opens the cursor `users` over each user and the other columns; returns their names.
async fn declare(there: &mut PgConnection, text: &str, wanted: Wanted) -> Result<Vec<String>> {
    let Columns { user_id, keys } = wanted.check(there, text).await?;
    let select = match wanted {
        Wanted::Users => format!("select {user_id}, null from ({text}\n) r (user_id)"),
        // Who comes twice has the same of his rows as in the store's own database.
        Wanted::Values => format!(
            "select distinct on (({user_id}) collate \"C\") {user_id}, (to_jsonb(r) - 'user_id')::text \
             from ({text}\n) r where r.user_id is not null \
             order by ({user_id}) collate \"C\", to_jsonb(r)::text collate \"C\""
        ),
    };
    let declare = format!("declare users no scroll cursor for {select}");
    let declared = sqlx::query(AssertSqlSafe(declare.as_str())).persistent(false).execute(there).await;
    declared.map_err(people::failed(text, &declare))?;
    Ok(keys)
}

/// The next users, with their values.
async fn page(there: &mut PgConnection, fetch: &str) -> Result<Vec<(Option<String>, Option<String>)>> {
    let mut rows =
        sqlx::query_as::<_, (Option<String>, Option<String>)>(AssertSqlSafe(fetch)).persistent(false).fetch(there);
    let mut page = Vec::new();
    while let Some((user, row)) = rows.try_next().await.map_err(people::failed("", fetch))? {
        // One by one: a row that is too long is refused before there are many of them.
        let values = row.map_or(Ok(None), |row| traits::object(&row))?;
        page.push((user, values));
    }
    Ok(page)
}

/// The profiles of these user ids: the place of each that is known, its profile, and where values are wanted, how many later ones that
/// has.
async fn profiles(
    here: &mut PgConnection,
    users: &[Option<String>],
    wanted: Wanted,
) -> Result<Vec<(i64, i64, Option<i64>)>> {
    let found = sqlx::query_as(
        "select named.at, i.profile_id, case when $2 then
             (select case when count(*) > 1 then count(*) filter (where (o.added_at, o.value) > (i.added_at, i.value)) end
              from identifiers o where o.profile_id = i.profile_id and o.type = 'user_id') end
         from unnest($1::text[]) with ordinality as named (user_id, at) cross join lateral
             (select profile_id, added_at, value from identifiers where type = 'user_id' and value = named.user_id limit 1) i",
    );
    Ok(found.bind(users).bind(matches!(wanted, Wanted::Values)).fetch_all(here).await?)
}
