//! What does a configuration ask for? Its scheduled audiences and enabled destinations, understood. Asks nobody.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    audience::{
        catalogue::{Audience, Catalogue},
        check::Known,
    },
    config::Config,
    deliver::Target,
    schedule::Schedule,
    sync,
};

/// A configuration, understood.
pub struct Plan {
    pub config: Config,
    /// Every sound audience and trait, disabled ones too.
    pub audiences: Vec<Audience>,
    /// The enabled audiences and traits with a schedule, each after those it refers to.
    pub scheduled: Vec<(Audience, Schedule)>,
    /// The enabled destinations.
    pub targets: Vec<(String, Result<Target>)>,
    /// By key, what looks like a mistake and need not be one.
    pub warnings: Vec<(String, String)>,
    refused: BTreeMap<String, Error>,
}

impl Plan {
    /// One bad audience or destination stops only itself, and what refers to it.
    pub fn read(config: Config) -> Plan {
        Plan::knowing(config, &Known::default())
    }

    /// The same, held against what the store knows.
    pub fn knowing(config: Config, known: &Known) -> Plan {
        let mut catalogue = Catalogue::of(&config, known);
        let mut schedules: BTreeMap<String, Schedule> = BTreeMap::new();
        for (key, setting) in config.schedules() {
            match setting.parse(&format!("schedule of '{key}'")) {
                Ok(schedule) => drop(schedules.insert(key, schedule)),
                Err(problems) => {
                    let error = Error::settings(format!("the schedule of '{key}' is not understood")).at(problems);
                    catalogue.refused.insert(key, error);
                }
            }
        }
        let all = catalogue.audiences.clone();
        let with_schedule = |audience: Audience| schedules.remove(&audience.key).map(|schedule| (audience, schedule));
        Plan {
            scheduled: catalogue.audiences.into_iter().filter_map(with_schedule).collect(),
            targets: sync::targets(&config),
            warnings: catalogue.warnings,
            refused: catalogue.refused,
            audiences: all,
            config,
        }
    }

    /// Which audiences and destinations are wrong, and why.
    pub fn wrong(&self) -> impl Iterator<Item = (&str, &Error)> {
        let audiences = self.refused.iter().map(|(key, error)| (key.as_str(), error));
        audiences.chain(self.targets.iter().filter_map(|(name, target)| Some((name.as_str(), target.as_ref().err()?))))
    }
}
