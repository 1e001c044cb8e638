//! Does a condition hold for an event? The peer's comparisons, on its texts and numbers.

use std::{borrow::Cow, cmp::Ordering};

use super::{Call, Expr, Op, Operand, Root};
use crate::{
    js::{self, Json, Number},
    mapping::Event,
};

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
        Operand::Number(number) => Json::Number(Number::Read(number.clone())),
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
        _ if matches!(right, Operand::Bool(_)) && is_text_field(left, &Operand::Number(0.into())) => false,
        _ => {
            let left = value(left, event);
            let Json::Number(left) = left.view() else { return false };
            let Some(order) = bound(right, event).and_then(|right| left.compare(&right)) else { return false };
            match op {
                Op::Less => order.is_lt(),
                Op::AtMost => order.is_le(),
                Op::Greater => order.is_gt(),
                _ => order.is_ge(),
            }
        }
    }
}

/// The number to compare with: `Number(value)` of what stands on the right; null and words are none.
fn bound(operand: &Operand, event: &Event<'_>) -> Option<Number<'static>> {
    match value(operand, event).view() {
        Json::Number(number) => Some(number.clone().into_owned()),
        Json::Text(text) => match text.parse::<i64>() {
            Ok(whole) => Some(Number::Read(whole.into())),
            Err(_) => Number::from_f64(js::number(text)?),
        },
        Json::Bool(bool) => Some(usize::from(*bool).into()),
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
        (Json::Number(left), Json::Number(right)) => left.compare(right).is_some_and(Ordering::is_eq),
        (Json::Bool(left), Json::Bool(right)) => left == right,
        (Json::Null, Json::Null) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Trigger;
    use crate::mapping::Event;

    fn matches(trigger: &str, event: &str) -> bool {
        let trigger = Trigger::parse(trigger).unwrap_or_else(|problems| panic!("{trigger}: {problems:?}"));
        trigger.matches(&Event::parse(event).expect("an event"))
    }

    #[test]
    fn whole_numbers_that_doubles_take_for_equal_are_told_apart() {
        let event = |id: &str| format!(r#"{{"type":"track","userId":"{id}","properties":{{"id":{id}}}}}"#);
        for (id, next) in [
            ("1470944601309528072", "1470944601309528073"),
            ("9007199254740992", "9007199254740993"),
            ("-9007199254740992", "-9007199254740993"),
            ("18446744073709551614", "18446744073709551615"),
        ] {
            assert!(matches(&format!("properties.id = {id}"), &event(id)));
            assert!(!matches(&format!("properties.id = {id}"), &event(next)), "{id}");
            assert!(matches(&format!("properties.id != {id}"), &event(next)), "{id}");
            assert!(matches(&format!("properties.id in [1, {id}]"), &event(id)));
            assert!(!matches(&format!("properties.id in [1, {id}]"), &event(next)), "{id}");
            assert!(!matches(&format!("userId = {id}"), &event(next)), "{id}");
            let above = if id.starts_with('-') { "<" } else { ">" };
            assert!(matches(&format!("properties.id {above} {id}"), &event(next)), "{id}");
            assert!(!matches(&format!("properties.id {above} {next}"), &event(next)), "{id}");
        }
        assert!(matches("properties.id = 1e3", r#"{"properties":{"id":1000.0}}"#));
        assert!(matches("properties.id > 0.5", &event("9007199254740993")));
    }
}
