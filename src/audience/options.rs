//! Who of a profile is told, and what else goes along? The part of a definition that is not its query.

use serde::{Deserialize, Serialize};

use crate::config::{Audience, IdSync, OnDelete, Trait};

/// Stored with each definition version, so that a sealed run is told as it was meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub include_anonymous: bool,
    pub include_traits: Vec<String>,
    pub id_sync: Vec<IdSync>,
    pub on_delete: OnDelete,
}

impl Options {
    pub fn of(audience: &Audience) -> Self {
        Options {
            include_anonymous: audience.include_anonymous,
            include_traits: audience.include_traits.clone(),
            id_sync: audience.id_sync.clone(),
            on_delete: audience.on_delete,
        }
    }

    pub fn of_trait(computed: &Trait) -> Self {
        Options {
            include_anonymous: computed.include_anonymous,
            include_traits: computed.include_traits.clone(),
            id_sync: computed.id_sync.clone(),
            on_delete: computed.on_delete,
        }
    }

    /// The identifier types of which a profile needs one to be a member.
    pub fn counting_types(&self) -> Vec<&str> {
        if !self.id_sync.is_empty() {
            self.id_sync.iter().map(|sync| sync.id.as_str()).collect()
        } else if self.include_anonymous {
            vec!["user_id", "anonymous_id"]
        } else {
            vec!["user_id"]
        }
    }
}
