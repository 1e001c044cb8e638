//! What is a value while a template is rendered? JavaScript's numbers and texts, Liquid's truth.

use std::borrow::Cow;

use crate::js::{self, Json, Number};

/// A value while rendering.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Json(Json<'a>),
    /// A number that was computed; may be infinite or not a number.
    Number(f64),
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Value::Json(Json::Text(text.into()))
    }

    pub fn nothing() -> Self {
        Value::Json(Json::Undefined)
    }

    /// Liquid's truth: only false, null and nothing are false.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Json(value) => !matches!(value.view(), Json::Undefined | Json::Null | Json::Bool(false)),
            Value::Number(_) => true,
        }
    }

    /// As output: null is empty, an array is its entries one after the other.
    pub fn to_text(&self) -> String {
        fn write(value: &Json<'_>, out: &mut String) {
            match value.view() {
                Json::Undefined | Json::Null => {}
                Json::Array(items) => items.iter().for_each(|item| write(item, out)),
                other => js::write_string(other, out),
            }
        }
        match self {
            Value::Json(value) => {
                let mut out = String::new();
                write(value, &mut out);
                out
            }
            Value::Number(number) => ryu_js::Buffer::new().format(*number).to_owned(),
        }
    }

    /// `Number(value)`, and 0 for what is no number.
    pub fn to_number(&self) -> f64 {
        self.as_number().unwrap_or(0.0)
    }

    /// `Number(value)`; `None` is NaN.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number).filter(|number| !number.is_nan()),
            Value::Json(value) => match value.view() {
                Json::Number(number) => number.as_f64(),
                Json::Text(text) => js::number(text),
                Json::Bool(bool) => Some(f64::from(u8::from(*bool))),
                Json::Null => Some(0.0),
                array @ Json::Array(_) => js::number(&js::string(array)),
                _ => None,
            },
        }
    }

    /// As JSON again; a number that JSON cannot hold becomes null.
    pub fn into_json(self) -> Json<'a> {
        match self {
            Value::Json(value) => value,
            Value::Number(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        }
    }

    pub fn as_json(&self) -> Option<&Json<'a>> {
        match self {
            Value::Json(value) => Some(value.view()),
            Value::Number(_) => None,
        }
    }
}
