//! What does a definition say? The syntax tree of the audience language, after every check that needs no store.
//!
//! Nothing here knows positions in the text (the parser reports those) nor how a condition is evaluated. A tree that
//! exists is well typed: the parser builds no other. See `docs/audience-language.md` for the meaning of each node.

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};

/// A predicate over one profile, or, inside `where(…)`, over one event of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// True if any of its (two or more) terms is.
    Or(Vec<Expr>),
    /// True if all of its (two or more) terms are.
    And(Vec<Expr>),
    /// Plain negation of a two-valued result.
    Not(Box<Expr>),
    /// Account level: some user of the account satisfies it.
    Any(Box<Expr>),
    /// Account level: every user of the account satisfies it.
    All(Box<Expr>),
    /// A leaf: one comparison.
    Compare(Comparison),
}

/// `left` held against a comparator with its operands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comparison {
    pub left: Scalar,
    pub comparator: Comparator,
}

/// An expression that has one value (or none) for a profile or an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// `trait('a.b')`: a profile's trait, or membership of the audience with that key.
    Trait(Path),
    /// The value of a computed trait, below the key under which it is stored. The parser makes none: which `trait(…)` is one is
    /// known when a definition is split into conditions.
    Computed(Path),
    /// `property('a.b')`: of the event whose `where(…)` or reducer this stands in.
    Property(Path),
    /// `property(parent: 'a.b')`: of the nearest enclosing event.
    ParentProperty(Path),
    /// `context('a.b')` of the event; `context('timestamp')` is its `occurred_at`.
    Context(Path),
    /// `event('E')….count()` and the other reducers.
    Reduce(Box<Stream>, Reducer),
}

/// A path into JSON, as segments: `products.$.sku` is `[Key(products), Each, Key(sku)]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(pub Vec<Segment>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Key(String),
    /// `$`: each entry of the array reached so far.
    Each,
}

/// The events of one profile that a reducer looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    pub source: Source,
    /// All of them must hold; their order has no meaning.
    pub filters: Vec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Event(String),
    /// Linked audiences only; parses, and is refused by `check`.
    Entity(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    Where(Expr),
    /// `within(d)`: `t − d < occurred_at <= t`.
    Within(Span),
    /// `within(parent: d)`: after the parent, at most `d` later.
    WithinParent(Span),
    /// `between(near, far)`: `t − far < occurred_at <= t − near`, `near < far`.
    Between {
        near: Span,
        far: Span,
    },
    /// Session windows; computed traits only.
    ExpiresAfter(Span),
    /// Drops events of these source ids.
    ExcludeSources(Vec<String>),
}

/// A duration as it was written; calendar units do not exist in this language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub amount: u32,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
}

/// What a reducer reads of each event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventValue {
    Property(Path),
    Context(Path),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reducer {
    Count,
    Sum(EventValue),
    Avg(EventValue),
    Min(EventValue, As),
    Max(EventValue, As),
    /// Most frequent value that occurs at least `min_frequency` times; ties go to the first by bytes.
    Mode {
        value: EventValue,
        kind: As,
        min_frequency: u32,
    },
    First(EventValue),
    Last(EventValue),
    /// A list; in an audience only under `count()`, which is [`Reducer::UniqueCount`].
    Unique(EventValue),
    UniqueCount(EventValue),
}

/// `property('x') as string`: how a reducer reads its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum As {
    Number,
    String,
    Array,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparator {
    Equals(Operand),
    Differs(Operand),
    GreaterThan(Operand),
    AtLeast(Operand),
    LessThan(Operand),
    AtMost(Operand),
    Exists,
    Absent,
    Contains(Vec<Operand>),
    Omits(Operand),
    StartsWith(Operand),
    EndsWith(Operand),
    OneOf(Vec<Operand>),
    NoneOf(Vec<Operand>),
    BeforeDate(Operand),
    AfterDate(Operand),
    WithinLast(Span),
    WithinNext(Span),
    BeforeLast(Span),
    AfterNext(Span),
}

/// The right side of a comparator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    Literal(Literal),
    Scalar(Scalar),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Literal {
    Number(BigDecimal),
    Text(String),
    /// An unquoted date or timestamp; without a zone it is UTC, without a time midnight.
    Instant(DateTime<Utc>),
}

impl Span {
    /// The length in microseconds; a day is 24 hours.
    pub fn micros(self) -> i64 {
        let seconds = match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 604_800,
        };
        i64::from(self.amount) * seconds * 1_000_000
    }
}
