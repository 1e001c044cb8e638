//! Which members of an event does a mapping read? Known once it is compiled, so that no event is parsed any further.

use super::{Mapping, path::Path};

/// What is read of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// It itself.
    All,
    /// Of an object these members; what is no object is read as it is.
    Members(Vec<(Box<str>, Reads)>),
}

impl Default for Reads {
    fn default() -> Self {
        Reads::Members(Vec::new())
    }
}

impl Reads {
    /// What any of these mappings reads, so that an event is parsed once for all of them; see [`Event::read_by`].
    ///
    /// [`Event::read_by`]: super::Event::read_by
    pub fn of(mappings: &[Mapping]) -> Reads {
        let mut all = Reads::default();
        mappings.iter().for_each(|mapping| all.add(&mapping.reads));
        all
    }

    fn add(&mut self, more: &Reads) {
        let Reads::Members(members) = self else { return };
        let Reads::Members(more) = more else {
            *self = Reads::All;
            return;
        };
        for (name, reads) in more {
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.add(reads),
                None => members.push((name.clone(), reads.clone())),
            }
        }
    }

    /// Adds what stands at a path. What an event knows without being parsed is not read.
    pub fn path(&mut self, path: &Path) {
        if path.top().is_none() {
            self.keys(path.keys());
        }
    }

    fn keys<'k>(&mut self, mut keys: impl Iterator<Item = &'k str>) {
        let Reads::Members(members) = self else { return };
        let Some(key) = keys.next() else {
            *self = Reads::All;
            return;
        };
        match members.iter_mut().find(|(name, _)| **name == *key) {
            Some((_, below)) => below.keys(keys),
            None => {
                let mut below = Reads::default();
                below.keys(keys);
                members.push((key.into(), below));
            }
        }
    }
}
