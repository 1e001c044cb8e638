//! How long is `15m`? Lengths of time as people write them, and the ticks of `every 15m`.
//!
//! An interval is never rewritten into cron: `*/45` fires at :00 and :45, `every 45m` each 45 minutes.

use chrono::{DateTime, TimeDelta, Utc};

use super::reader::{Part, Reader};
use crate::limits;

/// A period in whole seconds, not zero. Its ticks are the multiples of it since 1970-01-01T00:00:00Z, as the peer's
/// interval runs align to boundaries in UTC: `every 1d` is midnight UTC, `every 1w` Thursday, the epoch's weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Every {
    seconds: u32,
}

impl Every {
    /// Reads what stands after `every`.
    pub(super) fn parse(part: Part, reader: &mut Reader) -> Option<Every> {
        match seconds(part.text) {
            Err(help) if part.text.is_empty() => reader.refuse(part, "the period is missing", help),
            Err(help) => reader.refuse(part, format!("`{part}` is not a period"), help),
            Ok(0) => reader.refuse(part, "a period of nothing has no ticks", "The shortest is `every 1s`."),
            Ok(seconds) if seconds > limits::PERIOD_SECONDS => {
                reader.refuse(part, "this period is longer than a year", "The longest is `every 366d`.")
            }
            Ok(seconds) => Some(Every { seconds }),
        }
    }

    /// The first tick after `instant`.
    pub(super) fn next_after(self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let period = i64::from(self.seconds);
        DateTime::from_timestamp((instant.timestamp().div_euclid(period) + 1) * period, 0)
    }

    /// The last tick not after `instant`.
    pub(super) fn last_at_or_before(self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let period = i64::from(self.seconds);
        DateTime::from_timestamp(instant.timestamp().div_euclid(period) * period, 0)
    }
}

/// Reads `jitter`, in seconds.
pub(super) fn jitter(part: Part, reader: &mut Reader) -> Option<u32> {
    match seconds(part.text) {
        Err(help) => reader.refuse(part, format!("`{part}` is not a length of time"), help),
        Ok(seconds) if seconds > limits::JITTER_SECONDS => reader.refuse(
            part,
            "the jitter is longer than an hour",
            "Jitter spreads load; to run at another time, change the schedule.",
        ),
        Ok(seconds) => Some(seconds),
    }
}

/// Reads a length of time that stands by itself, as `fresh_within: 2h`; the error says what to write instead.
pub(super) fn span(text: &str) -> Result<TimeDelta, String> {
    match seconds(text)? {
        0 => Err("Nothing is as fresh as that: write at least `1s`.".into()),
        seconds => Ok(TimeDelta::seconds(seconds.into())),
    }
}

/// `15m` or `1h30m` in seconds; the error says what to write instead.
fn seconds(text: &str) -> Result<u32, String> {
    const HELP: &str = "Write a number and a unit (s, m, h, d or w), as in `15m` or `1h30m`.";
    const TOO_LONG: &str = "That is longer than a century.";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(HELP.into());
    }
    let mut sum = 0u32;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        let unit = match unit {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            "M" | "mo" | "month" | "months" | "y" | "year" | "years" => {
                return Err("Months and years differ in length: write cron, as `0 0 1 * *`, or `@yearly`.".into());
            }
            _ => return Err(HELP.into()),
        };
        if number.is_empty() {
            return Err(HELP.into());
        }
        let number: u32 = number.parse().map_err(|_| TOO_LONG)?;
        sum = number.checked_mul(unit).and_then(|part| sum.checked_add(part)).ok_or(TOO_LONG)?;
        rest = after.trim_start();
    }
    Ok(sum)
}
