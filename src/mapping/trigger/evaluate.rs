//! Does a condition hold for an event? The peer's comparisons, on its texts and numbers.

use std::borrow::Cow;

use super::{Call, Expr, Op, Operand, Root};
use crate::mapping::{Event, Json, Number, js};

pub fn holds(expr: &Expr, event: &Event<'_>) -> bool {
    match expr {
        Expr::Or(terms) => terms.iter().any(|term| holds(term, event)),
        Expr::And(terms) => terms.iter().all(|term| holds(term, event)),
        Expr::Not(inner) => match &**inner {
            // `!contains(x, …)` is "a text without it": what is no text does not match either way.
            Expr::Holds(call) if call.function.is_test_of_text() => {
                value(&call.arguments[0], event).as_str().is_some() && !test(call, event)
            }
            inner => !holds(inner, event),
        },
        Expr::Holds(call) => test(call, event),
        Expr::Compare(left, op, right) => compare(left, *op, right, event),
        Expr::In(left, list) => list.iter().any(|item| match item {
            Operand::Field(field) => match event.get(&field.path).view() {
                Json::Array(items) => items.iter().any(|item| same(&value(left, event), item)),
                _ => false,
            },
            item => compare(left, Op::Equal, item, event),
        }),
    }
}

fn test(call: &Call, event: &Event<'_>) -> bool {
    matches!(answer(call, event), Json::Bool(true))
}

fn answer<'v>(call: &'v Call, event: &'v Event<'_>) -> Json<'v> {
    let second = call.arguments.get(1).map_or(Json::Undefined, |argument| value(argument, event));
    match call.arguments.first() {
        Some(first) => call.function.call(&value(first, event), &second),
        None => Json::Undefined,
    }
}

fn value<'v>(operand: &'v Operand, event: &'v Event<'_>) -> Json<'v> {
    match operand {
        Operand::Field(field) => event.get(&field.path),
        Operand::Call(call) => answer(call, event),
        Operand::Text(text) => Json::text(text),
        Operand::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Operand::Bool(bool) => Json::Bool(*bool),
        Operand::Null => Json::Null,
    }
}

fn compare(left: &Operand, op: Op, right: &Operand, event: &Event<'_>) -> bool {
    let indexed = |operand: &Operand| matches!(operand, Operand::Field(field) if field.indexed);
    if indexed(left) || indexed(right) {
        return false;
    }
    match op {
        Op::Equal => equal(left, right, event),
        Op::NotEqual => differ(left, right, event),
        // A text field is compared with the text of a boolean, which is no number.
        _ if matches!(right, Operand::Bool(_)) && is_text_field(left, &Operand::Number(0.0)) => false,
        _ => {
            let left = value(left, event);
            let Json::Number(left) = left.view() else { return false };
            let (Some(left), Some(right)) = (left.as_f64(), bound(right, event)) else { return false };
            match op {
                Op::Less => left < right,
                Op::AtMost => left <= right,
                Op::Greater => left > right,
                _ => left >= right,
            }
        }
    }
}

/// The number to compare with: `Number(value)` of what stands on the right; null and words are none.
fn bound(operand: &Operand, event: &Event<'_>) -> Option<f64> {
    match value(operand, event).view() {
        Json::Number(number) => number.as_f64(),
        Json::Text(text) => js::number(text),
        Json::Bool(bool) => Some(f64::from(u8::from(*bool))),
        _ => None,
    }
}

fn equal(left: &Operand, right: &Operand, event: &Event<'_>) -> bool {
    let actual = value(left, event);
    match right {
        Operand::Null => actual.is_absent(),
        Operand::Text(text) => actual.as_str() == Some(text),
        Operand::Number(_) | Operand::Bool(_) if is_text_field(left, right) => {
            actual.as_str().is_some_and(|text| text == js::string(&value(right, event)))
        }
        _ => same(&actual, &value(right, event)),
    }
}

fn differ(left: &Operand, right: &Operand, event: &Event<'_>) -> bool {
    let actual = value(left, event);
    match (left, right) {
        (_, Operand::Null) => !actual.is_absent(),
        // The peer compares a field with the text of a boolean here, so that `!= true` also passes true itself.
        (Operand::Field(_), Operand::Bool(bool)) => actual.as_str() != Some(if *bool { "true" } else { "false" }),
        (_, Operand::Number(_)) if is_text_field(left, right) => {
            actual.as_str().is_none_or(|text| text != js::string(&value(right, event)))
        }
        // What is no number neither equals a number nor differs from it.
        (Operand::Field(_), Operand::Number(_)) => {
            matches!(actual.view(), Json::Number(_)) && !same(&actual, &value(right, event))
        }
        _ => !same(&actual, &value(right, event)),
    }
}

/// `type`, `event` and `name` are texts, and so is `userId` before a number: the other side is compared as its text.
fn is_text_field(left: &Operand, right: &Operand) -> bool {
    match left {
        Operand::Field(field) => match field.root {
            Root::Type | Root::Event | Root::Name => true,
            Root::UserId => matches!(right, Operand::Number(_)),
            _ => false,
        },
        _ => false,
    }
}

/// JavaScript's `===` on scalars; objects and arrays equal nothing.
fn same(left: &Json<'_>, right: &Json<'_>) -> bool {
    match (left.view(), right.view()) {
        (Json::Text(left), Json::Text(right)) => Cow::eq(left, right),
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        (Json::Bool(left), Json::Bool(right)) => left == right,
        (Json::Null, Json::Null) => true,
        _ => false,
    }
}
