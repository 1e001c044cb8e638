//! How is a time written? The `date` filter, in UTC, with LiquidJS's strftime.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};

use super::value::Value;
use crate::{js::Json, mapping::Fault};

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

/// Wider is not padded. The peer sets no bound, so that a short template can fill its memory.
const WIDEST: usize = 10_000;

fn write(instant: DateTime<Utc>, form: &str) -> String {
    let mut out = String::new();
    let mut rest = form;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = Directive::read(&rest[at + 1..]);
        let end = at + 1 + directive.length;
        match directive.text(instant) {
            Some(text) => out.push_str(&text),
            None => out.push_str(&rest[at..end]),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// One `%…` of a form: flags, width, a modifier (`E`, `O`) that means nothing, and what is asked for.
struct Directive<'f> {
    flags: &'f str,
    width: Option<usize>,
    conversion: Option<char>,
    /// In bytes, without the percent sign.
    length: usize,
}

impl<'f> Directive<'f> {
    fn read(form: &'f str) -> Self {
        let until =
            |text: &'f str, is_part: fn(char) -> bool| text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
        let (flags, after) = until(form, |c| matches!(c, '-' | '_' | '^' | '#' | '0' | ':'));
        let (digits, after) = until(after, |c| c.is_ascii_digit());
        let after = after.strip_prefix(['E', 'O']).unwrap_or(after);
        // A directive does not go on in the next line.
        let conversion = after.chars().next().filter(|c| !matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}'));
        let length = form.len() - after.len() + conversion.map_or(0, char::len_utf8);
        // Too many digits for a number are wide, too.
        let width = Some(digits).filter(|digits| !digits.is_empty()).map(|digits| digits.parse().unwrap_or(WIDEST));
        Directive { flags, width: width.filter(|width| *width > 0), conversion, length }
    }

    /// `None` if nothing of that name can be asked for; it then stays as it is.
    fn text(&self, at: DateTime<Utc>) -> Option<String> {
        let conversion = self.conversion?;
        let has = |flag| self.flags.contains(flag);
        let mut text = self.plain(at, conversion)?;
        // Swapping the case makes capitals of everything in which there is a small letter.
        let swapped_up = has('#') && text.contains(|c: char| c.is_ascii_lowercase());
        if has('^') || swapped_up {
            text.make_ascii_uppercase();
        } else if has('#') {
            text.make_ascii_lowercase();
        }
        let usual = match conversion {
            'd' | 'e' | 'H' | 'I' | 'k' | 'l' | 'm' | 'M' | 'S' | 'U' | 'W' => 2,
            'j' | 'L' => 3,
            _ => 0,
        };
        let width = if has('-') { 0 } else { self.width.unwrap_or(usual).min(WIDEST) };
        let pad = match conversion {
            _ if has('_') => ' ',
            _ if has('0') => '0',
            'a' | 'A' | 'b' | 'B' | 'c' | 'e' | 'k' | 'l' | 'p' | 'P' => ' ',
            _ => '0',
        };
        text.insert_str(0, &pad.to_string().repeat(width.saturating_sub(text.len())));
        Some(text)
    }

    /// Without padding, in its usual case. All of it is ASCII.
    fn plain(&self, at: DateTime<Utc>, conversion: char) -> Option<String> {
        let millis = at.timestamp_subsec_millis();
        // The number of the week, which begins on this day of it.
        let week = |start: i64| {
            let sunday_0 = |weekday: chrono::Weekday| i64::from(weekday.num_days_from_sunday());
            let today = i64::from(at.ordinal()) + start - sunday_0(at.weekday());
            let first = at.date_naive().with_ordinal(1).map_or(0, |first| sunday_0(first.weekday()));
            (today - (7 - first + start)).div_euclid(7) + 1
        };
        Some(match conversion {
            'Y' => at.year().to_string(),
            'y' => at.year().to_string().chars().skip(2).take(2).collect(),
            'C' => at.year().to_string().chars().take(2).collect(),
            'm' => at.month().to_string(),
            'd' | 'e' => at.day().to_string(),
            'j' => at.ordinal().to_string(),
            'H' | 'k' => at.hour().to_string(),
            'I' | 'l' => at.hour12().1.to_string(),
            'M' => at.minute().to_string(),
            'S' => at.second().to_string(),
            'L' => millis.to_string(),
            'N' => {
                let digits = self.width.unwrap_or(9).min(WIDEST);
                format!("{:0<digits$}", &format!("{millis:03}")[..digits.min(3)])
            }
            // LiquidJS rounds.
            's' => ((at.timestamp_millis() as f64 / 1000.0).round() as i64).to_string(),
            'u' => at.weekday().number_from_monday().to_string(),
            'w' => at.weekday().num_days_from_sunday().to_string(),
            'U' => week(0).to_string(),
            'W' => week(1).to_string(),
            'A' | 'a' | 'B' | 'b' | 'h' => at.format(&format!("%{conversion}")).to_string(),
            'p' => (if at.hour() < 12 { "AM" } else { "PM" }).into(),
            'P' => (if at.hour() < 12 { "am" } else { "pm" }).into(),
            'z' => (if self.flags.contains(':') { "+00:00" } else { "+0000" }).into(),
            'Z' => "UTC".into(),
            'q' => match (at.day(), at.day() % 10) {
                (11..=13, _) => "th",
                (_, 1) => "st",
                (_, 2) => "nd",
                (_, 3) => "rd",
                _ => "th",
            }
            .into(),
            'c' => at.format("%-m/%-d/%Y, %-I:%M:%S %p").to_string(),
            'x' => at.format("%-m/%-d/%Y").to_string(),
            'X' => at.format("%-I:%M:%S %p").to_string(),
            'n' => "\n".into(),
            't' => "\t".into(),
            '%' => "%".into(),
            _ => return None,
        })
    }
}
