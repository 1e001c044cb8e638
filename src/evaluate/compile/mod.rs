//! How is a condition asked of Postgres? As one query whose text never holds a value of the definition.
//!
//! Every name, literal and instant is a parameter, and the text is the same whenever the same definition runs, so it can
//! be snapshot-tested. `COPY` takes no bind parameters: they travel as settings of the transaction
//! (`set_config('rollcall.p1', …, true)`) and are read back by `current_setting`.
//!
//! A query must never raise an error because of what a profile holds.

mod compare;
mod stream;
mod value;

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::{
    Error, Result,
    audience::{
        ast::{Comparator, Comparison, Expr, Operand, Path, Scalar, Segment, Span},
        conditions::Condition,
        interpret,
    },
    values::table,
};

pub(super) use stream::{Window, event_name};
pub(super) use value::is_timestamp;

/// A query that yields profile ids (and, in a shared scan, more columns), with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub text: String,
    /// `rollcall.p1` is the first.
    pub parameters: Vec<String>,
    /// The query yields the profiles for which the condition does *not* hold.
    pub negated: bool,
}

/// What the store calls the names of the definitions.
#[derive(Debug, Default, Clone)]
pub struct Names {
    pub(super) ids: HashMap<String, i32>,
    /// By event name id and path: the number of the typed column.
    pub(super) promoted: HashMap<(i32, Vec<String>), i16>,
}

impl Names {
    /// By name; and by event name id and path, the column's number.
    pub fn new(ids: HashMap<String, i32>, promoted: HashMap<(i32, Vec<String>), i16>) -> Names {
        Names { ids, promoted }
    }

    /// The id of an event name; 0, which no event has, for a name that the store never saw.
    pub(super) fn id(&self, name: &str) -> i32 {
        self.ids.get(name).copied().unwrap_or(0)
    }

    fn promoted(&self, name: &str, path: &Path) -> Option<i16> {
        let keys = path.0.iter().map(|segment| match segment {
            Segment::Key(key) => Some(key.clone()),
            Segment::Each => None,
        });
        self.promoted.get(&(self.id(name), keys.collect::<Option<Vec<_>>>()?)).copied()
    }
}

/// Where an expression stands: in a profile, or in an event within others.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// The enclosing events, outermost first.
    events: Vec<Enclosing>,
}

#[derive(Debug, Clone)]
struct Enclosing {
    alias: String,
    window: Window,
}

/// Composes one query.
#[derive(Debug)]
pub(super) struct Compiler<'a> {
    t: DateTime<Utc>,
    names: &'a Names,
    parameters: Vec<String>,
    aliases: usize,
    traits_used: bool,
    computed_used: bool,
}

/// The query that answers one condition.
///
/// Most conditions differ from their answer for a person of whom nothing is known only where something is known, so the
/// query yields the profiles with the other answer; `negated` says which one that is.
pub fn condition(condition: &Condition, t: DateTime<Utc>, names: &Names) -> Result<Query> {
    let Comparison { left, comparator } = &condition.0;
    let negated = holds_for_nobody(condition, t);
    let mut compiler = Compiler::new(t, names);
    let text = match left {
        Scalar::Reduce(stream, reducer) if !reads_scalars(comparator) => {
            compiler.grouped(stream, reducer, comparator, negated)?
        }
        _ => {
            let holds = compiler.comparison(&condition.0, &Scope::default())?;
            let (computed, not) = (compiler.computed("p.id"), if negated { "not " } else { "" });
            format!("select p.id from profiles p{computed} where {not}{holds}")
        }
    };
    compiler.finish(text, negated)
}

/// Whether a condition holds for a profile without traits and events.
pub(super) fn holds_for_nobody(condition: &Condition, t: DateTime<Utc>) -> bool {
    interpret::holds(&Expr::Compare(condition.0.clone()), &interpret::Profile::default(), t)
}

/// Whether the right side varies from profile to profile.
fn reads_scalars(comparator: &Comparator) -> bool {
    comparator.operands().iter().any(|operand| matches!(operand, Operand::Scalar(_)))
}

impl<'a> Compiler<'a> {
    pub(super) fn new(t: DateTime<Utc>, names: &'a Names) -> Self {
        Compiler { t, names, parameters: Vec::new(), aliases: 0, traits_used: false, computed_used: false }
    }

    pub(super) fn finish(self, text: String, negated: bool) -> Result<Query> {
        if self.parameters.iter().any(|parameter| parameter.contains('\0')) {
            return Err(Error::definition("a definition holds the character U+0000, which no stored value can have")
                .help("Remove it from the definition."));
        }
        Ok(Query { text, parameters: self.parameters, negated })
    }

    /// A predicate over the profile or the innermost event; never null.
    pub(super) fn expression(&mut self, expression: &Expr, scope: &Scope) -> Result<String> {
        Ok(match expression {
            Expr::And(terms) => self.junction(terms, " and ", scope)?,
            Expr::Or(terms) => self.junction(terms, " or ", scope)?,
            Expr::Not(term) => format!("not {}", self.expression(term, scope)?),
            Expr::Compare(comparison) => self.comparison(comparison, scope)?,
            Expr::Any(_) | Expr::All(_) => {
                return Err(Error::definition("ANY and ALL speak of accounts, which this version does not evaluate")
                    .help("Define the audience over users: leave ANY and ALL out."));
            }
        })
    }

    fn junction(&mut self, terms: &[Expr], word: &str, scope: &Scope) -> Result<String> {
        let terms = terms.iter().map(|term| self.expression(term, scope)).collect::<Result<Vec<_>>>()?;
        Ok(format!("({})", terms.join(word)))
    }

    /// Whether what was composed reads the traits of the profile, as `p`.
    pub(super) fn reads_traits(&self) -> bool {
        self.traits_used
    }

    /// A join with the values of computed traits, as `c`, of the profile `id`; nothing where they are not read. Who has none of
    /// them has no row, and is asked about all the same.
    fn computed(&self, id: &str) -> String {
        match self.computed_used {
            true => format!(" left join {} c on c.profile_id = {id}", table::NAME),
            false => String::new(),
        }
    }

    pub(super) fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("e{}", self.aliases)
    }

    fn position(&mut self, value: String) -> usize {
        let found = self.parameters.iter().position(|known| *known == value);
        1 + found.unwrap_or_else(|| {
            self.parameters.push(value);
            self.parameters.len() - 1
        })
    }

    /// A parameter as a bound of an index scan: the planner estimates with its value.
    pub(super) fn bound(&mut self, value: impl Into<String>, kind: &str) -> String {
        format!("current_setting('rollcall.p{}')::{kind}", self.position(value.into()))
    }

    /// A parameter that is read once per query.
    fn constant(&mut self, value: impl Into<String>, kind: &str) -> String {
        let position = self.position(value.into());
        match kind {
            "text" => format!("(select current_setting('rollcall.p{position}'))"),
            _ => format!("(select current_setting('rollcall.p{position}')::{kind})"),
        }
    }

    /// `t` plus (or minus, if `sign` is −1) a duration; past the calendar's end it is infinite.
    fn shifted(&self, span: Span, sign: i32) -> String {
        shift(self.t, span, sign).map_or_else(|| if sign < 0 { "-infinity" } else { "infinity" }.into(), instant_text)
    }
}

pub(super) fn shift(t: DateTime<Utc>, span: Span, sign: i32) -> Option<DateTime<Utc>> {
    t.checked_add_signed(chrono::Duration::microseconds(span.micros() * i64::from(sign)))
}

/// An instant as Postgres reads it.
pub(super) fn instant_text(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}
