//! Whom do we tell, and how? A destination of the configuration, checked and ready to connect.

use std::sync::Arc;

use super::pace::Pace;
use crate::{
    Error, Result,
    clock::Clock,
    config::{Config, Delivery},
    delta::lane::Lane,
    kafka::{in_process, settings::Settings},
    limits,
    mapping::Mapping,
    registry::register::Terms,
};

/// A destination, with all that delivery needs to know of it.
#[derive(Clone)]
pub struct Target {
    /// Its name in the configuration, and under `integrations` in what it is told.
    pub name: String,
    /// Which of its lanes: the live one, until [`Target::lane`] says otherwise.
    pub lane: Lane,
    pub space_id: String,
    pub delivery: Delivery,
    pub cursor_topic: String,
    /// Brokers, security and properties.
    pub settings: Settings,
    /// The enabled ones.
    pub mappings: Arc<[Mapping]>,
    /// Changes in one transaction; [`limits::PAGE_CHANGES`] unless there is a reason.
    pub page_changes: usize,
    /// How fast; one for both lanes.
    pub pace: Arc<Pace>,
    /// More changes of one audience than this are left to a backfill.
    pub backfill_above: u32,
    /// Whether this is the in-process cluster, where no topic can be created by a request.
    pub in_process: bool,
}

impl Target {
    /// Checks the settings and compiles the mappings of the destination called `name`.
    ///
    /// # Errors
    /// Every problem of the settings, or of the mappings; [`crate::Kind::Settings`] if there is no such destination.
    pub fn of(config: &Config, name: &str) -> Result<Target> {
        let destination = config
            .destinations
            .get(name)
            .ok_or_else(|| Error::settings(format!("the configuration has no destination '{name}'")))?;
        let settings = Settings::parse(name, &destination.settings)?;
        let mappings = Mapping::compile_all(name, destination)?;
        Ok(Target {
            name: name.to_owned(),
            lane: Lane::Live,
            space_id: config.space_id().to_owned(),
            delivery: destination.delivery,
            cursor_topic: destination.cursor_topic.clone(),
            mappings: mappings.into_iter().filter(Mapping::enabled).collect(),
            page_changes: limits::PAGE_CHANGES,
            pace: Arc::new(Pace::new(Clock::system(), destination.rate_limit)),
            backfill_above: destination.backfill_above.get(),
            in_process: settings.brokers.iter().any(|broker| in_process::is_here(broker)),
            settings,
        })
    }

    /// The same destination by one of its lanes.
    pub fn lane(&self, lane: Lane) -> Target {
        let page_changes = match lane {
            Lane::Live => self.page_changes,
            Lane::Bulk => self.page_changes.min(limits::BULK_PAGE_CHANGES),
        };
        Target { lane, page_changes, ..self.clone() }
    }

    /// What sealing goes by.
    pub fn terms(&self) -> Terms {
        Terms { mapping_version: self.mapping_version(), backfill_above: self.backfill_above }
    }

    /// How it is called in what a person reads.
    pub fn title(&self) -> String {
        match self.lane {
            Lane::Live => format!("destination '{}'", self.name),
            Lane::Bulk => format!("the bulk lane of destination '{}'", self.name),
        }
    }

    /// A fingerprint of what the mappings do, kept with the log.
    pub fn mapping_version(&self) -> String {
        self.mappings.iter().map(|mapping| mapping.version()).collect::<Vec<_>>().join(",")
    }
}
