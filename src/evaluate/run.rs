//! How are conditions and values asked of the store? In scans that they share, and in queries of their own.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    Statistics,
    compile::{self, Names, Query},
    members::Members,
    query,
    scan::{Asker, Found, Memory, Probe, Scan},
};
use crate::{
    Error, Result,
    audience::{ComputedTrait, conditions::Condition},
    limits,
    values::Values,
};

/// What a scan can answer, and conditions that need a query of their own.
fn plan<'c>(conditions: &[&'c Condition], t: DateTime<Utc>, names: &Names) -> (Vec<Probe<'c>>, Vec<&'c Condition>) {
    let (mut probes, mut queries) = (Vec::new(), Vec::new());
    for condition in conditions {
        match Probe::of(condition, t, names) {
            Some(probe) => probes.push(probe),
            None => queries.push(*condition),
        }
    }
    (probes, queries)
}

/// Every statement that an evaluation of these conditions would run; for people and for snapshots.
pub fn statements(conditions: &[&Condition], t: DateTime<Utc>, names: &Names) -> Result<Vec<Query>> {
    let (probes, queries) = plan(conditions, t, names);
    let scans = Scan::share(probes);
    let scans = scans.iter().map(|scan| scan.compile(t, names).map(|(query, _)| query));
    scans.chain(queries.into_iter().map(|condition| compile::condition(condition, t, names))).collect()
}

pub(super) struct Run<'r, 'c> {
    pub conn: &'r mut PgConnection,
    t: DateTime<Utc>,
    names: &'r Names,
    pub answers: HashMap<&'c Condition, Result<Members, Arc<Error>>>,
    /// Of the values asked for, in that order.
    pub found: Vec<Option<Result<Values, Arc<Error>>>>,
    scan_bytes: usize,
    pub statistics: Statistics,
}

impl<'r, 'c> Run<'r, 'c> {
    pub(super) fn new(conn: &'r mut PgConnection, t: DateTime<Utc>, names: &'r Names, scan_bytes: usize) -> Self {
        let (answers, found, statistics) = (HashMap::new(), Vec::new(), Statistics::default());
        Run { conn, t, names, answers, found, scan_bytes, statistics }
    }

    pub(super) async fn all(&mut self, conditions: &[&'c Condition], values: &[&'c ComputedTrait]) -> Result<()> {
        self.found = values.iter().map(|_| None).collect();
        let (mut probes, queries) = plan(conditions, self.t, self.names);
        for (n, definition) in values.iter().enumerate() {
            match Probe::of_value(n, definition, self.t, self.names) {
                Ok(probe) => probes.push(probe),
                Err(error) => self.found[n] = Some(Err(Arc::new(error))),
            }
        }
        let scans = Scan::share(probes);
        for condition in queries {
            self.ask(condition).await?;
        }
        for scan in scans {
            if self.scan(&scan).await?.is_err() && scan.probes.len() > 1 {
                // What one of them cannot have may be too much for all of them only together.
                for probe in scan.probes {
                    self.scan(&Scan::alone(probe)).await?.ok();
                }
            }
        }
        Ok(())
    }

    /// Answers the probes of a scan, with their common error if it fails.
    async fn scan(&mut self, scan: &Scan<'c>) -> Result<Result<(), ()>> {
        self.statistics.statements += 1;
        let memory = Memory { kept: self.scan_bytes, found: limits::VALUES_BYTES / self.found.len().max(1) };
        match scan.run(self.conn, self.t, self.names, memory).await {
            Ok((found, rows)) => {
                self.statistics.rows += rows;
                for (probe, found) in scan.probes.iter().zip(found) {
                    match (probe.asker, found) {
                        (Asker::Condition(condition), Found::Members(members)) => {
                            self.statistics.scanned += 1;
                            self.answers.insert(condition, Ok(members));
                        }
                        (Asker::Condition(condition), _) => self.ask(condition).await?,
                        (Asker::Value(n), Found::Values(values)) => self.found[n] = Some(Ok(values)),
                        (Asker::Value(_), _) => {}
                    }
                }
                Ok(Ok(()))
            }
            Err(error) => {
                let error = Arc::new(self.failed(error).await?);
                for probe in &scan.probes {
                    match probe.asker {
                        Asker::Condition(condition) => drop(self.answers.insert(condition, Err(error.clone()))),
                        Asker::Value(n) => self.found[n] = Some(Err(error.clone())),
                    }
                }
                Ok(Err(()))
            }
        }
    }

    pub(super) async fn ask(&mut self, condition: &'c Condition) -> Result<()> {
        let answer = match compile::condition(condition, self.t, self.names) {
            Ok(query) => {
                self.statistics.statements += 1;
                query::members(self.conn, &query).await
            }
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok((members, rows)) => {
                self.statistics.rows += rows;
                Ok(members)
            }
            Err(error) => Err(Arc::new(self.failed(error).await?)),
        };
        self.answers.insert(condition, answer);
        Ok(())
    }

    /// The error of a condition; fails itself if the transaction cannot go on.
    pub(super) async fn failed(&mut self, error: Error) -> Result<Error> {
        match sqlx::raw_sql("select 1").execute(&mut *self.conn).await {
            Ok(_) => Ok(error),
            Err(_) => Err(error),
        }
    }
}
