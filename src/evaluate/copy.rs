//! How do rows leave Postgres? As binary `COPY`, read without an allocation per row.
//!
//! Must never read past a column it was not told of, and never take a torn stream for a complete one.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    Error, Result,
    fault::{self, Point},
};

/// What every binary copy starts with; eight bytes of flags and extension length follow.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// One row: its columns, in order, `None` for null.
pub(super) struct Row<'a>(&'a [u8]);

impl<'a> Iterator for Row<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (column, rest) = rest.split_at_checked(length)?;
                self.0 = rest;
                Some(Some(column))
            }
            Err(_) => {
                self.0 = rest;
                Some(None)
            }
        }
    }
}

impl<'a> Row<'a> {
    /// The next column as a profile's id (`bigint` in the store, 1 to 2³² − 1 by its constraint).
    #[inline]
    pub(super) fn profile_id(&mut self) -> Result<u32> {
        self.int8()?.and_then(|id| u32::try_from(id).ok()).ok_or_else(torn)
    }

    /// The next column as a `bigint`, or as the microseconds since 2000 of a `timestamptz`.
    #[inline]
    pub(super) fn int8(&mut self) -> Result<Option<i64>> {
        match self.next() {
            Some(Some(column)) => Ok(Some(i64::from_be_bytes(column.try_into().map_err(|_| torn())?))),
            Some(None) => Ok(None),
            None => Err(torn()),
        }
    }

    /// The next column as a `boolean`; null is false.
    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool> {
        match self.next() {
            Some(column) => Ok(column == Some(&[1])),
            None => Err(torn()),
        }
    }

    /// The next column, whatever it holds.
    #[inline]
    pub(super) fn column(&mut self) -> Result<Option<&'a [u8]>> {
        self.next().ok_or_else(torn)
    }
}

/// Cuts a copy stream into rows. A message usually holds one whole row, but the protocol does not promise it.
#[derive(Default)]
struct Cutter {
    /// The beginning of a row whose end has not come yet.
    pending: Vec<u8>,
    header_read: bool,
    ended: bool,
}

impl Cutter {
    fn feed(&mut self, chunk: &[u8], each: &mut impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        if self.pending.is_empty() {
            let used = self.cut(chunk, each)?;
            self.pending.extend_from_slice(&chunk[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.pending);
            joined.extend_from_slice(chunk);
            let used = self.cut(&joined, each)?;
            joined.drain(..used);
            self.pending = joined;
        }
        Ok(())
    }

    /// Hands on every whole row of `bytes` and returns how many bytes those were.
    fn cut(&mut self, bytes: &[u8], each: &mut impl FnMut(Row<'_>) -> Result<()>) -> Result<usize> {
        let mut at = 0;
        if !self.header_read {
            if bytes.len() < HEADER_BYTES {
                return Ok(0);
            }
            if !bytes.starts_with(SIGNATURE) {
                return Err(torn());
            }
            self.header_read = true;
            at = HEADER_BYTES;
        }
        while !self.ended {
            let Some((count, mut rest)) = bytes[at..].split_first_chunk::<2>() else { break };
            let count = i16::from_be_bytes(*count);
            if count < 0 {
                self.ended = true;
                return Ok(at + 2);
            }
            let columns = rest;
            let mut whole = true;
            for _ in 0..count {
                let Some((length, after)) = rest.split_first_chunk::<4>() else {
                    whole = false;
                    break;
                };
                let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
                let Some(after) = after.get(length..) else {
                    whole = false;
                    break;
                };
                rest = after;
            }
            if !whole {
                break;
            }
            let length = columns.len() - rest.len();
            each(Row(&columns[..length]))?;
            at += 2 + length;
        }
        Ok(at)
    }
}

/// Streams the rows of `query` into `each` and returns how many there were.
///
/// An error of `each` is returned after the stream was read to its end, so the connection stays usable.
pub(super) async fn rows(
    conn: &mut PgConnection,
    query: &str,
    mut each: impl FnMut(Row<'_>) -> Result<()>,
) -> Result<u64> {
    // The driver leaves the connection out of step when COPY fails before its first row. Planning the query once as an
    // ordinary statement brings such errors out where they do no harm, and takes the locks that COPY will need.
    sqlx::raw_sql(AssertSqlSafe(format!("explain {query}"))).execute(&mut *conn).await?;
    let copy = format!("copy ({query}) to stdout (format binary)");
    let mut cutter = Cutter::default();
    let mut count = 0;
    let mut outcome = Ok(());
    let started = match conn.copy_out_raw(&copy).await {
        Ok(mut chunks) => {
            while let Some(chunk) = chunks.try_next().await? {
                fault::point(Point::AmidAnswer);
                if outcome.is_ok() {
                    outcome = cutter.feed(&chunk, &mut |row| {
                        count += 1;
                        each(row)
                    });
                }
            }
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        // Out of step all the same: a connection that could mistake one answer for another must not live on.
        let _ = sqlx::raw_sql("select pg_terminate_backend(pg_backend_pid())").execute(&mut *conn).await;
        return Err(Error::wait("the connection to the database was given up in the middle of a query").because(error));
    }
    outcome?;
    if !cutter.ended {
        return Err(torn());
    }
    Ok(count)
}

fn torn() -> Error {
    Error::internal("the database sent rows in a form that was not expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for row in rows {
            bytes.extend((row.len() as i16).to_be_bytes());
            for column in *row {
                match column {
                    Some(column) => {
                        bytes.extend((column.len() as i32).to_be_bytes());
                        bytes.extend(*column);
                    }
                    None => bytes.extend((-1i32).to_be_bytes()),
                }
            }
        }
        bytes.extend((-1i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_come_out_whole_however_the_stream_is_torn() {
        let bytes = stream(&[&[Some(b"12345678"), None], &[Some(b""), Some(b"x")], &[None, Some(b"yz")]]);
        for size in 1..=bytes.len() {
            let mut cutter = Cutter::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(size) {
                cutter
                    .feed(chunk, &mut |row| {
                        seen.push(row.map(|column| column.map(<[u8]>::to_vec)).collect::<Vec<_>>());
                        Ok(())
                    })
                    .unwrap();
            }
            assert!(cutter.ended, "in chunks of {size}");
            assert_eq!(
                seen,
                [
                    vec![Some(b"12345678".to_vec()), None],
                    vec![Some(b"".to_vec()), Some(b"x".to_vec())],
                    vec![None, Some(b"yz".to_vec())]
                ]
            );
        }
    }

    #[test]
    fn a_stream_that_stops_early_has_not_ended() {
        let bytes = stream(&[&[Some(b"12345678")]]);
        let mut cutter = Cutter::default();
        cutter.feed(&bytes[..bytes.len() - 2], &mut |_| Ok(())).unwrap();
        assert!(!cutter.ended);
    }
}
