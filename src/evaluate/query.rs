//! How is a compiled query run? Its parameters are set in one round trip, and a failure stays within a savepoint.

use sqlx::PgConnection;

use super::{
    compile::Query,
    copy::{self, Row},
    members::Members,
    tally::Ids,
};
use crate::Result;

/// Streams the rows of a query into `each` and returns how many there were.
///
/// After an error the transaction is as it was before, and goes on. If it cannot go on (the connection is gone), the
/// next statement on it says so.
pub(super) async fn rows(
    conn: &mut PgConnection,
    query: &Query,
    each: impl FnMut(Row<'_>) -> Result<()>,
) -> Result<u64> {
    sqlx::raw_sql("savepoint condition").execute(&mut *conn).await?;
    let outcome = async {
        let names: Vec<String> = (1..=query.parameters.len()).map(|n| format!("rollcall.p{n}")).collect();
        sqlx::query("select set_config(name, value, true) from unnest($1::text[], $2::text[]) as p(name, value)")
            .bind(&names)
            .bind(&query.parameters)
            .execute(&mut *conn)
            .await?;
        copy::rows(&mut *conn, &query.text, each).await
    };
    let outcome = outcome.await;
    let end = if outcome.is_ok() { "release savepoint condition" } else { "rollback to savepoint condition" };
    let ended = sqlx::raw_sql(end).execute(&mut *conn).await;
    let rows = outcome?;
    ended?;
    Ok(rows)
}

/// The profiles that a query of ids yields, and how many rows it had.
pub(super) async fn members(conn: &mut PgConnection, query: &Query) -> Result<(Members, u64)> {
    let mut ids = Ids::default();
    let rows = rows(conn, query, |mut row| {
        ids.insert(row.profile_id()?);
        Ok(())
    })
    .await?;
    Ok((Members { ids: ids.to_bitmap(), all_but: query.negated }, rows))
}
