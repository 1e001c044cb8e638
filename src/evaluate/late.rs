//! Who satisfies the conditions that read computed traits? They are asked once those are settled, of a table of their values.

use std::{collections::BTreeMap, sync::Arc};

use super::{Run, Settings, planner};
use crate::{
    Result,
    audience::conditions::Condition,
    values::{current::Current, table},
};

impl<'c> Run<'_, 'c> {
    /// Fails itself only if the transaction cannot go on.
    pub(super) async fn late(
        &mut self,
        conditions: &[&'c Condition],
        current: &Current<'_>,
        settings: &Settings,
    ) -> Result<()> {
        let (mut asked, mut traits) = (Vec::new(), BTreeMap::new());
        for condition in conditions {
            let read = condition.computed().into_iter().map(|key| Ok((key, current.of(key)?)));
            match read.collect::<Result<Vec<_>>>() {
                Ok(read) => {
                    asked.push(*condition);
                    traits.extend(read);
                }
                Err(error) => drop(self.answers.insert(condition, Err(Arc::new(error)))),
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let timeout = planner::prepare(self.conn, settings).await?;
        match table::fill(self.conn, &traits).await {
            Ok(()) => {
                for condition in asked {
                    self.ask(condition).await?;
                }
            }
            Err(error) => {
                let error = Arc::new(self.failed(error).await?);
                self.answers.extend(asked.into_iter().map(|condition| (condition, Err(error.clone()))));
            }
        }
        planner::restore(self.conn, &timeout).await
    }
}
