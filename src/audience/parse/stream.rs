//! What a condition begins with: extractors, and for events their filters and reducer.

use super::{Parser, lex::Token, names};
use crate::{
    audience::ast::{As, EventValue, Filter, Reducer, Scalar, Source, Stream},
    limits,
};

/// An extractor with what was chained to it, before any comparator.
pub(super) enum Subject {
    Scalar(Scalar),
    /// Events without a reducer: not yet a value.
    Stream,
    /// `unique(…)` without `count()`.
    List(Box<Stream>, Reducer),
}

const CHAIN: &[&str] = &[
    "where",
    "within",
    "between",
    "sources",
    "expires_after",
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "mode",
    "first",
    "last",
    "unique",
];

impl Parser<'_> {
    pub(super) fn subject(&mut self) -> Option<Subject> {
        if self.token() != Token::Word {
            let help = match self.token() {
                Token::Text | Token::Number | Token::Date => {
                    "Begin with event('…') or trait('…'); a literal stands on the right."
                }
                _ => "A condition begins with event('…') or trait('…').",
            };
            self.expected("a condition", help);
            return None;
        }
        let start = self.at;
        let (span, word) = (self.span(), self.source());
        let Some(&name) = names::EXTRACTORS.iter().find(|name| name.eq_ignore_ascii_case(word)) else {
            self.unknown_extractor(span, word);
            return None;
        };
        if name != word {
            self.problem(span.clone(), format!("`{word}` is not in lower case"), format!("Write {name}."));
        }
        self.advance();
        match name {
            "event" | "entity" => self.events(name),
            "literal" => {
                self.problem(
                    span,
                    "a literal stands on the right of a comparison",
                    "Begin with event('…') or trait('…').",
                );
                None
            }
            "trait" => {
                let path = self.argument(name, Self::path)?;
                self.mention(start, &path);
                Some(Subject::Scalar(Scalar::Trait(path)))
            }
            _ => {
                if self.enclosing == 0 {
                    self.problem(
                        span,
                        format!("`{name}` is of one event, and there is none here"),
                        format!(
                            "Put it within where(…) of an event: event('…').where({name}('…') = '…').count() >= 1."
                        ),
                    );
                }
                self.event_scalar(name).map(Subject::Scalar)
            }
        }
    }

    /// Tells that no condition begins with this word.
    fn unknown_extractor(&mut self, span: std::ops::Range<usize>, word: &str) {
        let reserved = ["AND", "OR"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword));
        let help = match names::nearest(word, names::EXTRACTORS.iter().copied().chain(["NOT"])) {
            _ if reserved => "A condition stands on both sides of AND and OR.".to_owned(),
            Some(name) => format!("Did you mean `{name}`?"),
            None => "A condition begins with event('…') or trait('…').".to_owned(),
        };
        let message = if reserved {
            format!("expected a condition, found `{word}`")
        } else {
            format!("unknown function `{word}`")
        };
        self.problem(span, message, help);
    }

    fn argument<T>(&mut self, function: &str, rule: fn(&mut Self) -> Option<T>) -> Option<T> {
        self.open(function)?;
        let argument = rule(self);
        self.close(function, argument)
    }

    fn event_scalar(&mut self, name: &str) -> Option<Scalar> {
        self.open(name)?;
        let parent = self.parent();
        if parent.is_some() && (name == "context" || self.enclosing == 1) {
            let (message, help) = if name == "context" {
                ("context(…) knows no parent", "Use property(parent: '…').")
            } else {
                (
                    "there is no parent event here",
                    "parent: speaks of the event around this one; it needs an event within where(…) of another.",
                )
            };
            self.problem(parent.clone().unwrap_or_default(), message, help);
        }
        let path = self.path();
        let path = self.close(name, path)?;
        Some(match (name, parent) {
            ("context", _) => Scalar::Context(path),
            (_, Some(_)) => Scalar::ParentProperty(path),
            _ => Scalar::Property(path),
        })
    }

    /// `parent:`, if it is here, and its place.
    fn parent(&mut self) -> Option<std::ops::Range<usize>> {
        if self.token() != Token::Word || self.source() != "parent" || self.ahead(1) != Token::Colon {
            return None;
        }
        let span = self.span();
        self.advance();
        self.advance();
        Some(span)
    }

    fn events(&mut self, extractor: &str) -> Option<Subject> {
        let start = self.at - 1;
        if self.enclosing >= limits::EVENT_NESTING {
            self.problem(
                self.since(start),
                format!("events within events more than {} deep", limits::EVENT_NESTING),
                "Say it with fewer levels, or as audiences of their own.",
            );
            return None;
        }
        let (name, span) = self.argument(extractor, Self::string)?;
        if name.is_empty() {
            self.problem(span, "an event without a name", "Name the event, as event('Order Completed').");
            return None;
        }
        let source = if extractor == "entity" { Source::Entity(name) } else { Source::Event(name) };
        let mut stream = Stream { source, filters: Vec::new() };
        // A wrong filter does not keep the rest of the chain from being read.
        let mut whole = true;
        while self.accept(Token::Dot) {
            let at = self.at;
            let name = self.chained(CHAIN, "a filter or a reducer")?;
            if names::FILTERS.contains(&name) {
                match self.deeper(|parser| parser.filter(name, at)) {
                    Some(filter) => stream.filters.push(filter),
                    None => whole = false,
                }
                continue;
            }
            let reducer = self.reducer(name);
            let list = matches!(reducer, Some(Reducer::Unique(_)));
            let reducer = match reducer {
                Some(Reducer::Unique(value)) if self.token() == Token::Dot && self.is_count() => {
                    self.advance();
                    self.advance();
                    self.open("count")?;
                    self.close("count", Some(()))?;
                    return whole.then(|| Subject::Scalar(Scalar::Reduce(stream.into(), Reducer::UniqueCount(value))));
                }
                reducer => reducer?,
            };
            if !whole {
                return None;
            }
            return Some(if list {
                Subject::List(stream.into(), reducer)
            } else {
                Subject::Scalar(Scalar::Reduce(stream.into(), reducer))
            });
        }
        whole.then_some(Subject::Stream)
    }

    fn is_count(&self) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|(_, span)| &self.text[span.clone()] == "count")
    }

    fn filter(&mut self, name: &str, at: usize) -> Option<Filter> {
        self.open(name)?;
        let filter = self.filter_argument(name);
        let filter = self.close(name, filter);
        if name == "expires_after" && (!self.computed_trait || self.enclosing > 0) {
            self.problem(
                self.since(at),
                "session windows are for computed traits",
                "In an audience use .within(…), a window that slides.",
            );
        }
        filter
    }

    fn filter_argument(&mut self, name: &str) -> Option<Filter> {
        match name {
            "where" => self.condition(),
            "sources" => {
                let braces = self.accept(Token::OpenBrace);
                self.one_word(&["exclude"], "`exclude:`")?;
                if !self.accept(Token::Colon) {
                    self.expected("`:`", "Write sources({exclude: '<source id>'}).");
                    return None;
                }
                let sources = self.strings();
                if braces && !self.accept(Token::CloseBrace) && sources.is_some() {
                    self.expected("`}`", "Close the brace, or leave both out.");
                }
                sources.map(Filter::ExcludeSources)
            }
            "within" => {
                let parent = self.parent();
                if let (Some(span), 0) = (&parent, self.enclosing) {
                    self.problem(
                        span.clone(),
                        "there is no parent event here",
                        "within(parent: …) belongs to an event within where(…) of another.",
                    );
                }
                let span = self.duration()?;
                Some(if parent.is_some() { Filter::WithinParent(span) } else { Filter::Within(span) })
            }
            "between" => self.between(),
            _ => self.duration().map(Filter::ExpiresAfter),
        }
    }

    /// What stands in `where(…)`.
    fn condition(&mut self) -> Option<Filter> {
        // The published reference prints where({…}); the braces mean nothing.
        let braces = self.accept(Token::OpenBrace);
        self.enclosing += 1;
        let condition = self.disjunction();
        self.enclosing -= 1;
        if braces && !self.accept(Token::CloseBrace) && condition.is_some() {
            self.expected("`}`", "Close the brace, or leave both out.");
        }
        condition.map(Filter::Where)
    }

    /// What stands in `between(…)`: the nearer bound and the farther one.
    fn between(&mut self) -> Option<Filter> {
        let start = self.at;
        if let Some(span) = self.parent() {
            self.problem(span, "between(…) knows no parent", "Use within(parent: …).");
        }
        let near = self.duration()?;
        if !self.accept(Token::Comma) {
            self.expected("`,`", "Write the nearer bound first, as between(7 days, 10 days).");
            return None;
        }
        let far = self.duration()?;
        if near.micros() >= far.micros() {
            self.problem(
                self.since(start),
                "between(…) has its bounds in the wrong order",
                "The nearer bound comes first and is shorter, as between(7 days, 10 days).",
            );
            return None;
        }
        Some(Filter::Between { near, far })
    }

    fn reducer(&mut self, name: &str) -> Option<Reducer> {
        self.open(name)?;
        let reducer = self.reducer_argument(name);
        self.close(name, reducer)
    }

    fn reducer_argument(&mut self, name: &str) -> Option<Reducer> {
        if name == "count" {
            return Some(Reducer::Count);
        }
        let value = self.event_value(name)?;
        Some(match name {
            "sum" => Reducer::Sum(value),
            "avg" => Reducer::Avg(value),
            "first" => Reducer::First(value),
            "last" => Reducer::Last(value),
            "unique" => Reducer::Unique(value),
            "min" => Reducer::Min(value, self.kind(&["number", "string"], As::Number)?),
            "max" => Reducer::Max(value, self.kind(&["number", "string"], As::Number)?),
            _ => {
                let kind = self.kind(&["string", "number", "array"], As::String)?;
                let frequency = if self.accept(Token::Comma) && self.token() == Token::Number {
                    self.source().parse().ok()
                } else {
                    None
                };
                let Some(min_frequency @ 1..) = frequency else {
                    self.expected(
                        "how often at least the value must occur",
                        "Give a whole number of 1 or more, as mode(property('brand'), 2).",
                    );
                    return None;
                };
                self.advance();
                Reducer::Mode { value, kind, min_frequency }
            }
        })
    }

    fn kind(&mut self, allowed: &[&str], default: As) -> Option<As> {
        if self.token() != Token::Word || self.source() != "as" {
            return Some(default);
        }
        self.advance();
        Some(match self.one_word(allowed, "a type after `as`")? {
            "number" => As::Number,
            "string" => As::String,
            _ => As::Array,
        })
    }

    fn event_value(&mut self, reducer: &str) -> Option<EventValue> {
        let name = if self.token() == Token::Word { self.source() } else { "" };
        if !matches!(name, "property" | "context") {
            self.expected(
                "property('…') or context('…')",
                format!("Name what to read of each event: {reducer}(property('…'))."),
            );
            return None;
        }
        self.advance();
        self.open(name)?;
        if let Some(span) = self.parent() {
            self.problem(
                span,
                "a reducer reads its own events",
                format!("Leave parent: out: {reducer}(property('…'))."),
            );
        }
        let path = self.path();
        let path = self.close(name, path)?;
        Some(if name == "property" { EventValue::Property(path) } else { EventValue::Context(path) })
    }
}
