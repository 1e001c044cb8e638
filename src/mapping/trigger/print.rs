//! How is a trigger written? Canonical FQL, which parses to the same trigger.

use std::fmt::{self, Display, Formatter};

use super::{Call, Expr, Field, Op, Operand, Trigger, lex};
use crate::js;

impl Display for Trigger {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Or(terms) => join(f, terms, " or ", |term| matches!(term, Expr::Or(_))),
            Expr::And(terms) => join(f, terms, " and ", |term| matches!(term, Expr::Or(_) | Expr::And(_))),
            Expr::Not(inner) => match &**inner {
                Expr::Holds(call) => write!(f, "!{call}"),
                inner => write!(f, "!({inner})"),
            },
            Expr::Compare(left, op, right) => write!(f, "{left} {op} {right}"),
            Expr::In(left, list) => match list.as_slice() {
                [field @ Operand::Field(_)] => write!(f, "{left} in {field}"),
                list => {
                    write!(f, "{left} in [")?;
                    comma_separated(f, list)?;
                    f.write_str("]")
                }
            },
            Expr::Holds(call) => call.fmt(f),
        }
    }
}

fn join(f: &mut Formatter<'_>, terms: &[Expr], with: &str, nests: fn(&Expr) -> bool) -> fmt::Result {
    for (at, term) in terms.iter().enumerate() {
        if at > 0 {
            f.write_str(with)?;
        }
        if nests(term) { write!(f, "({term})")? } else { term.fmt(f)? }
    }
    Ok(())
}

fn comma_separated(f: &mut Formatter<'_>, operands: &[Operand]) -> fmt::Result {
    for (at, operand) in operands.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        operand.fmt(f)?;
    }
    Ok(())
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name())?;
        comma_separated(f, &self.arguments)?;
        f.write_str(")")
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::AtMost => "<=",
            Op::Greater => ">",
            Op::AtLeast => ">=",
        })
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Field(field) => field.fmt(f),
            Operand::Call(call) => call.fmt(f),
            Operand::Text(text) => {
                // Without a double quote inside there is nothing to escape; with one, single quotes if they are free.
                let quote = if text.contains('"') && !text.contains('\'') { '\'' } else { '"' };
                let escaped = text.replace(quote, &format!("\\{quote}"));
                write!(f, "{quote}{escaped}{quote}")
            }
            Operand::Number(number) => {
                let mut out = String::new();
                js::write_number(number, &mut out);
                f.write_str(&out)
            }
            Operand::Bool(bool) => bool.fmt(f),
            Operand::Null => f.write_str("null"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.name())?;
        for key in &self.keys {
            f.write_str(".")?;
            // A number without an escape would be an index.
            let escaped = !self.indexed && key.starts_with(|first: char| first.is_ascii_digit());
            for (at, char) in key.chars().enumerate() {
                if lex::is_word(char) && !(escaped && at == 0) { write!(f, "{char}")? } else { write!(f, "\\{char}")? }
            }
        }
        Ok(())
    }
}
