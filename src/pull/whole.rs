//! Who came, changed or vanished? All rows of a source are held against those of the last pull, both in the order of their keys.
//!
//! ```text
//!  rows of the source   ann  bob  dan        page by page
//!  rows kept here       ann  bob  cem  eve   of the same stretch of keys
//!                        =    ≠   cem and eve vanished, dan is new
//! ```
//!
//! Each step commits what it tells with the rows that it told of. So a pull may stop anywhere, and the next one tells the rest.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    read::{Reader, Row},
    row::{Rows, digest},
};
use crate::{
    Result, limits,
    profile::{
        Refusal,
        pulled::{Page, Settle, Summary, Writer},
    },
};

/// Reads all rows to the end. `traits` are those that the source ever gave.
pub(super) async fn pull(
    reader: &mut Reader,
    writer: &mut Writer,
    rows: &Rows<'_>,
    traits: Vec<String>,
    at: DateTime<Utc>,
    summary: &mut Summary,
    progress: &mut impl FnMut(&Summary),
) -> Result<()> {
    let mut comparison = Comparison { writer, rows, traits, at, summary };
    let mut last: Option<String> = None;
    loop {
        let page = reader.page().await?;
        let end = page.iter().rev().find_map(|row| row.key.clone());
        // Beyond the last page all that is kept has vanished; a row without a key is past them all.
        let is_over = page.len() < limits::PULL_ROWS || page.iter().any(|row| row.key.is_none());
        let through = end.as_deref().filter(|_| !is_over);
        let known = comparison.tell_vanished(&page, last.as_deref(), through).await?;
        comparison.tell_changed(&page, last, &known).await?;
        progress(comparison.summary);
        if is_over {
            return Ok(());
        }
        last = end;
    }
}

/// One pull that holds the rows of a source against those kept here.
struct Comparison<'a> {
    writer: &'a mut Writer,
    rows: &'a Rows<'a>,
    /// Those that the source ever gave.
    traits: Vec<String>,
    at: DateTime<Utc>,
    summary: &'a mut Summary,
}

impl Comparison<'_> {
    /// Tells of the kept rows of this stretch of keys that are not in `page`. Answers what the others said last, by key.
    async fn tell_vanished(
        &mut self,
        page: &[Row],
        after: Option<&str>,
        through: Option<&str>,
    ) -> Result<HashMap<String, Uuid>> {
        let here: HashSet<&str> = page.iter().filter_map(|row| row.key.as_deref()).collect();
        let mut known: HashMap<String, Uuid> = HashMap::new();
        let mut after = after.map(ToOwned::to_owned);
        loop {
            let kept = self.writer.kept(after.as_deref(), through, limits::PULL_ROWS).await?;
            let is_last = kept.len() < limits::PULL_ROWS;
            after = kept.last().map(|(key, _)| key.clone()).or(after);
            let (mut gone, mut stored) = (Vec::new(), Page::default());
            for (key, said) in kept {
                if here.contains(key.as_str()) {
                    known.insert(key, said);
                } else {
                    let id = digest(&[&key, &self.writer.pull().to_string(), "gone"]);
                    self.rows.vanished(&key, &self.traits, &id, self.at, self.writer.defaults(), &mut stored);
                    gone.push(key);
                }
            }
            if !gone.is_empty() {
                self.summary.vanished += gone.len() as u64;
                self.writer.write(stored, Settle::Gone(&gone), self.summary).await?;
            }
            if is_last {
                return Ok(known);
            }
        }
    }

    /// Tells of the rows of `page` that are new, or say something else than what is known of them. `before` is the key of the
    /// row before the page.
    async fn tell_changed(
        &mut self,
        page: &[Row],
        mut before: Option<String>,
        known: &HashMap<String, Uuid>,
    ) -> Result<()> {
        let (mut stored, mut changed) = (Page::default(), Vec::new());
        for row in page {
            let (key, json) = (row.key.as_deref(), row.json.as_deref());
            if key.is_some() && key == before.as_deref() {
                let reason = "has several rows, of which one counts".to_owned();
                stored.refused.push(Refusal { line: 0, field: "userId", reason });
                continue;
            }
            before = key.map(ToOwned::to_owned);
            let said = Uuid::parse_str(&digest(&[json.unwrap_or_default()])).unwrap_or_default();
            if key.is_some_and(|key| known.get(key) == Some(&said)) {
                self.summary.unchanged += 1;
                continue;
            }
            // The same may be said again after something else was: so of which pull it is belongs to the id.
            let id = digest(&[key.unwrap_or_default(), &said.to_string(), &self.writer.pull().to_string()]);
            let refused = stored.refused.len();
            self.rows.read(json, Some(&id), self.at, self.writer.defaults(), &mut stored);
            if let (Some(key), true) = (key, stored.refused.len() == refused) {
                changed.push((key.to_owned(), said));
            }
        }
        self.writer.write(stored, Settle::Said(&changed), self.summary).await
    }
}
