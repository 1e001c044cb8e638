//! When did it happen? Timestamps as people write them, read as UTC instants. Pure.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};
use serde_json::value::RawValue;

use super::json::text_of;
use crate::limits::EVENT_YEARS;

/// Reads a time as it stands in a message: text or a number.
pub fn read_time(raw: &RawValue) -> Result<DateTime<Utc>, &'static str> {
    match text_of(raw) {
        Some(text) => parse_timestamp(&text),
        None => raw.get().parse().map_err(|_| "is neither text nor a number").and_then(from_unix),
    }
}

/// Reads ISO 8601 as it is found in the wild: `2024-01-31T10:20:30.123Z`, a space for the T, no seconds, `+0100` or `+01`
/// or ` UTC` for the offset, a date alone (midnight), `20240131`, `20240131102030`, 24:00 for the end of a day. Without an offset it
/// is UTC. Other digits are a Unix time, as spreadsheets and exports write it.
pub fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let text = text.trim();
    if let Some(number) = unix_in_text(text) {
        return from_unix(number);
    }
    let time = parse(text.as_bytes()).ok_or("is not an ISO 8601 time, as 2024-01-31T10:20:30Z")?;
    in_range(time)
}

/// Reads a Unix time: in seconds, from 100,000,000,000 on in milliseconds (1973; as seconds that would be the year 5138), from
/// 1,000 times that in microseconds and once more in nanoseconds.
pub fn from_unix(number: f64) -> Result<DateTime<Utc>, &'static str> {
    let ms = match number.abs() {
        ..1e11 => number * 1e3,
        1e11..1e14 => number,
        1e14..1e17 => number / 1e3,
        _ => number / 1e6,
    };
    in_range(DateTime::from_timestamp_millis(ms as i64).ok_or("is not a Unix time")?)
}

/// Digits that are no date: not 8 of them, as 20240131, nor 14, as 20240131102030.
fn unix_in_text(text: &str) -> Option<f64> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_unix = digits && matches!(whole.len(), 9..=13 | 16 | 19);
    if is_unix { text.parse().ok() } else { None }
}

fn in_range(time: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
    if EVENT_YEARS.contains(&time.year()) { Ok(time) } else { Err("is before 1970 or after 9999") }
}

fn parse(text: &[u8]) -> Option<DateTime<Utc>> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    let dashed = eat(&mut rest, b"-");
    let month = digits(&mut rest, 2)?;
    if dashed && !eat(&mut rest, b"-") {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year.cast_signed(), month, digits(&mut rest, 2)?)?;
    if rest.is_empty() {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc());
    }
    if !eat(&mut rest, b"Tt ") && (dashed || rest.len() != 6) {
        return None;
    }
    let hour = digits(&mut rest, 2)?;
    let coloned = eat(&mut rest, b":");
    let minute = digits(&mut rest, 2)?;
    let mut second = 0;
    let mut micros = 0;
    if coloned && eat(&mut rest, b":") || !coloned && rest.first().is_some_and(u8::is_ascii_digit) {
        second = digits(&mut rest, 2)?;
        if eat(&mut rest, b".,") {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let fraction = rest.get(..length).filter(|fraction| !fraction.is_empty())?;
            // Postgres keeps microseconds; further digits are cut, so that a time never moves into the next second.
            micros =
                (0..6).fold(0, |sum, place| sum * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')));
            rest = &rest[length..];
        }
    }
    // A leap second is the last instant of its minute.
    let (second, micros) = if second == 60 { (59, 999_999) } else { (second, micros) };
    // The end of a day is the beginning of the next.
    let midnight = hour == 24 && (minute, second, micros) == (0, 0, 0);
    let (date, hour) = if midnight { (date.succ_opt()?, 0) } else { (date, hour) };
    let local = date.and_hms_micro_opt(hour, minute, second, micros)?.and_utc();
    offset(rest).and_then(|minutes| local.checked_sub_signed(Duration::minutes(minutes)))
}

/// Minutes east of UTC. A space may stand before it; some mobile libraries write a colon before the Z.
fn offset(rest: &[u8]) -> Option<i64> {
    let mut rest = rest.trim_ascii_start();
    if rest.is_empty() || [&b"Z"[..], b":Z", b"UTC", b"GMT"].iter().any(|utc| rest.eq_ignore_ascii_case(utc)) {
        return Some(0);
    }
    let sign = match rest.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    rest = &rest[1..];
    let hours = digits(&mut rest, 2)?;
    eat(&mut rest, b":");
    let minutes = if rest.is_empty() { 0 } else { digits(&mut rest, 2)? };
    if !rest.is_empty() || hours > 23 || minutes > 59 {
        return None;
    }
    Some(sign * i64::from(hours * 60 + minutes))
}

fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

fn eat(rest: &mut &[u8], any_of: &[u8]) -> bool {
    let found = rest.first().is_some_and(|byte| any_of.contains(byte));
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2024-01-31T10:20:30.123Z", "2024-01-31T10:20:30.123Z"),
            ("2024-01-31 10:20", "2024-01-31T10:20:00Z"),
            ("2024-01-31T10:20:30,5+0130", "2024-01-31T08:50:30.500Z"),
            ("2024-01-31t10:20:30.1234567899z", "2024-01-31T10:20:30.123456Z"),
            ("2024-01-01T00:30:00+01", "2023-12-31T23:30:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
            ("19970101", "1997-01-01T00:00:00Z"),
            ("20240131T102030Z", "2024-01-31T10:20:30Z"),
            (" 2024-01-31 ", "2024-01-31T00:00:00Z"),
            ("20240131102030", "2024-01-31T10:20:30Z"),
            ("2024-01-31T24:00:00", "2024-02-01T00:00:00Z"),
            ("2024-12-31 24:00", "2025-01-01T00:00:00Z"),
            ("2024-01-31 10:20:30 UTC", "2024-01-31T10:20:30Z"),
            ("2024-01-31 10:20:30.5 +0000", "2024-01-31T10:20:30.500Z"),
            ("2024-01-31 10:20:30 -0130", "2024-01-31T11:50:30Z"),
            ("2024-01-31T10:20:27.029:Z", "2024-01-31T10:20:27.029Z"),
            ("1685923200", "2023-06-05T00:00:00Z"),
            ("1685923200.25", "2023-06-05T00:00:00.250Z"),
            ("1685923200000", "2023-06-05T00:00:00Z"),
            ("1685923200000000", "2023-06-05T00:00:00Z"),
        ] {
            assert_eq!(
                parse_timestamp(text).map(|time| time.to_rfc3339()),
                Ok(expected.replace('Z', "+00:00")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2024-13-01",
            "2024-02-30",
            "2024-01-31T25:00Z",
            "2024-01-31T24:00:01Z",
            "2024-01-31 10:20 EST",
            "2024",
            "12345",
            "20241331102030",
            "2024-01-31T10:20:30.Z",
            "2024-01-31T10:20:30+99:00",
            "1969-12-31",
            "2024-01-31TT",
            "é024-01-31",
        ] {
            assert!(parse_timestamp(text).is_err(), "{text}");
        }
    }
}
