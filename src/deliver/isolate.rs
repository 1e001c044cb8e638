//! Which record of a page does Kafka refuse? Found by cutting the page, and put aside alone; its neighbours are told.

use std::sync::Arc;

use rdkafka::types::RDKafkaErrorCode as Code;

use super::{
    outside::{Outside, Page},
    quarantine::Quarantined,
    session::{Delivered, Session, Stop},
};
use crate::{
    Error,
    fault::{self, Point},
};

impl<O: Outside> Session<O> {
    /// Kafka refused the page. Records that are known to be at fault are put aside; else the page is cut so that the next
    /// one ends before the first suspect, or is half as long, until the suspect is alone.
    ///
    /// A partition that was added to a topic is not known to a producer that is not `fresh`: then a new one is asked first.
    pub(super) async fn isolate(
        &mut self,
        page: &Arc<Page>,
        records: Vec<(usize, Code)>,
        certain: bool,
        fresh: bool,
        told: &mut Delivered,
    ) -> Stop {
        fault::point(Point::AfterRefused);
        if !fresh && records.iter().any(|(_, code)| *code == Code::UnknownPartition) {
            return Stop::Again;
        }
        let mut guilty = records;
        if !certain {
            let first = guilty.iter().map(|(index, _)| page.records[*index].position).min().unwrap_or(page.from);
            let (before, all) = ((first.0 - page.from.0) as usize, (page.to.0 - page.from.0) as usize);
            if all > 1 {
                self.limit = if before > 0 { before } else { all / 2 };
                return Stop::Again;
            }
            // One change, several records in one batch: each is tried by itself, in a transaction that is not committed.
            let suspects = std::mem::take(&mut guilty);
            for (index, _) in suspects {
                let tried = self.outside.probe(page.clone(), index).await;
                fault::point(Point::AfterProbe);
                match tried {
                    Ok(Some(code)) => guilty.push((index, code)),
                    Ok(None) => {}
                    Err(failure) => return self.failed(failure).await,
                }
            }
        }
        let rows: Vec<Quarantined> = guilty.iter().map(|(index, code)| self.quarantined(page, *index, *code)).collect();
        if rows.is_empty() {
            return Stop::Doubt(Error::wait("Kafka refused records together, and each alone is accepted"));
        }
        match self.put_aside(page, &rows, told).await {
            Ok(()) => Stop::Again,
            Err(stop) => stop,
        }
    }

    fn quarantined(&self, page: &Page, index: usize, code: Code) -> Quarantined {
        let told = &page.records[index];
        let reason = match code {
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => "too_large",
            Code::UnknownPartition => "unknown_partition",
            Code::InvalidTopic => "invalid_topic",
            _ => "refused_by_broker",
        };
        let bytes = told.record.value.as_ref().map_or(0, Vec::len);
        Quarantined {
            position: told.position,
            identity: told.identity,
            mapping: self.target.mappings[told.mapping].name().to_owned(),
            run: told.run,
            profile: told.profile,
            reason: reason.to_owned(),
            detail: format!("{code}; topic '{}', {bytes} bytes", told.record.topic),
        }
    }
}
