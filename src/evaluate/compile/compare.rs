//! When does a comparison hold? Comparators over values, as SQL that is never null.

use super::{
    Compiler, Scope, instant_text,
    value::{Sql, Unfolded, text},
};
use crate::{
    Result,
    audience::{
        ast::{Comparator, Comparison, Literal, Operand, Reducer, Scalar},
        value::{number_of, plain},
    },
    evaluate::threshold::Threshold,
};

/// The right side, by what is known of it.
enum Right {
    /// `numeric`, with the denominator of an average.
    Number(String, Option<String>),
    Text(String),
    /// A text of the definition itself.
    Literal(String),
    Instant(String),
    /// A trait or property: a number if it is a JSON number, else text.
    Json(String),
}

impl Compiler<'_> {
    /// One comparison; never null.
    pub(super) fn comparison(&mut self, comparison: &Comparison, scope: &Scope) -> Result<String> {
        let Comparison { left, comparator } = comparison;
        if let Scalar::Reduce(stream, reducer) = left {
            let threshold = Threshold::of(comparator, 0)
                .filter(|threshold| *reducer == Reducer::Count && threshold.is_constant_from(1));
            if let Some(threshold) = threshold {
                return self.occurs(stream, scope, (threshold.passes(0), threshold.passes(1)));
            }
            return self
                .reduced(stream, reducer, scope, &mut |compiler, value| compiler.holds(&value, comparator, scope));
        }
        match self.read(left, scope)? {
            Ok(value) => self.holds(&value, comparator, scope),
            Err(unfolded) => self.any(&unfolded, comparator, scope),
        }
    }

    /// A path with `$`: some entry satisfies the comparator; the negative comparators negate their positive form.
    fn any(&mut self, unfolded: &Unfolded, comparator: &Comparator, scope: &Scope) -> Result<String> {
        let one = Sql::Json(unfolded.value.clone());
        let from = unfolded.from.join(", ");
        let mut some = |comparator: &Comparator| -> Result<String> {
            Ok(format!("exists (select from {from} where {})", self.holds(&one, comparator, scope)?))
        };
        Ok(match comparator {
            Comparator::Absent => format!("not {}", some(&Comparator::Exists)?),
            Comparator::Omits(operand) => {
                let positive = some(&Comparator::Contains(vec![operand.clone()]))?;
                self.unless(positive, std::slice::from_ref(operand), scope)?
            }
            Comparator::NoneOf(operands) => {
                let positive = some(&Comparator::OneOf(operands.clone()))?;
                self.unless(positive, operands, scope)?
            }
            comparator => some(comparator)?,
        })
    }

    /// `not positive`, but false where a right side is missing.
    fn unless(&mut self, positive: String, operands: &[Operand], scope: &Scope) -> Result<String> {
        let mut terms = vec![format!("not {positive}")];
        for operand in operands {
            if let Operand::Scalar(_) = operand {
                terms.push(self.right(operand, scope, &mut |_, right| Ok(right.exists()))?);
            }
        }
        Ok(format!("({})", terms.join(" and ")))
    }

    /// `left` against a comparator; never null.
    pub(super) fn holds(&mut self, left: &Sql, comparator: &Comparator, scope: &Scope) -> Result<String> {
        use Comparator::*;
        let holds = match comparator {
            Exists => return Ok(left.exists()),
            Absent => return Ok(format!("not {}", left.exists())),
            Omits(operand) => {
                let positive = self.holds(left, &Contains(vec![operand.clone()]), scope)?;
                return self.unless(positive, std::slice::from_ref(operand), scope);
            }
            NoneOf(operands) => {
                let positive = self.holds(left, &OneOf(operands.clone()), scope)?;
                return self.unless(positive, operands, scope);
            }
            Differs(operand) => {
                return self.right(operand, scope, &mut |compiler, right| {
                    let known =
                        if matches!(operand, Operand::Scalar(_)) { right.exists() + " and " } else { String::new() };
                    let equal = compiler.compared(left, "=", right);
                    Ok(format!("({} and {known}not coalesce({equal}, false))", left.exists()))
                });
            }
            OneOf(operands) => {
                let terms = operands
                    .iter()
                    .map(|operand| self.holds(left, &Equals(operand.clone()), scope))
                    .collect::<Result<Vec<_>>>()?;
                return Ok(format!("({})", terms.join(" or ")));
            }
            Contains(operands) => {
                let terms = operands
                    .iter()
                    .map(|operand| {
                        self.textual(left, operand, scope, |left, right| format!("position({right} in {left}) > 0"))
                    })
                    .collect::<Result<Vec<_>>>()?;
                terms.join(" or ")
            }
            StartsWith(operand) => {
                self.textual(left, operand, scope, |left, right| format!("starts_with({left}, {right})"))?
            }
            EndsWith(operand) => {
                self.textual(left, operand, scope, |left, right| format!("right({left}, length({right})) = {right}"))?
            }
            Equals(operand) => self.ordered(left, "=", operand, scope)?,
            GreaterThan(operand) => self.ordered(left, ">", operand, scope)?,
            AtLeast(operand) => self.ordered(left, ">=", operand, scope)?,
            LessThan(operand) => self.ordered(left, "<", operand, scope)?,
            AtMost(operand) => self.ordered(left, "<=", operand, scope)?,
            BeforeDate(operand) => self.dated(left, "<", operand, scope)?,
            AfterDate(operand) => self.dated(left, ">", operand, scope)?,
            WithinLast(span) => self.between(left, (*span, -1), true),
            WithinNext(span) => self.between(left, (*span, 1), true),
            BeforeLast(span) => self.between(left, (*span, -1), false),
            AfterNext(span) => self.between(left, (*span, 1), false),
        };
        Ok(format!("coalesce({holds}, false)"))
    }

    fn ordered(&mut self, left: &Sql, operator: &str, operand: &Operand, scope: &Scope) -> Result<String> {
        self.right(operand, scope, &mut |compiler, right| Ok(compiler.compared(left, operator, right)))
    }

    /// `left operator right`, by the type of the right side.
    fn compared(&mut self, left: &Sql, operator: &str, right: Right) -> String {
        match right {
            Right::Literal(text) => match left {
                Sql::Json(json) if operator == "=" => self.contained(json, &text),
                left => {
                    let text = self.constant(text, "text");
                    self.compared(left, operator, Right::Text(text))
                }
            },
            Right::Number(value, denominator) => {
                entries(left, operator, |left| by_number(left, operator, &value, denominator.as_deref()))
            }
            Right::Text(value) => entries(left, operator, |left| by_text(left, operator, &value)),
            Right::Instant(value) => entries(left, operator, |left| match left.instant() {
                Some(left) => format!("{left} {operator} {value}"),
                None => "false".into(),
            }),
            Right::Json(json) => {
                let as_number = format!("({json})::numeric");
                let as_text = format!("({json} #>> '{{}}')");
                let by_number = entries(left, operator, |left| by_number(left, operator, &as_number, None));
                let by_text = entries(left, operator, |left| by_text(left, operator, &as_text));
                format!(
                    "case jsonb_typeof({json}) when 'number' then {by_number} when 'string' then {by_text} when 'boolean' then {by_text} end"
                )
            }
        }
    }

    /// Whether a value, or an entry of an array, has this text. `@>` looks at both at once, and several times faster than
    /// one could by hand. A number has a text if it is that number and the text is the number's own; so with booleans.
    fn contained(&mut self, json: &str, text: &str) -> String {
        let spelt = match text {
            "true" | "false" => Some(text.to_owned()),
            text => number_of(text).map(|number| plain(&number)).filter(|plain| plain == text),
        };
        // `finish` refuses U+0000, which must not hide behind an escape.
        let quoted = if text.contains('\0') { text.to_owned() } else { serde_json::Value::from(text).to_string() };
        let jsons = std::iter::once(quoted).chain(spelt);
        let terms: Vec<_> = jsons.map(|value| format!("{json} @> {}", self.constant(value, "jsonb"))).collect();
        if terms.len() > 1 { format!("({})", terms.join(" or ")) } else { terms.concat() }
    }

    fn textual(
        &mut self,
        left: &Sql,
        operand: &Operand,
        scope: &Scope,
        holds: impl Fn(&str, &str) -> String,
    ) -> Result<String> {
        self.right(operand, scope, &mut |compiler, right| {
            let right = match right {
                Right::Literal(text) => compiler.constant(text, "text"),
                Right::Number(value, None) => format!("trim_scale({value})::text"),
                Right::Number(sum, Some(count)) => Sql::Average { sum, count }.text(),
                Right::Text(text) => text,
                Right::Instant(instant) => format!("rollcall_instant_text({instant})"),
                Right::Json(json) => text(&json),
            };
            Ok(entries(left, "=", |left| holds(&left.text(), &right)))
        })
    }

    fn dated(&mut self, left: &Sql, operator: &str, operand: &Operand, scope: &Scope) -> Result<String> {
        let Some(left) = left.instant() else { return Ok("false".into()) };
        self.right(operand, scope, &mut |compiler, right| {
            let right = match right {
                Right::Literal(text) => Sql::Text(compiler.constant(text, "text")).instant(),
                Right::Number(..) => None,
                Right::Text(text) => Sql::Text(text).instant(),
                Right::Instant(instant) => Some(instant),
                Right::Json(json) => Sql::Json(json).instant(),
            };
            Ok(right.map_or("false".into(), |right| format!("{left} {operator} {right}")))
        })
    }

    /// Between `t` and `t` shifted, or (if not `inside`) past the shifted instant.
    fn between(&mut self, left: &Sql, (span, sign): (crate::audience::ast::Span, i32), inside: bool) -> String {
        let Some(left) = left.instant() else { return "false".into() };
        let (t, edge) = (instant_text(self.t), self.shifted(span, sign));
        let (t, edge) = (self.constant(t, "timestamptz"), self.constant(edge, "timestamptz"));
        match (inside, sign < 0) {
            (true, true) => format!("{left} between {edge} and {t}"),
            (true, false) => format!("{left} between {t} and {edge}"),
            (false, true) => format!("{left} <= {edge}"),
            (false, false) => format!("{left} >= {edge}"),
        }
    }

    /// Hands the right side's SQL to `then`, within a subquery where it is a reducer or has several values.
    fn right(
        &mut self,
        operand: &Operand,
        scope: &Scope,
        then: &mut dyn FnMut(&mut Self, Right) -> Result<String>,
    ) -> Result<String> {
        let scalar = match operand {
            Operand::Literal(literal) => {
                let right = match literal {
                    Literal::Number(value) => Right::Number(self.constant(plain(value), "numeric"), None),
                    Literal::Text(value) => Right::Literal(value.clone()),
                    Literal::Instant(value) => Right::Instant(self.constant(instant_text(*value), "timestamptz")),
                };
                return then(self, right);
            }
            Operand::Scalar(scalar) => scalar,
        };
        if let Scalar::Reduce(stream, reducer) = scalar {
            return self.reduced(stream, reducer, scope, &mut |compiler, value| then(compiler, value.into()));
        }
        match self.read(scalar, scope)? {
            Ok(value) => then(self, value.into()),
            Err(unfolded) => {
                let holds = then(self, Right::Json(unfolded.value.clone()))?;
                Ok(format!("exists (select from {} where {holds})", unfolded.from.join(", ")))
            }
        }
    }
}

impl From<Sql> for Right {
    fn from(value: Sql) -> Right {
        match value {
            Sql::Json(json) => Right::Json(json),
            Sql::Number(number) => Right::Number(number, None),
            Sql::Average { sum, count } => Right::Number(sum, Some(count)),
            Sql::Text(text) => Right::Text(text),
            Sql::Instant(instant) => Right::Instant(instant),
        }
    }
}

impl Right {
    /// Whether there is a scalar to compare with; never null.
    fn exists(&self) -> String {
        match self {
            Right::Json(json) => format!("coalesce(jsonb_typeof({json}) in ('string', 'number', 'boolean'), false)"),
            Right::Number(value, _) | Right::Text(value) | Right::Instant(value) => format!("{value} is not null"),
            Right::Literal(_) => "true".into(),
        }
    }
}

/// `holds` for the value itself, or for a scalar entry of it where it is an array and the comparator looks at entries.
fn entries(left: &Sql, operator: &str, holds: impl Fn(&Sql) -> String) -> String {
    match left {
        Sql::Json(json) if operator == "=" => format!(
            "case jsonb_typeof({json}) when 'array' then exists (select from jsonb_array_elements({json}) as a(entry) where {}) else {} end",
            holds(&Sql::Json("a.entry".into())),
            holds(left)
        ),
        left => holds(left),
    }
}

fn by_number(left: &Sql, operator: &str, right: &str, denominator: Option<&str>) -> String {
    let Some((left, count)) = left.number() else { return "false".into() };
    // A number of the store may be so large that a product of it overflows, which would be an error.
    let product = |value: &str, factor: Option<&str>| match factor {
        Some(factor) => format!("case when abs({value}) < {LARGE} then ({value}) * {factor} end"),
        None => value.to_owned(),
    };
    format!("{} {operator} {}", product(&left, denominator), product(right, count))
}

/// Beyond this a number takes no part in arithmetic; Postgres computes up to 10^131072.
pub(super) const LARGE: &str = "1e1100";

fn by_text(left: &Sql, operator: &str, right: &str) -> String {
    format!("{} {operator} {right} collate \"C\"", left.text())
}
