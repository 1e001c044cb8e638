//! When did it happen? Timestamps as people write them, read as UTC instants. Pure.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};

use crate::limits::EVENT_YEARS;

/// Reads ISO 8601 as it is found in the wild: `2024-01-31T10:20:30.123Z`, a space for the T, no seconds, `+0100` or `+01`
/// for the offset, a date alone (midnight), `20240131`. Without an offset it is UTC.
pub fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let time = parse(text.trim().as_bytes()).ok_or("is not an ISO 8601 time, as 2024-01-31T10:20:30Z")?;
    in_range(time)
}

/// Reads a Unix time: in milliseconds from 100,000,000,000 on (1973; as seconds that would be the year 5138), else in seconds.
pub fn from_unix(number: f64) -> Result<DateTime<Utc>, &'static str> {
    let ms = if number.abs() < 1e11 { number * 1_000.0 } else { number };
    in_range(DateTime::from_timestamp_millis(ms as i64).ok_or("is not a Unix time")?)
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
    if !eat(&mut rest, b"Tt ") {
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
    let local = date.and_hms_micro_opt(hour, minute, second, micros)?.and_utc();
    if rest.is_empty() || rest == b"Z" || rest == b"z" {
        return Some(local);
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
    local.checked_sub_signed(Duration::minutes(sign * i64::from(hours * 60 + minutes)))
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
