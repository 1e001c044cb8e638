//! How is a time written? The `date` filter, in UTC, with LiquidJS's strftime.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};

use super::render::Value;
use crate::mapping::{json::Json, plan::Fault};

/// The time in the given form; what is no time stays as it is. `now` is refused: a mapping must give the same record again.
pub fn format<'a>(value: Value<'a>, form: Option<&str>) -> Result<Value<'a>, Fault> {
    let text = value.to_text();
    if matches!(text.as_str(), "now" | "today") {
        return Err(
            "the time of rendering cannot be used, because the same event must give the same record again".into()
        );
    }
    let Some(instant) = read(&value, &text) else { return Ok(value) };
    Ok(Value::text(write(instant, form.unwrap_or("%A, %B %-e, %Y at %-l:%M %P %z"))))
}

/// Numbers are seconds since 1970, texts what JavaScript's `Date` commonly reads, in UTC unless they say otherwise.
fn read(value: &Value<'_>, text: &str) -> Option<DateTime<Utc>> {
    let is_number = matches!(value, Value::Number(_)) || matches!(value.as_json(), Some(Json::Number(_)));
    if is_number || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())) {
        return DateTime::from_timestamp_millis((value.as_number()? * 1000.0) as i64);
    }
    match value.as_json() {
        Some(Json::Text(_)) => {}
        // JavaScript reads a boolean as the millisecond 0 or 1.
        Some(Json::Bool(bool)) => return DateTime::from_timestamp_millis((*bool).into()),
        _ => return None,
    }
    let zoned = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc2822(text))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S %z"))
        .map(|instant| instant.to_utc());
    let local = || {
        let forms =
            ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%B %d, %Y %H:%M:%S"];
        forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
    };
    let day = || {
        let forms = ["%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y", "%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%d %b %Y"];
        forms.iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok())?.and_hms_opt(0, 0, 0)
    };
    zoned.ok().or_else(|| local().or_else(day).map(|instant| instant.and_utc()))
}

fn write(instant: DateTime<Utc>, form: &str) -> String {
    let mut out = String::new();
    let mut rest = form;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = &rest[at + 1..];
        let flags_end =
            directive.find(|c: char| !matches!(c, '-' | '_' | '^' | '#' | '0' | ':')).unwrap_or(directive.len());
        let (flags, after) = directive.split_at(flags_end);
        let width_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (width, after) = after.split_at(width_end);
        let Some(conversion) = after.chars().next() else {
            out.push_str(&rest[at..]);
            return out;
        };
        rest = &after[conversion.len_utf8()..];
        match piece(instant, conversion, flags) {
            Some((text, natural, pad)) => {
                let width = width.parse::<usize>().unwrap_or(natural).min(100);
                let pad = if flags.contains('_') {
                    ' '
                } else if flags.contains('0') {
                    '0'
                } else {
                    pad
                };
                if !flags.contains('-') {
                    out.extend(std::iter::repeat_n(pad, width.saturating_sub(text.chars().count())));
                }
                out.push_str(&if flags.contains('^') { text.to_uppercase() } else { text });
            }
            None => {
                out.push('%');
                out.push_str(flags);
                out.push_str(width);
                out.push(conversion);
            }
        }
    }
    out.push_str(rest);
    out
}

/// A conversion's text, its usual width and what it is padded with.
fn piece(at: DateTime<Utc>, conversion: char, flags: &str) -> Option<(String, usize, char)> {
    let number = |number: i64, width: usize| Some((number.to_string(), width, '0'));
    let spaced = |number: u32| Some((number.to_string(), 2, ' '));
    let text = |text: String| Some((text, 0, ' '));
    let hour12 = at.hour12().1;
    let half = if at.hour() < 12 { "am" } else { "pm" };
    match conversion {
        'Y' => number(at.year().into(), 4),
        'y' => number((at.year() % 100).into(), 2),
        'C' => number((at.year() / 100).into(), 2),
        'm' => number(at.month().into(), 2),
        'd' => number(at.day().into(), 2),
        'e' => spaced(at.day()),
        'j' => number(at.ordinal().into(), 3),
        'H' => number(at.hour().into(), 2),
        'k' => spaced(at.hour()),
        'I' => number(hour12.into(), 2),
        'l' => spaced(hour12),
        'M' => number(at.minute().into(), 2),
        'S' => number(at.second().into(), 2),
        'L' => number(at.timestamp_subsec_millis().into(), 3),
        'N' => number(i64::from(at.timestamp_subsec_millis()) * 1_000_000, 9),
        // LiquidJS rounds.
        's' => number((at.timestamp_millis() as f64 / 1000.0).round() as i64, 0),
        'u' => number(at.weekday().number_from_monday().into(), 1),
        'w' => number(at.weekday().num_days_from_sunday().into(), 1),
        'U' | 'W' => text(at.format(&format!("%{conversion}")).to_string()),
        'A' | 'a' | 'B' | 'b' | 'h' => text(at.format(&format!("%{conversion}")).to_string()),
        'p' => text(if flags.contains('#') { half.into() } else { half.to_uppercase() }),
        'P' => text(half.into()),
        'z' => text(if flags.contains(':') { "+00:00".into() } else { "+0000".into() }),
        'Z' => text("UTC".into()),
        'q' => text(match at.day() {
            11..=13 => "th".into(),
            day => match day % 10 {
                1 => "st",
                2 => "nd",
                3 => "rd",
                _ => "th",
            }
            .into(),
        }),
        'c' => text(at.format("%-m/%-d/%Y, %-I:%M:%S %p").to_string()),
        'x' => text(at.format("%-m/%-d/%Y").to_string()),
        'X' => text(at.format("%-I:%M:%S %p").to_string()),
        'n' => text("\n".into()),
        't' => text("\t".into()),
        '%' => text("%".into()),
        _ => None,
    }
}
