//! Which tokens is a trigger made of?

use std::ops::Range;

use crate::{error::Problem, js::Number};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name, escapes resolved. `plain` says that it had none, so that it may be a keyword.
    Word {
        text: String,
        plain: bool,
    },
    Text(String),
    Number(serde_json::Number),
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`
    Op(super::Op),
    Not,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    Dot,
    End,
}

pub struct Lexed {
    pub tokens: Vec<(Token, Range<usize>)>,
    pub problems: Vec<Problem>,
}

/// Splits the whole text; what is no token is a problem, and skipped.
pub fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer { text, at: 0, problems: Vec::new() };
    let mut tokens: Vec<(Token, Range<usize>)> = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let after_dot = matches!(tokens.last(), Some((Token::Dot, _)));
        match lexer.token(after_dot) {
            Some(Token::End) => {
                tokens.push((Token::End, start..start));
                return Lexed { tokens, problems: lexer.problems };
            }
            Some(token) => tokens.push((token, start..lexer.at)),
            None => {}
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    problems: Vec<Problem>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, expected: char) -> bool {
        let eaten = self.peek() == Some(expected);
        if eaten {
            self.at += expected.len_utf8();
        }
        eaten
    }

    /// The next token; `None` if there was a problem instead.
    fn token(&mut self, after_dot: bool) -> Option<Token> {
        use super::Op::*;
        let Some(first) = self.peek() else { return Some(Token::End) };
        let start = self.at;
        if first == '\\' || is_word_start(first) || (after_dot && first.is_ascii_digit()) {
            return Some(self.word());
        }
        if first.is_ascii_digit() || matches!(first, '-' | '+') {
            return self.number();
        }
        self.at += first.len_utf8();
        Some(match first {
            '"' | '\'' => return self.quoted(first),
            '=' => Token::Op(Equal),
            '!' if self.eat('=') => Token::Op(NotEqual),
            '!' => Token::Not,
            '<' if self.eat('=') => Token::Op(AtMost),
            '<' => Token::Op(Less),
            '>' if self.eat('=') => Token::Op(AtLeast),
            '>' => Token::Op(Greater),
            '(' => Token::Open,
            ')' => Token::Close,
            '[' => Token::OpenList,
            ']' => Token::CloseList,
            ',' => Token::Comma,
            '.' => Token::Dot,
            '$' if self.rest().starts_with('.') => Token::Word { text: "$".into(), plain: true },
            other => {
                let help = if other.is_alphanumeric() {
                    "Outside quotes, write a backslash before every character that is not a letter a to z, a digit, - or _."
                } else {
                    "Join conditions with and, or, and parentheses; put texts in quotes."
                };
                return self.problem(format!("'{other}' means nothing here"), start, help);
            }
        })
    }

    fn word(&mut self) -> Token {
        let (mut text, mut plain) = (String::new(), true);
        while let Some(char) = self.peek() {
            if char == '\\' {
                plain = false;
                self.at += 1;
                match self.peek() {
                    Some(escaped) => {
                        text.push(escaped);
                        self.at += escaped.len_utf8();
                    }
                    None => {
                        self.problem::<()>(
                            "the text ends after a backslash",
                            self.at - 1,
                            "Name the character that it escapes.",
                        );
                    }
                }
            } else if is_word(char) {
                text.push(char);
                self.at += 1;
            } else {
                break;
            }
        }
        Token::Word { text, plain }
    }

    fn number(&mut self) -> Option<Token> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let sign = usize::from(matches!(bytes[start], b'-' | b'+'));
        let mut end = digits(start + sign);
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let exponent = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
            if digits(exponent) > exponent {
                end = digits(exponent);
            }
        }
        self.at = end.max(start + 1);
        let number = &self.text[start..self.at];
        let more = self.peek().filter(|next| is_word(*next) || *next == '.');
        if number.ends_with('.') || more.is_some() || !number.ends_with(|last: char| last.is_ascii_digit()) {
            while self.peek().is_some_and(|next| is_word(next) || next == '.') {
                self.at += 1;
            }
            let message = format!("{} is not a number", &self.text[start..self.at]);
            return self.problem(message, start, "Numbers look like 42, -1.5 or 1e6; put anything else in quotes.");
        }
        match Number::of_text(number) {
            Some(number) => Some(Token::Number(number)),
            None => {
                let message = format!("{number} is too large for a number");
                self.problem(message, start, "Numbers are whole ones of 64 bits, or doubles.")
            }
        }
    }

    /// After the opening quote. A backslash before a quote of the same kind keeps the text open, if another such quote
    /// follows; any other backslash is itself, as in the peer.
    fn quoted(&mut self, quote: char) -> Option<Token> {
        let start = self.at - 1;
        let mut text = String::new();
        while let Some(char) = self.peek() {
            self.at += char.len_utf8();
            if char == quote {
                return Some(Token::Text(text));
            }
            if char == '\\' && self.peek() == Some(quote) && self.text[self.at + 1..].contains(quote) {
                text.push(quote);
                self.at += 1;
            } else {
                text.push(char);
            }
        }
        self.problem("the quote is not closed", start, "Close the text with the quote that opens it.")
    }

    fn problem<T>(&mut self, message: impl Into<String>, start: usize, help: &str) -> Option<T> {
        self.problems.push(Problem { message: message.into(), span: start..self.at, help: Some(help.into()) });
        None
    }
}

fn is_word_start(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_'
}

pub fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-')
}

/// A token as an error names it.
pub fn said(token: &Token) -> String {
    match token {
        Token::Word { text, .. } => text.clone(),
        Token::Text(text) => format!("the text \"{text}\""),
        Token::Number(number) => format!("the number {number}"),
        Token::Op(op) => op.to_string(),
        Token::Not => "!".into(),
        Token::Open => "(".into(),
        Token::Close => ")".into(),
        Token::OpenList => "[".into(),
        Token::CloseList => "]".into(),
        Token::Comma => "a comma".into(),
        Token::Dot => "a dot".into(),
        Token::End => "the end".into(),
    }
}
