//! What breaks without a safeguard? In test builds each can be switched off, to show that it is needed.
//!
//! `ROLLCALL_SWITCH_OFF=cursor_after_fence,seal_once` names those that are off. A build without the feature `faults` has no
//! such switch: there [`Safeguard::is_on`] is true at compile time.

macro_rules! safeguards {
    ($($(#[$doc:meta])* $safeguard:ident = $name:literal,)*) => {
        /// What keeps a promise of docs/guarantees.md, and can be shown to by leaving it out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Safeguard { $($(#[$doc])* $safeguard,)* }

        #[cfg(feature = "faults")]
        impl Safeguard {
            /// All safeguards that have a switch.
            pub const ALL: &[Safeguard] = &[$(Safeguard::$safeguard,)*];

            /// The name in `ROLLCALL_SWITCH_OFF`.
            pub fn name(self) -> &'static str {
                match self { $(Safeguard::$safeguard => $name,)* }
            }
        }
    };
}

safeguards! {
    /// A tick's run is sealed only by the instance whose firing it still is. Without: one that was overtaken seals it again.
    SealOnce = "seal_once",
    /// One instance at a time works on a destination. Without: they fence each other again and again, and still tell nothing twice.
    Lease = "lease",
    /// Offsets move only from where the writer believes them to stand. Without: a writer that was overtaken moves them back.
    OffsetsFromWhere = "offsets_from_where",
    /// The cursor is read after older producers are fenced. Without: one of them commits in between, and that is told again.
    CursorAfterFence = "cursor_after_fence",
    /// Streams that a new one took the place of are fenced before it is told. Without: whoever was stopped before the commit of an
    /// old page commits it after.
    RetiredFenced = "retired_fenced",
    /// What is told was held against the log's chain. Without: whoever an edited bitmap names is told, and whatever an edited value says.
    ChainComputedAnew = "chain_computed_anew",
    /// After a commit that was not uneventful, the next transaction is a new producer's. Without: a delayed commit ends it half written.
    NewProducerAfterDoubt = "new_producer_after_doubt",
    /// What is written to Postgres by TCP is sent at once. Without: each exchange may wait 40 ms for an acknowledgement.
    SendsAtOnce = "sends_at_once",
    /// A session that comes back to a pool is outside of any transaction. Without: later writes are part of one that nobody commits.
    ReturnsOutside = "returns_outside",
    /// Those who only look have sessions of their own. Without: requests that wait for a lock stop sealing and telling.
    ReadsApart = "reads_apart",
    /// Others end the sessions of whoever has lost its lease. Without: one that is stopped amid rows keeps its locks for ever.
    EndOfTheDead = "end_of_the_dead",
    /// A seal's session may idle while others work for it. Without: what takes longer than a lease fails the whole tick.
    SealMayIdle = "seal_may_idle",
}

impl Safeguard {
    /// Whether it does its work, as it does in every build that is not a test's.
    #[inline]
    pub fn is_on(self) -> bool {
        #[cfg(feature = "faults")]
        return !super::armed::is_off(self);
        #[cfg(not(feature = "faults"))]
        true
    }
}
