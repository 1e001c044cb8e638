//! How do rows reach Postgres fastest? By `COPY … (FORMAT binary)`, encoded here. Values only; the SQL is with its caller.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;

/// One CopyData message; larger ones gain nothing.
const CHUNK_BYTES: usize = 256 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01, where Postgres counts from, in microseconds of Unix time.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Rows in the binary COPY format.
#[derive(Debug)]
pub struct Rows {
    bytes: Vec<u8>,
    count: u64,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { bytes: SIGNATURE.to_vec(), count: 0 }
    }
}

impl Rows {
    /// Starts a row; exactly `fields` values follow.
    pub fn row(&mut self, fields: u16) -> &mut Self {
        self.count += 1;
        self.bytes.extend(fields.to_be_bytes());
        self
    }

    pub fn null(&mut self) -> &mut Self {
        self.bytes.extend((-1i32).to_be_bytes());
        self
    }

    pub fn int(&mut self, value: i32) -> &mut Self {
        self.value(&value.to_be_bytes())
    }

    pub fn bigint(&mut self, value: i64) -> &mut Self {
        self.value(&value.to_be_bytes())
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.value(value.as_bytes())
    }

    pub fn jsonb(&mut self, json: &str) -> &mut Self {
        // Version 1 of the type's wire form: the text, checked before.
        self.length(json.len() + 1);
        self.bytes.push(1);
        self.bytes.extend(json.as_bytes());
        self
    }

    pub fn timestamp(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.bigint(value.timestamp_micros() - EPOCH_MICROS)
    }

    /// Any of the above, or null.
    pub fn optional<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => put(self, value),
            None => self.null(),
        }
    }

    pub(super) fn value(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len());
        self.bytes.extend(bytes);
        self
    }

    fn length(&mut self, length: usize) {
        // A value comes from one message, whose length is limited far below 2 GiB.
        self.bytes.extend((length as i32).to_be_bytes());
    }

    /// Sends the rows through `COPY table (columns) FROM STDIN (FORMAT binary)`, if there are any.
    pub async fn send(mut self, connection: &mut PgConnection, statement: &'static str) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        self.bytes.extend((-1i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        for chunk in self.bytes.chunks(CHUNK_BYTES) {
            copy.send(chunk).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}
