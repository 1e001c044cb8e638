//! Which table holds the events of a month? Monthly partitions, made when first needed; the default one for odd times.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Result, limits::PARTITIONS};

/// Events before this are odd: few systems have kept them, and a typo must not cost a partition.
const FIRST_YEAR: i32 = 1990;

/// A month, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

impl Month {
    /// The month of `time` in UTC.
    pub fn of(time: DateTime<Utc>) -> Month {
        let day = time.date_naive();
        Month(day.with_day(1).unwrap_or(day))
    }

    /// `events_y1997m01`.
    pub fn table(self) -> String {
        format!("events_y{:04}m{:02}", self.0.year(), self.0.month())
    }

    /// Whether it gets a partition at all: from 1990 to the month after `now`.
    fn is_usual(self, now: DateTime<Utc>) -> bool {
        let last = Month::of(now).0.checked_add_months(Months::new(1));
        self.0.year() >= FIRST_YEAR && last.is_some_and(|last| self.0 <= last)
    }

    /// Whether all of it is before `time`.
    pub fn ends_by(self, time: DateTime<Utc>) -> bool {
        self.end() <= time.date_naive()
    }

    fn end(self) -> NaiveDate {
        self.0.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX)
    }
}

/// The months that have a partition.
pub async fn existing(connection: &mut PgConnection) -> Result<BTreeSet<Month>> {
    let names: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'events'::regclass",
    )
    .fetch_all(connection)
    .await?;
    Ok(names.iter().filter_map(|name| month_of_table(name)).collect())
}

fn month_of_table(name: &str) -> Option<Month> {
    let (year, month) = name.strip_prefix("events_y")?.split_once('m')?;
    NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1).map(Month)
}

/// Makes the partitions that `wanted` lacks, each in a transaction of its own; call it outside of any.
///
/// Readers are not blocked by an attached table, save those of the default partition, for a moment.
pub async fn ensure(
    connection: &mut PgConnection,
    known: &mut BTreeSet<Month>,
    wanted: &BTreeSet<Month>,
    now: DateTime<Utc>,
) -> Result<()> {
    let missing = |known: &BTreeSet<Month>| -> Vec<Month> {
        wanted.difference(known).copied().filter(|month| month.is_usual(now)).collect()
    };
    if missing(known).is_empty() || known.len() >= PARTITIONS {
        return Ok(());
    }
    *known = existing(connection).await?;
    // The latest first: when there are too many, the oldest go to the default partition.
    for month in missing(known).into_iter().rev() {
        if known.len() >= PARTITIONS {
            break;
        }
        create(connection, month).await?;
        known.insert(month);
    }
    Ok(())
}

async fn create(connection: &mut PgConnection, month: Month) -> Result<()> {
    // All parts of these names are made of digits above.
    let (table, from, to) = (month.table(), month.0, month.end());
    let mut transaction = connection.begin().await?;
    // One at a time; this transaction holds nothing else, so it can wait for others but never in a circle.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.partitions', 0))")
        .execute(&mut *transaction)
        .await?;
    let exists: bool =
        sqlx::query_scalar("select to_regclass($1) is not null").bind(&table).fetch_one(&mut *transaction).await?;
    if !exists {
        // Rows of this month in the default partition would forbid the new one. They move, and keep their xid: whoever has
        // seen them does not see them again.
        let statement = format!(
            "create table {table} (like events including defaults including constraints);
             lock table events_default in access exclusive mode;
             with moved as (delete from events_default where occurred_at >= '{from} UTC' and occurred_at < '{to} UTC' returning *)
                 insert into {table} select * from moved;
             alter table events attach partition {table} for values from ('{from} UTC') to ('{to} UTC')"
        );
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}
