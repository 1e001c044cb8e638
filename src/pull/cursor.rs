//! Which rows are new? By a cursor, and what makes it safe that a transaction may commit a row long after it gave it its value. Pure.
//!
//! - **`xid`**: the transaction that wrote a row says whether it had ended when the last pull took its snapshot. All transactions older
//!   than the snapshot's `xmin` had, and their rows were read. So rows of that one and of all later ones are read: whoever commits
//!   late, however late, was at least `xmin` then. (Also in a subtransaction, whose number is greater than its parent's.)
//! - **`column`**: values within `lookback` of the last one are read again. Safe as long as no transaction takes longer than that from
//!   giving a row its value to its commit.
//!
//! Either reads rows again; a message id counts once.

use crate::{
    Error, Result,
    config::{Cursor, Lookback},
    limits::{PULL_LOOKBACK_NUMBERS, PULL_LOOKBACK_SECONDS},
};

/// A statement of new rows, and what it is asked with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The SQL of the text that comes with each row.
    pub key: Option<String>,
    /// What rows come in the order of, so that all up to a page's last are read.
    pub order_by: Option<String>,
    /// Beside `where`; may use `$1`.
    pub condition: Option<String>,
    pub parameter: Option<String>,
    /// The type of a column's values, and whether they are times.
    pub column: Option<(String, bool)>,
}

/// Whether the snapshot of this database says which transactions had ended, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The oldest transaction that has not ended.
    pub xmin: i64,
    /// The first one that had not begun.
    pub xmax: i64,
    /// Which cluster, and which course of its history.
    pub cluster: String,
    pub is_standby: bool,
}

/// What to ask for, of a column of the type `kind`, after `position`; or after `seen` in the same cluster.
pub(super) fn ask(
    cursor: &Cursor,
    kind: &str,
    position: Option<&str>,
    seen: Option<i64>,
    now: &Moment,
) -> Result<Asked> {
    match (&cursor.xid, &cursor.column) {
        (Some(column), _) => by_transaction(&quoted(column), kind, seen, now),
        (None, Some(column)) => by_column(cursor, column, kind, position),
        (None, None) => Err(Error::settings("the cursor has no column")),
    }
}

fn by_transaction(column: &str, kind: &str, seen: Option<i64>, now: &Moment) -> Result<Asked> {
    if now.is_standby {
        return Err(Error::settings("an xid cursor is not safe on a standby")
            .help("Read from the primary, or by `column` with a `lookback`."));
    }
    // Of another history, or ahead of this one: what it says means nothing here.
    let seen = seen.filter(|seen| *seen <= now.xmax);
    let (condition, parameter) = match (kind, seen) {
        ("xid8" | "xid", None) => (None, None),
        ("xid8", Some(seen)) => (Some(format!("r.{column} >= $1::text::xid8")), Some(seen.to_string())),
        // Its 32 bits are the lower half of a number that is below xmax, so its age says which. Rows so old that their numbers were used
        // again may look young, and are read again: no harm.
        ("xid", Some(seen)) => {
            let age = format!("(({} - r.{column}::text::bigint) % 4294967296 + 4294967296) % 4294967296", now.xmax);
            (Some(format!("{age} <= $1::text::bigint")), Some((now.xmax - seen).to_string()))
        }
        (kind, _) => {
            return Err(Error::settings(format!("the cursor is of the type {kind}, and not xid8 or xid"))
                .help("Select `xmin` of the table, or add a column: alter table t add changed_in xid8 default pg_current_xact_id()."));
        }
    };
    Ok(Asked { condition, parameter, ..Asked::default() })
}

fn by_column(cursor: &Cursor, column: &str, kind: &str, position: Option<&str>) -> Result<Asked> {
    let is_time = ["timestamptz", "timestamp", "date"].contains(&kind);
    let kind = match kind {
        "int2" | "int4" | "int8" => "bigint",
        "numeric" | "timestamptz" | "timestamp" | "date" => kind,
        other => {
            return Err(Error::settings(format!(
                "the cursor `{column}` is of the type {other}, in which nothing is before or after"
            ))
            .help("Use a time, a number, or `xid`."));
        }
    };
    let wrong =
        |help: &str| Error::settings(format!("the lookback does not fit the cursor `{column}` ({kind})")).help(help);
    let lookback = cursor.lookback().map_err(|help| Error::settings("the lookback is not understood").help(help))?;
    let back = match (is_time, lookback) {
        (true, None) => format!("interval '{PULL_LOOKBACK_SECONDS} seconds'"),
        (true, Some(Lookback::Time(time))) => format!("interval '{} seconds'", time.as_secs()),
        (true, Some(Lookback::Number(_))) => return Err(wrong("Write a length of time, as `1h`.")),
        (false, None) => PULL_LOOKBACK_NUMBERS.to_string(),
        (false, Some(Lookback::Number(number))) => number.to_string(),
        (false, Some(Lookback::Time(_))) => return Err(wrong("Write a number.")),
    };
    let column = quoted(column);
    let condition = match position {
        Some(_) => format!("r.{column} >= $1::text::{kind} - {back}"),
        // Where nothing is said, nothing can be before or after it.
        None => format!("r.{column} is not null"),
    };
    Ok(Asked {
        key: Some(format!("r.{column}::text")),
        order_by: Some(format!("r.{column}")),
        condition: Some(condition),
        parameter: position.map(ToOwned::to_owned),
        column: Some((kind.to_owned(), is_time)),
    })
}

/// A name as SQL takes it, whatever it is.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(column: Option<&str>, lookback: Option<&str>, xid: Option<&str>) -> Cursor {
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        Cursor { column: own(column), lookback: own(lookback), xid: own(xid) }
    }

    #[test]
    fn a_column_is_read_again_as_far_back_as_is_said() {
        let now = Moment::default();
        let condition = |kind, lookback| {
            ask(&cursor(Some("a\"b"), lookback, None), kind, Some("1"), None, &now)
                .map(|asked| asked.condition.unwrap())
                .map_err(|error| error.message)
        };
        let hour = r#"r."a""b" >= $1::text::timestamptz - interval '3600 seconds'"#;
        assert_eq!(condition("timestamptz", None).as_deref(), Ok(hour));
        assert_eq!(condition("timestamptz", Some("1h")).as_deref(), Ok(hour));
        assert_eq!(condition("int4", None).as_deref(), Ok(r#"r."a""b" >= $1::text::bigint - 10000"#));
        assert!(condition("int4", Some("1h")).is_err() && condition("date", Some("7")).is_err());
        assert!(condition("text", None).is_err());
    }

    #[test]
    fn a_transaction_number_of_another_history_is_not_trusted() {
        let now = Moment { xmin: 90, xmax: 100, ..Moment::default() };
        let of = |seen| ask(&cursor(None, None, Some("x")), "xid8", None, seen, &now).unwrap();
        assert_eq!(of(None).condition, None);
        assert_eq!(of(Some(101)).condition, None, "ahead of what there is: all is read");
        assert_eq!(of(Some(80)).parameter.as_deref(), Some("80"));
        let standby = Moment { is_standby: true, ..now.clone() };
        assert!(ask(&cursor(None, None, Some("x")), "xid8", None, None, &standby).is_err());
        assert!(ask(&cursor(None, None, Some("x")), "int8", None, None, &now).is_err());
    }
}
