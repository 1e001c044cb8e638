//! What is a statement that a person wrote, and which id does a column of it hold? Pure.

/// A statement without what may follow it: semicolons, spaces and comments. In parentheses, and prepared, it is one statement, whatever
/// stands in it. What stands between quotes is left alone, and so is a comment that does not end, of which Postgres tells.
pub fn one(text: &str) -> &str {
    let text = text.trim();
    let (mut at, mut end) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match comment(rest) {
            Some(length) => at += length,
            None if rest.starts_with("/*") => return text,
            None if rest.starts_with(|c: char| c == ';' || c.is_whitespace()) => {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
            None => {
                let before = text[..at].chars().next_back();
                at += token(rest, before.is_some_and(is_of_name));
                end = at;
            }
        }
    }
    &text[..end]
}

/// The length of the comment that `rest` begins with; none if there is none, or it does not end.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("--") {
        return Some(rest.find(['\n', '\r']).unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    // They nest.
    let (mut depth, mut at) = (0, 0);
    loop {
        let (next, opens) = match (rest[at..].find("/*"), rest[at..].find("*/")) {
            (Some(open), Some(close)) if open < close => (open, true),
            (_, Some(close)) => (close, false),
            (_, None) => return None,
        };
        at += next + 2;
        depth = if opens { depth + 1 } else { depth - 1 };
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The length of what is quoted, to the end of the text where nothing ends it; or of one character. `within_name`: a letter or a dollar here only goes on with a name.
fn token(rest: &str, within_name: bool) -> usize {
    let first = rest.chars().next().unwrap_or(' ');
    match first {
        '\'' | '"' => until(rest, 1, first, false),
        'e' | 'E' if !within_name && rest[1..].starts_with('\'') => until(rest, 2, '\'', true),
        '$' if !within_name => dollars(rest).unwrap_or(1),
        _ => first.len_utf8(),
    }
}

/// Where what is quoted ends; a doubled quote begins the next one, but among escapes, where it stands for one.
fn until(rest: &str, from: usize, quote: char, escapes: bool) -> usize {
    let mut chars = rest[from..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if escapes => drop(chars.next()),
            c if c == quote && chars.next_if(|(_, next)| escapes && *next == quote).is_none() => {
                return from + at + 1;
            }
            _ => {}
        }
    }
    rest.len()
}

/// The length of `$tag$ … $tag$`; none if this is no tag.
fn dollars(rest: &str) -> Option<usize> {
    let tag = rest[1..].find(|c| !is_of_name(c) || c == '$')? + 2;
    let opens = rest.get(..tag).filter(|opens| opens.ends_with('$'))?;
    // `$1` is a parameter.
    if opens[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(rest[tag..].find(opens).map_or(rest.len(), |close| tag + close + tag))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The SQL for the id in `column`, whose type Postgres calls `kind`: that of a whole number is its digits, as in messages.
pub fn id(column: &str, kind: &str) -> String {
    match kind {
        "numeric" => format!("case when {column} = trunc({column}) then trunc({column}) else {column} end::text"),
        _ => format!("{column}::text"),
    }
}

/// The name that two columns have, and where these stand, counted from 1.
pub fn twice<'n>(names: &[&'n str]) -> Option<(&'n str, usize, usize)> {
    let pairs = names.iter().enumerate();
    let mut equal = pairs.filter_map(|(at, name)| {
        let first = names[..at].iter().position(|other| other == name)?;
        Some((*name, first + 1, at + 1))
    });
    equal.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_statement_is_no_part_of_it() {
        for follows in [
            "",
            ";",
            " ; ",
            ";;\n;",
            "; -- note",
            "-- note",
            ";-- note\n-- more\r\n",
            "/* note */;",
            "; /* a /* b */ c */ -- d",
            "\r--;\r;",
        ] {
            for statement in [
                "select 1",
                "select ';' || '--' || '/*'",
                "select '--'",
                "select 'it''s -- no comment;'",
                r"select E'it\'s -- no comment;'",
                r"select e'''; -- no comment'",
                "select $$ ; -- no comment $$",
                "select $tag$ $$ ; -- no comment $tag$",
                "select \"-- no comment;\" from t",
                "select 1 -- one\n from t",
                "select a$b from t where c = $1",
                "select 'é' as é",
            ] {
                assert_eq!(one(&format!(" {statement}{follows}")), statement);
            }
        }
    }

    #[test]
    fn what_does_not_end_or_stands_before_more_is_left_for_postgres_to_refuse() {
        for text in ["select 1; select 2", "select 'a; --", "select 1 /* a; /* b */", "select $a$ ; --", "select 1; /*"]
        {
            assert_eq!(one(text), text.trim_end_matches([' ', ';']));
        }
        for nothing in ["", " ;", "-- note", "/* note */ ; -- more"] {
            assert_eq!(one(nothing), "");
        }
    }

    #[test]
    fn equal_names_are_found_with_their_places() {
        assert_eq!(twice(&["a", "b", "a", "b"]), Some(("a", 1, 3)));
        assert_eq!(twice(&["a", "A"]), None);
    }
}
