//! What are the words of a definition? Text to tokens with their places. Never fails: what is no token is `Unknown`.

use std::ops::Range;

use logos::Logos;

#[derive(Logos, Debug, Clone, Copy, PartialEq, Eq)]
#[logos(skip r"[ \t\r\n\f\u{a0}]+")]
pub(super) enum Token {
    #[regex(r"[\p{L}_][\p{L}\p{N}_]*")]
    Word,
    #[regex(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)")]
    Number,
    #[regex(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)[eE][+-]?[0-9]+")]
    Exponent,
    #[regex(r"[0-9]+-[0-9]+-[0-9][0-9TtZz:.+-]*")]
    Date,
    #[regex(r"'([^'\\]|\\(?s:.))*'")]
    #[regex(r#""([^"\\]|\\(?s:.))*""#)]
    Text,
    #[regex(r"'([^'\\]|\\(?s:.))*", priority = 1)]
    #[regex(r#""([^"\\]|\\(?s:.))*"#, priority = 1)]
    OpenText,
    /// A string in typographic quotes, as word processors make them.
    #[regex(r#"[‘’“”][^‘’“”'"]*[‘’“”]"#)]
    CurlyText,
    #[regex("[‘’“”]")]
    Curly,
    #[token("(")]
    Open,
    #[token(")")]
    Close,
    #[token("[")]
    OpenBracket,
    #[token("]")]
    CloseBracket,
    #[token("{")]
    OpenBrace,
    #[token("}")]
    CloseBrace,
    #[token(",")]
    Comma,
    #[token(".")]
    Dot,
    #[token(":")]
    Colon,
    #[token("=")]
    #[token("==")]
    Equal,
    #[token("!=")]
    NotEqual,
    #[token("<>")]
    Angles,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEqual,
    #[token("&&")]
    #[token("&")]
    Ampersands,
    #[token("||")]
    #[token("|")]
    Bars,
    #[token("!")]
    Bang,
    Unknown,
    End,
}

/// The tokens of a text, `End` last.
pub(super) fn lex(text: &str) -> Vec<(Token, Range<usize>)> {
    let mut tokens: Vec<_> =
        Token::lexer(text).spanned().map(|(token, span)| (token.unwrap_or(Token::Unknown), span)).collect();
    tokens.push((Token::End, text.len()..text.len()));
    tokens
}

/// The value of a quoted token: `\'`, `\"` and `\\` are escapes; any other backslash stands for itself (`\.` in a path).
pub(super) fn unquote(token: &str) -> String {
    let mut inner = token.chars();
    inner.next();
    inner.next_back();
    let mut value = String::with_capacity(token.len());
    let mut chars = inner.as_str().chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some(&escaped @ ('\'' | '"' | '\\'))) => {
                value.push(escaped);
                chars.next();
            }
            _ => value.push(char),
        }
    }
    value
}
