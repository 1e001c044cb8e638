//! Right sides: literals, lists, durations, paths, and the calls of comparators.

use std::{ops::Range, str::FromStr};

use bigdecimal::BigDecimal;

use super::{
    CURLY, Parser,
    lex::{Token, unquote},
    names,
    stream::Subject,
};
use crate::{
    audience::{
        ast::{Comparator, Literal, Operand, Path, Segment, Span, Unit},
        value::instant_of,
    },
    limits,
};

impl Parser<'_> {
    /// The arguments of a comparator written as a call; its name has been read.
    pub(super) fn call(&mut self, name: &str) -> Option<Comparator> {
        self.open(name)?;
        let comparator = match name {
            "exists" => Some(Comparator::Exists),
            "absent" => Some(Comparator::Absent),
            "within_last" => self.duration().map(Comparator::WithinLast),
            "within_next" => self.duration().map(Comparator::WithinNext),
            "before_last" => self.duration().map(Comparator::BeforeLast),
            "after_next" => self.duration().map(Comparator::AfterNext),
            "one_of" => self.operands().map(Comparator::OneOf),
            "none_of" => self.operands().map(Comparator::NoneOf),
            "contains" => self.texts().map(Comparator::Contains),
            "omits" => self.text_operand().map(Comparator::Omits),
            "starts_with" => self.text_operand().map(Comparator::StartsWith),
            "ends_with" => self.text_operand().map(Comparator::EndsWith),
            "before_date" => self.date_operand().map(Comparator::BeforeDate),
            "after_date" => self.date_operand().map(Comparator::AfterDate),
            _ => self.operand().and_then(|operand| self.compare_with(name, operand)),
        };
        self.close(name, comparator)
    }

    pub(super) fn compare_with(&mut self, name: &str, operand: Operand) -> Option<Comparator> {
        Some(match name {
            "equals" => Comparator::Equals(operand),
            "differs" => Comparator::Differs(operand),
            "greater_than" => Comparator::GreaterThan(operand),
            "at_least" => Comparator::AtLeast(operand),
            "less_than" => Comparator::LessThan(operand),
            "at_most" => Comparator::AtMost(operand),
            _ => return None,
        })
    }

    pub(super) fn operand(&mut self) -> Option<Operand> {
        let start = self.at;
        match self.token() {
            Token::Word if self.is_keyword("true") || self.is_keyword("false") => {
                let help = format!("Quote it: '{}'.", self.source().to_lowercase());
                self.problem(self.span(), "a bare true or false", help);
                self.advance();
                None
            }
            Token::Word if self.is_keyword("null") => {
                self.problem(self.span(), "null is not a value here", "Use .exists() or .absent().");
                self.advance();
                None
            }
            Token::Word if self.source() == "literal" => {
                self.advance();
                self.open("literal")?;
                let literal = self.literal();
                self.close("literal", literal).map(Operand::Literal)
            }
            Token::Word if self.ahead(1) == Token::Open => match self.subject()? {
                Subject::Scalar(scalar) => Some(Operand::Scalar(scalar)),
                _ => {
                    self.problem(
                        self.since(start),
                        "the right side is not one value",
                        "Compare with a literal, a trait, a property, or events with a reducer.",
                    );
                    None
                }
            },
            _ => self.literal().map(Operand::Literal),
        }
    }

    fn literal(&mut self) -> Option<Literal> {
        let span = self.span();
        match self.token() {
            Token::Text | Token::CurlyText => self.string().map(|(text, _)| Literal::Text(text)),
            Token::Number => {
                let number = BigDecimal::from_str(self.source().trim_start_matches('+')).ok()?;
                self.advance();
                Some(Literal::Number(number.normalized()))
            }
            Token::Exponent => {
                self.problem(span, "a number with an exponent", "Write it out, as 1000000.");
                self.advance();
                None
            }
            Token::Date => {
                let instant = instant_of(&self.source().to_ascii_uppercase());
                if instant.is_none() {
                    self.problem(span, format!("{} is not a date", self.found()), DATE);
                }
                self.advance();
                instant.map(Literal::Instant)
            }
            token => {
                let help = match token {
                    Token::Word => format!("Quote text: '{}'.", self.source()),
                    _ => "A value is 'text', a number, a date as 2024-01-31, or another trait or property.".to_owned(),
                };
                self.expected("a value", help);
                None
            }
        }
    }

    /// A quoted string and its place.
    pub(super) fn string(&mut self) -> Option<(String, Range<usize>)> {
        let span = self.span();
        match self.token() {
            Token::Text => {}
            Token::CurlyText => self.problem(span.clone(), "typographic quotes", CURLY),
            _ => {
                self.expected("a string in quotes", "Write it as '…'.");
                return None;
            }
        }
        let value = unquote(self.source());
        self.advance();
        Some((value, span))
    }

    /// One item or more, with commas, in brackets or not.
    fn list<T>(&mut self, item: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let bracketed = self.accept(Token::OpenBracket);
        let mut items = vec![item(self)];
        while self.accept(Token::Comma) {
            items.push(item(self));
        }
        if bracketed && !self.accept(Token::CloseBracket) {
            self.expected("`,` or `]`", "Close the list with `]`.");
            self.skip();
            self.accept(Token::CloseBracket);
            return None;
        }
        items.into_iter().collect()
    }

    fn operands(&mut self) -> Option<Vec<Operand>> {
        self.list(Self::operand)
    }

    fn texts(&mut self) -> Option<Vec<Operand>> {
        self.list(Self::text_operand)
    }

    pub(super) fn strings(&mut self) -> Option<Vec<String>> {
        self.list(|parser| parser.string().map(|(text, _)| text))
    }

    fn text_operand(&mut self) -> Option<Operand> {
        let span = self.span();
        match self.operand()? {
            Operand::Literal(Literal::Instant(_)) => {
                self.problem(span, "a date where text is searched for", "Quote it to search for its characters.");
                None
            }
            operand => Some(operand),
        }
    }

    fn date_operand(&mut self) -> Option<Operand> {
        let span = self.span();
        match self.operand()? {
            Operand::Literal(Literal::Number(_)) => {
                self.problem(span, "a number is not a date", DATE);
                None
            }
            Operand::Literal(Literal::Text(text)) => match instant_of(&text) {
                Some(instant) => Some(Operand::Literal(Literal::Instant(instant))),
                None => {
                    self.problem(span, "this text is not a date", DATE);
                    None
                }
            },
            operand => Some(operand),
        }
    }

    pub(super) fn duration(&mut self) -> Option<Span> {
        let start = self.at;
        if self.token() != Token::Number {
            self.expected("a duration", format!("Write a whole number and a unit ({}), as 7 days.", names::UNITS));
            return None;
        }
        let whole = self.source().bytes().all(|byte| byte.is_ascii_digit());
        let amount = if whole { Some(self.source().parse::<u64>().unwrap_or(u64::MAX)) } else { None };
        self.advance();
        let word = if self.token() == Token::Word { self.source() } else { "" };
        let Some(unit) = names::unit(word) else {
            let help = match word.to_lowercase().trim_end_matches('s') {
                "month" | "year" | "quarter" => {
                    "Months and years differ in length: say it in days, as 30 days or 365 days.".to_owned()
                }
                lower if names::unit(lower).is_some() => format!("Units are in lower case: {}.", word.to_lowercase()),
                lower => match names::nearest(lower, ["second", "minute", "hour", "day", "week"]) {
                    Some(unit) => format!("Did you mean `{unit}`?"),
                    None => format!("Units are {} (or their plurals).", names::UNITS),
                },
            };
            match word {
                "" => self.expected("a unit of time", help),
                _ => {
                    self.problem(self.span(), format!("unknown unit of time `{word}`"), help);
                    self.advance();
                }
            }
            return None;
        };
        self.advance();
        let span = self.since(start);
        let Some(amount) = amount else {
            self.problem(
                span,
                "a duration is a whole number of units",
                "Use a smaller unit, as 36 hours for 1.5 days.",
            );
            return None;
        };
        if amount == 0 {
            self.problem(span, "a duration of nothing", "A duration is 1 second or more.");
            return None;
        }
        let longest = limits::SPAN_DAYS * 86_400 / Span { amount: 1, unit }.seconds();
        match u32::try_from(amount) {
            Ok(short) if amount <= longest => Some(Span { amount: short, unit }),
            _ => {
                self.problem(span, "a duration of more than a hundred years", "Leave the window out to mean any time.");
                None
            }
        }
    }

    /// A path in quotes: dots walk into objects, `\.` is a dot in a name, `$` each entry of an array.
    pub(super) fn path(&mut self) -> Option<Path> {
        let (text, span) = self.string()?;
        let mut segments = vec![(String::new(), false)];
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let last = segments.len() - 1;
            match (char, chars.peek()) {
                ('\\', Some(&escaped @ ('.' | '\\' | '$'))) => {
                    segments[last].0.push(escaped);
                    segments[last].1 = true;
                    chars.next();
                }
                ('.', _) => segments.push((String::new(), false)),
                _ => segments[last].0.push(char),
            }
        }
        if segments.iter().any(|(name, _)| name.is_empty()) {
            self.problem(
                span,
                "an empty name in a path",
                "Names are separated by single dots; write \\. for a dot that is part of a name.",
            );
            return None;
        }
        let path: Vec<_> = segments
            .into_iter()
            .map(|(name, escaped)| if name == "$" && !escaped { Segment::Each } else { Segment::Key(name) })
            .collect();
        if path[0] == Segment::Each {
            self.problem(
                span,
                "a path that begins with `$`",
                "`$` means each entry of the array before it, as items.$; write \\$ for a name.",
            );
            return None;
        }
        Some(Path(path))
    }

    /// `number`, `string` or `array` after `as`, if it is there.
    pub(super) fn one_word<'n>(&mut self, allowed: &'n [&'n str], what: &str) -> Option<&'n str> {
        let word = if self.token() == Token::Word { self.source() } else { "" };
        let known = allowed.iter().find(|name| **name == word).copied();
        match known {
            Some(_) => self.advance(),
            None => self.expected(what, format!("One of: {}.", allowed.join(", "))),
        }
        known
    }
}

const DATE: &str = "A date is written as 2024-01-31 or 2024-01-31T18:50:00Z.";

impl Span {
    fn seconds(self) -> u64 {
        match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 604_800,
        }
    }
}
