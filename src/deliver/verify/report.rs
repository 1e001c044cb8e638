//! What was found? Differences by kind, a bounded list of each, and what could not be seen any more.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    audience::Class,
    delta::lane::Lane,
    ids::{Position, RunId},
    limits,
};

/// What a topic, a log and what was told say of each other.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub destination: String,
    /// Whether no difference was found.
    pub agrees: bool,
    /// Records that were read.
    pub records: u64,
    pub seconds: f64,
    pub lanes: Vec<LaneReport>,
    pub topics: Vec<TopicReport>,
    pub audiences: Vec<AudienceReport>,
    /// Only where the digest was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunDigest>,
    /// How many differences there are of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The first differences of each kind.
    pub differences: Vec<Difference>,
    /// What could not be looked at, a sentence each.
    pub unseen: Vec<String>,
}

/// One lane's log, and how much of it is on the topics.
#[derive(Debug, Clone, Serialize)]
pub struct LaneReport {
    pub lane: Lane,
    pub stream: String,
    /// The log that is kept.
    pub from: Position,
    pub end: Position,
    /// The committed cursor, and its mirror in Postgres.
    pub cursor: Position,
    pub mirror: Position,
    /// Positions before the cursor that some topic has.
    pub seen: u64,
    /// Positions before the cursor of which there is no record, and need be none: nobody to tell, or no mapping takes it.
    pub without_record: u64,
    /// Those whose records are in quarantine.
    pub quarantined: u64,
    /// Those whose records cannot be seen any more: retention, compaction, `--since`, another mapping then.
    pub out_of_sight: u64,
}

/// What a topic held.
#[derive(Debug, Clone, Serialize)]
pub struct TopicReport {
    pub topic: String,
    pub records: u64,
    /// Of streams before the last `unhalt --start-over`.
    pub earlier: u64,
    /// Records that are not ours.
    pub strangers: u64,
    /// Records whose value is no whole Identify, so that only their checksum was looked at.
    pub unreadable: u64,
    /// Records told before there was a checksum.
    pub unchecked: u64,
    /// Of what a consumer has who adds the topic up; see docs/verify.md. Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// An audience or trait, and who was told of it.
#[derive(Debug, Clone, Serialize)]
pub struct AudienceReport {
    pub key: String,
    pub class: Class,
    /// Who counts as told `true`, or a value.
    pub told: u64,
}

/// What the records of a part of the log come to; see docs/verify.md.
#[derive(Debug, Clone, Serialize)]
pub struct RunDigest {
    pub run: RunId,
    pub audience: String,
    pub lane: Lane,
    pub from: Position,
    pub to: Position,
    pub digest: String,
}

/// Something that does not add up.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Difference {
    pub kind: Kind,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<u32>,
    /// An identifier of the profile. For standard output alone, never for a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// What kind of thing does not add up; the names are those in docs/verify.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A change that the cursor has passed has no record.
    Missing,
    /// A change has a record twice.
    Repeated,
    /// A partition has two changes in another order than the log.
    Order,
    /// A record is not ours.
    Stranger,
    /// A record is not, byte for byte, the one that was told.
    Changed,
    /// A record says another thing than the log at its position.
    Says,
    /// A record is about another person than the log at its position.
    Person,
    /// The log was changed after it was sealed.
    #[default]
    Chain,
    /// What counts as told is not what the log says.
    Told,
    /// The membership is not what the runs say, or not what was told.
    Membership,
    /// Kafka's cursor, its mirror and the log contradict each other.
    Cursor,
    /// A topic is gone, or is another one by the same name.
    Topic,
}

impl Kind {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Repeated => "repeated",
            Kind::Order => "order",
            Kind::Stranger => "stranger",
            Kind::Changed => "changed",
            Kind::Says => "says",
            Kind::Person => "person",
            Kind::Chain => "chain",
            Kind::Told => "told",
            Kind::Membership => "membership",
            Kind::Cursor => "cursor",
            Kind::Topic => "topic",
        }
    }
}

/// Collects differences: counts all, keeps the first of each kind.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub counts: BTreeMap<Kind, u64>,
    pub differences: Vec<Difference>,
    pub unseen: Vec<String>,
}

impl Findings {
    pub fn add(&mut self, difference: Difference) {
        let count = self.counts.entry(difference.kind).or_default();
        *count += 1;
        if *count <= limits::VERIFY_DIFFERENCES {
            self.differences.push(difference);
        }
    }

    /// Several of one audience at once.
    pub fn add_profiles(&mut self, kind: Kind, audience: &str, profiles: &roaring::RoaringBitmap, detail: &str) {
        for profile in profiles {
            let audience = Some(audience.to_owned());
            self.add(Difference {
                kind,
                detail: detail.to_owned(),
                audience,
                profile: Some(profile),
                ..Default::default()
            });
        }
    }

    /// Of an audience as a whole.
    pub fn add_audience(&mut self, kind: Kind, audience: &str, detail: &str) {
        self.add(Difference {
            kind,
            detail: detail.to_owned(),
            audience: Some(audience.to_owned()),
            ..Default::default()
        });
    }

    /// Of the log itself.
    pub fn add_run(&mut self, kind: Kind, lane: Lane, run: RunId, position: Position, detail: impl Into<String>) {
        let (lane, run, position) = (Some(lane), Some(run), Some(position));
        self.add(Difference { kind, detail: detail.into(), lane, run, position, ..Default::default() });
    }

    pub fn cannot_see(&mut self, what: impl Into<String>) {
        self.unseen.push(what.into());
    }
}
