//! Whom do we tell, and how? A destination of the configuration, checked and ready to connect.

use std::sync::Arc;

use super::{in_process, settings::Settings};
use crate::{
    Error, Result,
    config::{Config, Delivery},
    limits,
    mapping::Mapping,
};

/// A destination, with all that delivery needs to know of it.
pub struct Target {
    /// Its name in the configuration, and under `integrations` in what it is told.
    pub name: String,
    pub space_id: String,
    pub delivery: Delivery,
    pub cursor_topic: String,
    /// Brokers, security and properties.
    pub settings: Settings,
    /// The enabled ones.
    pub mappings: Arc<[Mapping]>,
    /// Changes in one transaction; [`limits::PAGE_CHANGES`] unless there is a reason.
    pub page_changes: usize,
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
            space_id: config.space_id().to_owned(),
            delivery: destination.delivery,
            cursor_topic: destination.cursor_topic.clone(),
            mappings: mappings.into_iter().filter(Mapping::enabled).collect(),
            page_changes: limits::PAGE_CHANGES,
            in_process: settings.brokers.iter().any(|broker| in_process::is_here(broker)),
            settings,
        })
    }

    /// A fingerprint of what the mappings do, kept with the log.
    pub fn mapping_version(&self) -> String {
        self.mappings.iter().map(|mapping| mapping.version()).collect::<Vec<_>>().join(",")
    }
}
