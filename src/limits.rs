//! (being written)

/// Mappings of one destination, unless its `max_mappings` says otherwise; the peer's limit.
pub const MAPPINGS_PER_DESTINATION: usize = 50;
/// How deep a mapping may nest; deeper ones are refused when the configuration is read.
pub const MAPPING_DEPTH: usize = 100;
/// Nodes of one mapping.
pub const MAPPING_NODES: usize = 10_000;
/// A text that one directive makes: more is a fault of the mapping, found on the event that shows it.
pub const MAPPED_TEXT_BYTES: usize = 8 << 20;
/// Characters of a `@liquid` template; the peer's limit.
pub const LIQUID_TEMPLATE_CHARS: usize = 1_000;
/// Steps that rendering one `@liquid` template may take; stands for the peer's 500 ms, but the same on every machine.
pub const LIQUID_STEPS: usize = 100_000;
/// Bytes that one `@liquid` template may become, and any text on the way.
pub const LIQUID_OUTPUT_BYTES: usize = 1 << 20;
/// Bytes of a trigger.
pub const TRIGGER_BYTES: usize = 64 << 10;
/// How deep a trigger may nest.
pub const TRIGGER_DEPTH: usize = 100;
