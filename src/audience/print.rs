//! How is a definition written today? The canonical text of a tree; `parse(print(tree))` is the tree again.

use std::fmt::{self, Display, Formatter};

use chrono::Timelike;

use super::{
    ast::{
        As, Comparator, Comparison, EventValue, Expr, Filter, Literal, Operand, Path, Reducer, Scalar, Segment, Source,
        Span, Stream, Unit,
    },
    parse::ComputedTrait,
    value::plain,
};

/// The canonical text of an audience's definition, on one line.
pub fn print(expr: &Expr) -> String {
    expr.to_string()
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Or(terms) => join(f, terms, " OR ", |term| matches!(term, Expr::Or(_))),
            Expr::And(terms) => join(f, terms, " AND ", Expr::is_junction),
            Expr::Not(inner) => prefixed(f, "NOT", inner),
            Expr::Any(inner) => prefixed(f, "ANY", inner),
            Expr::All(inner) => prefixed(f, "ALL", inner),
            Expr::Compare(comparison) => comparison.fmt(f),
        }
    }
}

impl Expr {
    fn is_junction(&self) -> bool {
        matches!(self, Expr::Or(_) | Expr::And(_))
    }
}

fn join(f: &mut Formatter<'_>, terms: &[Expr], separator: &str, wrap: fn(&Expr) -> bool) -> fmt::Result {
    for (n, term) in terms.iter().enumerate() {
        if n > 0 {
            f.write_str(separator)?;
        }
        if wrap(term) { write!(f, "({term})")? } else { term.fmt(f)? }
    }
    Ok(())
}

fn prefixed(f: &mut Formatter<'_>, keyword: &str, inner: &Expr) -> fmt::Result {
    if inner.is_junction() { write!(f, "{keyword} ({inner})") } else { write!(f, "{keyword} {inner}") }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.left, self.comparator)
    }
}

/// With the space or dot that stands before it.
impl Display for Comparator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Comparator::Equals(operand) => write!(f, " = {operand}"),
            Comparator::Differs(operand) => write!(f, " != {operand}"),
            Comparator::GreaterThan(operand) => write!(f, " > {operand}"),
            Comparator::AtLeast(operand) => write!(f, " >= {operand}"),
            Comparator::LessThan(operand) => write!(f, " < {operand}"),
            Comparator::AtMost(operand) => write!(f, " <= {operand}"),
            Comparator::Exists => f.write_str(".exists()"),
            Comparator::Absent => f.write_str(".absent()"),
            Comparator::Contains(operands) => list(f, "contains", operands),
            Comparator::Omits(operand) => write!(f, ".omits({operand})"),
            Comparator::StartsWith(operand) => write!(f, ".starts_with({operand})"),
            Comparator::EndsWith(operand) => write!(f, ".ends_with({operand})"),
            Comparator::OneOf(operands) => list(f, "one_of", operands),
            Comparator::NoneOf(operands) => list(f, "none_of", operands),
            Comparator::BeforeDate(operand) => write!(f, ".before_date({operand})"),
            Comparator::AfterDate(operand) => write!(f, ".after_date({operand})"),
            Comparator::WithinLast(span) => write!(f, ".within_last({span})"),
            Comparator::WithinNext(span) => write!(f, ".within_next({span})"),
            Comparator::BeforeLast(span) => write!(f, ".before_last({span})"),
            Comparator::AfterNext(span) => write!(f, ".after_next({span})"),
        }
    }
}

fn list(f: &mut Formatter<'_>, name: &str, operands: &[Operand]) -> fmt::Result {
    write!(f, ".{name}(")?;
    for (n, operand) in operands.iter().enumerate() {
        if n > 0 {
            f.write_str(", ")?;
        }
        operand.fmt(f)?;
    }
    f.write_str(")")
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Literal(literal) => literal.fmt(f),
            Operand::Scalar(scalar) => scalar.fmt(f),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Number(number) => f.write_str(&plain(number)),
            Literal::Text(text) => quoted(f, text),
            Literal::Instant(instant) if instant.num_seconds_from_midnight() == 0 && instant.nanosecond() == 0 => {
                write!(f, "{}", instant.format("%Y-%m-%d"))
            }
            Literal::Instant(instant) if instant.nanosecond() == 0 => {
                write!(f, "{}", instant.format("%Y-%m-%dT%H:%M:%SZ"))
            }
            Literal::Instant(instant) => write!(f, "{}", instant.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
        }
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Trait(path) | Scalar::Computed(path) => write!(f, "trait({path})"),
            Scalar::Property(path) => write!(f, "property({path})"),
            Scalar::ParentProperty(path) => write!(f, "property(parent: {path})"),
            Scalar::Context(path) => write!(f, "context({path})"),
            Scalar::Reduce(stream, reducer) => write!(f, "{stream}{reducer}"),
        }
    }
}

/// In quotes.
impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let segments: Vec<_> = self
            .0
            .iter()
            .map(|segment| match segment {
                Segment::Each => "$".to_owned(),
                Segment::Key(name) if name == "$" => r"\$".to_owned(),
                // A `$` within a longer name needs no escape, but one behind a backslash would read as escaped.
                Segment::Key(name) => name.replace('\\', r"\\").replace('.', r"\."),
            })
            .collect();
        quoted(f, &segments.join("."))
    }
}

impl Display for Stream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (function, name) = match &self.source {
            Source::Event(name) => ("event", name),
            Source::Entity(name) => ("entity", name),
        };
        write!(f, "{function}(")?;
        quoted(f, name)?;
        f.write_str(")")?;
        self.filters.iter().try_for_each(|filter| filter.fmt(f))
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Where(condition) => write!(f, ".where({condition})"),
            Filter::Within(span) => write!(f, ".within({span})"),
            Filter::WithinParent(span) => write!(f, ".within(parent: {span})"),
            Filter::Between { near, far } => write!(f, ".between({near}, {far})"),
            Filter::ExpiresAfter(span) => write!(f, ".expires_after({span})"),
            Filter::ExcludeSources(sources) => {
                f.write_str(".sources({exclude: ")?;
                for (n, source) in sources.iter().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    quoted(f, source)?;
                }
                f.write_str("})")
            }
        }
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
        };
        write!(f, "{} {unit}{}", self.amount, if self.amount == 1 { "" } else { "s" })
    }
}

impl Display for EventValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            EventValue::Property(path) => write!(f, "property({path})"),
            EventValue::Context(path) => write!(f, "context({path})"),
        }
    }
}

/// With the dot that stands before it.
impl Display for Reducer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = |kind: &As, default: As| match kind {
            kind if *kind == default => "",
            As::Number => " as number",
            As::String => " as string",
            As::Array => " as array",
        };
        match self {
            Reducer::Count => f.write_str(".count()"),
            Reducer::Sum(value) => write!(f, ".sum({value})"),
            Reducer::Avg(value) => write!(f, ".avg({value})"),
            Reducer::Min(value, as_) => write!(f, ".min({value}{})", kind(as_, As::Number)),
            Reducer::Max(value, as_) => write!(f, ".max({value}{})", kind(as_, As::Number)),
            Reducer::Mode { value, kind: as_, min_frequency } => {
                write!(f, ".mode({value}{}, {min_frequency})", kind(as_, As::String))
            }
            Reducer::First(value) => write!(f, ".first({value})"),
            Reducer::Last(value) => write!(f, ".last({value})"),
            Reducer::Unique(value) => write!(f, ".unique({value})"),
            Reducer::UniqueCount(value) => write!(f, ".unique({value}).count()"),
        }
    }
}

impl Display for ComputedTrait {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stream, self.reducer)
    }
}
