//! Who came, changed or vanished? All rows of a source are held against those of the last pull, both in the order of their keys.
//!
//! ```text
//!  rows of the source   ann  bob  dan        page by page
//!  rows kept here       ann  bob  cem  eve   of the same stretch of keys
//!                        =    ≠   cem and eve vanished, dan is new
//! ```
//!
//! Each step commits what it tells with the rows that it told of. So a pull may stop anywhere, and the next one tells the rest.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    read::Reader,
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
    let mut last: Option<String> = None;
    loop {
        let page = reader.page().await?;
        let end = page.iter().rev().find_map(|row| row.key.clone());
        // Beyond the last page all that is kept has vanished; a row without a key is past them all.
        let is_over = page.len() < limits::PULL_ROWS || page.iter().any(|row| row.key.is_none());
        let through = end.as_deref().filter(|_| !is_over);
        let here: HashMap<&str, usize> =
            page.iter().enumerate().filter_map(|(n, row)| Some((row.key.as_deref()?, n))).collect();
        let mut known: HashMap<String, Uuid> = HashMap::new();
        let mut after = last.clone();
        loop {
            let kept = writer.kept(after.as_deref(), through, limits::PULL_ROWS).await?;
            let is_last = kept.len() < limits::PULL_ROWS;
            after = kept.last().map(|(key, _)| key.clone()).or(after);
            let (mut gone, mut stored) = (Vec::new(), Page::default());
            for (key, said) in kept {
                if here.contains_key(key.as_str()) {
                    known.insert(key, said);
                } else {
                    let id = digest(&[&key, &writer.pull().to_string(), "gone"]);
                    rows.vanished(&key, &traits, &id, at, writer.defaults(), &mut stored);
                    gone.push(key);
                }
            }
            if !gone.is_empty() {
                summary.vanished += gone.len() as u64;
                writer.write(stored, Settle::Gone(&gone), summary).await?;
            }
            if is_last {
                break;
            }
        }
        let (mut stored, mut changed) = (Page::default(), Vec::new());
        let mut before = last.take();
        for row in &page {
            let (key, json) = (row.key.as_deref(), row.json.as_deref());
            if key.is_some() && key == before.as_deref() {
                let reason = "has several rows, of which one counts".to_owned();
                stored.refused.push(Refusal { line: 0, field: "userId", reason });
                continue;
            }
            before = key.map(ToOwned::to_owned);
            let said = Uuid::parse_str(&digest(&[json.unwrap_or_default()])).unwrap_or_default();
            if key.is_some_and(|key| known.get(key) == Some(&said)) {
                summary.unchanged += 1;
                continue;
            }
            // The same may be said again after something else was: so of which pull it is belongs to the id.
            let id = digest(&[key.unwrap_or_default(), &said.to_string(), &writer.pull().to_string()]);
            let refused = stored.refused.len();
            rows.read(json, Some(&id), at, writer.defaults(), &mut stored);
            if let (Some(key), true) = (key, stored.refused.len() == refused) {
                changed.push((key.to_owned(), said));
            }
        }
        writer.write(stored, Settle::Said(&changed), summary).await?;
        progress(summary);
        if is_over {
            return Ok(());
        }
        last = end;
    }
}
