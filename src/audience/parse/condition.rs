//! Conditions: junctions, negation, quantifiers, parentheses and comparisons.

use super::{ComputedTrait, Parser, lex::Token, names, stream::Subject};
use crate::audience::ast::{Comparator, Comparison, Expr, Scalar};

impl Parser<'_> {
    /// A whole audience.
    pub(super) fn definition(&mut self) -> Option<Expr> {
        if self.token() == Token::End {
            self.problem(
                0..self.text.len(),
                "an empty definition",
                "Write a condition, as event('Order Completed').count() >= 1.",
            );
            return None;
        }
        let first = self.disjunction();
        let mut rest = false;
        while self.token() != Token::End {
            rest = true;
            if self.token() == Token::Close {
                self.problem(self.span(), "a `)` that nothing opened", "Remove it, or add the `(` it belongs to.");
                self.advance();
                if self.is_junction() {
                    self.advance();
                    self.disjunction();
                }
            } else {
                self.expected("AND or OR", "Join conditions with AND or OR.");
                let before = self.at;
                self.skip_to(Self::begins_condition);
                if self.at == before && !self.begins_condition() && !self.is_junction() {
                    self.advance();
                }
                if self.is_junction() {
                    self.advance();
                }
                if self.begins_condition() {
                    self.disjunction();
                }
            }
        }
        if rest { None } else { first }
    }

    /// A whole computed trait.
    pub(super) fn computed_trait(&mut self) -> Option<ComputedTrait> {
        let start = self.at;
        let subject = self.subject();
        let definition = match subject {
            Some(Subject::Scalar(Scalar::Reduce(stream, reducer)) | Subject::List(stream, reducer)) => {
                Some(ComputedTrait { stream: *stream, reducer })
            }
            Some(Subject::Scalar(_)) => {
                self.problem(
                    self.since(start),
                    "a computed trait is worked out from events",
                    "Begin with event('…') and end with a reducer, as event('Order Completed').sum(property('revenue')).",
                );
                None
            }
            Some(Subject::Stream) => {
                self.unreduced(start);
                None
            }
            None => return None,
        };
        if self.token() != Token::End {
            self.expected(
                "the end of the computed trait",
                "A computed trait is one value: it ends with its reducer. A definition that compares is an audience.",
            );
            return None;
        }
        definition
    }

    pub(super) fn disjunction(&mut self) -> Option<Expr> {
        self.joined("OR", Token::Bars, Self::conjunction, Expr::Or)
    }

    fn conjunction(&mut self) -> Option<Expr> {
        self.joined("AND", Token::Ampersands, Self::unary, Expr::And)
    }

    fn joined(
        &mut self,
        keyword: &str,
        foreign: Token,
        term: fn(&mut Self) -> Option<Expr>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Option<Expr> {
        let mut terms = vec![term(self)];
        loop {
            if self.token() == foreign {
                let message = format!("`{}` is not of this language", self.source());
                self.problem(self.span(), message, format!("Write {keyword}."));
            } else if !self.is_keyword(keyword) {
                break;
            }
            self.advance();
            terms.push(term(self));
        }
        let mut terms = terms.into_iter().collect::<Option<Vec<_>>>()?;
        if terms.len() == 1 { terms.pop() } else { Some(join(terms)) }
    }

    fn unary(&mut self) -> Option<Expr> {
        self.deeper(|parser| {
            if parser.token() == Token::Bang {
                parser.problem(parser.span(), "`!` is not of this language", "Write NOT.");
                parser.advance();
                return parser.unary().map(|expr| Expr::Not(expr.into()));
            }
            if parser.is_keyword("NOT") {
                parser.advance();
                return parser.unary().map(|expr| Expr::Not(expr.into()));
            }
            for (keyword, quantify) in
                [("ANY", Expr::Any as fn(Box<Expr>) -> Expr), ("ALL", Expr::All as fn(Box<Expr>) -> Expr)]
            {
                if parser.is_keyword(keyword) {
                    if parser.enclosing > 0 {
                        parser.problem(
                            parser.span(),
                            format!("{keyword} does not stand within where(…)"),
                            format!(
                                "{keyword} speaks of the users of an account: put it in front of the whole condition."
                            ),
                        );
                    }
                    parser.advance();
                    return parser.unary().map(|expr| quantify(expr.into()));
                }
            }
            if parser.token() == Token::Open { parser.parenthesised() } else { parser.primary() }
        })
    }

    fn parenthesised(&mut self) -> Option<Expr> {
        self.advance();
        let inner = self.disjunction();
        if !self.accept(Token::Close) {
            // After a problem inside, one more about its parenthesis would only confuse, unless it is really missing.
            if inner.is_some() || self.token() == Token::End {
                self.expected("AND, OR or `)`", "Close the parenthesis, or join conditions with AND or OR.");
            }
            self.skip();
            self.accept(Token::Close);
            return None;
        }
        if self.token() == Token::Dot || self.comparator_symbol().is_some() {
            self.problem(
                self.span(),
                "a comparator after a whole condition",
                "A comparator follows one value, as trait('plan') = 'pro': compare inside the parentheses.",
            );
            self.skip();
            return None;
        }
        inner
    }

    fn primary(&mut self) -> Option<Expr> {
        let comparison = self.comparison();
        if comparison.is_none() {
            self.skip();
        }
        comparison.map(Expr::Compare)
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let start = self.at;
        self.comparisons += 1;
        let left = match self.subject()? {
            Subject::Scalar(left) => left,
            Subject::Stream => {
                self.unreduced(start);
                return None;
            }
            Subject::List(..) => {
                self.problem(
                    self.since(start),
                    "unique(…) gives a list, which cannot be compared",
                    "Count it: .unique(…).count() >= 1. Or compare the property within where(…).",
                );
                return None;
            }
        };
        let comparator = self.comparator(start)?;
        if self.token() == Token::Dot || self.comparator_symbol().is_some() {
            self.problem(
                self.span(),
                "a comparator ends its condition, nothing can follow it",
                "Join a second condition with AND or OR.",
            );
            return None;
        }
        Some(Comparison { left, comparator })
    }

    fn unreduced(&mut self, start: usize) {
        if self.token() == Token::End || self.is_junction() || self.token() == Token::Close {
            self.problem(
                self.since(start),
                "a stream of events is not yet a value",
                "End it with a reducer, as .count() (and in an audience a comparison: .count() >= 1).",
            );
        } else {
            self.expected("a reducer", format!("Events become one value by one of: {}.", names::REDUCERS.join(", ")));
        }
    }

    /// Whether a condition can begin here.
    fn begins_condition(&self) -> bool {
        match self.token() {
            Token::Open | Token::Bang => true,
            Token::Word => {
                ["NOT", "ANY", "ALL"].iter().any(|keyword| self.is_keyword(keyword))
                    || (names::EXTRACTORS.contains(&self.source()) && self.ahead(1) == Token::Open)
            }
            _ => false,
        }
    }

    fn comparator(&mut self, start: usize) -> Option<Comparator> {
        if let Some((name, hint)) = self.comparator_symbol() {
            if let Some(hint) = hint {
                self.problem(self.span(), format!("`{}` is not of this language", self.source()), hint);
            }
            self.advance();
            let operand = self.operand()?;
            return self.compare_with(name, operand);
        }
        if !self.accept(Token::Dot) {
            if self.token() == Token::End || self.is_junction() || self.token() == Token::Close {
                self.problem(
                    self.since(start),
                    "a value alone is not a condition",
                    "Compare it, as >= 1 or = 'true' or .exists(): an audience's definition says yes or no.",
                );
            } else {
                self.expected("a comparator", "Compare the value, as >= 1, = 'true' or .exists().");
            }
            return None;
        }
        let name = self.chained(names::COMPARATORS, "a comparator")?;
        self.call(name)
    }

    /// The name of the comparator that an operator stands for, and a hint if it is one of another language.
    fn comparator_symbol(&self) -> Option<(&'static str, Option<&'static str>)> {
        Some(match self.token() {
            Token::Equal => ("equals", None),
            Token::NotEqual => ("differs", None),
            Token::Angles => ("differs", Some("Write !=.")),
            Token::Greater => ("greater_than", None),
            Token::GreaterEqual => ("at_least", None),
            Token::Less => ("less_than", None),
            Token::LessEqual => ("at_most", None),
            _ => return None,
        })
    }

    /// Reads the name after a dot, which must be one of `allowed`; says which one was meant.
    pub(super) fn chained<'n>(&mut self, allowed: &'n [&'n str], what: &str) -> Option<&'n str> {
        if self.token() != Token::Word {
            self.expected(what, format!("One of: {}.", allowed.join(", ")));
            return None;
        }
        let word = names::current(self.source());
        if let Some(name) = allowed.iter().find(|name| **name == word) {
            self.advance();
            return Some(name);
        }
        if let Some(name) = allowed.iter().find(|name| name.eq_ignore_ascii_case(word)) {
            self.problem(self.span(), format!("`{word}` is not in lower case"), format!("Write {name}."));
            self.advance();
            return Some(name);
        }
        let on_stream = allowed != names::COMPARATORS;
        let (message, help) = if !on_stream && (names::FILTERS.contains(&word) || names::REDUCERS.contains(&word)) {
            (
                format!("`{word}` reads a stream of events, and this is one value"),
                format!("A value is followed by a comparator: {}.", names::COMPARATORS.join(", ")),
            )
        } else if on_stream && names::COMPARATORS.contains(&word) {
            (
                format!("`{word}` compares one value, and this is a stream of events"),
                "Reduce the events first, as .count() >= 1.".to_owned(),
            )
        } else {
            let help = match names::nearest(word, allowed.iter().copied()) {
                Some(name) => format!("Did you mean `{name}`?"),
                None => format!("Known here: {}.", allowed.join(", ")),
            };
            (format!("unknown function `{word}`"), help)
        };
        self.problem(self.span(), message, help);
        None
    }
}
