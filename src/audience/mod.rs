//! Whom do we mean? Audience definitions: parse, check, print, key, conditions. Pure: no store, no clock, no network.
//!
//! ```text
//!  text ──parse──► ast::Expr ──check──► order, warnings
//!                     │  └────print───► text in today's names
//!                     └─conditions────► Formula over Conditions ──► membership (SQL)
//!                     └─interpret─────► the same answer from one history in memory (oracle, explain)
//! ```
//!
//! What a definition means is written down in `docs/audience-language.md`; `interpret` and the SQL of `membership` are
//! two readings of that page, held against each other by property tests.

pub mod ast;
pub mod visit;
pub mod value;
pub mod parse;
pub mod print;
pub mod key;
pub mod lookback;
pub mod check;
pub mod interpret;
pub mod conditions;
pub mod statement;
pub mod computed;
pub mod catalogue;
pub mod options;
pub mod identities;
pub mod explain;
pub mod missing;
pub mod outlook;

pub use computed::{Class, Computed, Definition, Sql};
pub use parse::{ComputedTrait, parse, parse_trait};
pub use print::print;
