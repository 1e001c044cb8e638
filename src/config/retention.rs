//! For how long is what kept? Nothing is dropped unless it is said here, but the ids of old messages.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::limits;

/// For how long what is kept: a number and a unit, `d`, `w` or `y` (366 days), as `90d`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Runs, with who entered and left, and their part of each destination's log. Always kept: an audience's last run, and
    /// what a destination has not been told. For ever when not given.
    pub runs: Option<String>,
    /// Events, by when they occurred, month by month. Kept longer where an audience looks further back. For ever when not given.
    pub events: Option<String>,
    /// Whether events are dropped although an audience looks further back, or at all of them: it then counts what is left.
    pub drop_needed_events: bool,
    /// Ids of messages, by when they came: a message that comes again later counts a second time. `1y` when not given.
    pub message_ids: Option<String>,
}

impl Retention {
    /// Days for which runs are kept, if not for ever.
    pub fn runs_days(&self) -> Option<u32> {
        checked(self.runs.as_deref()?)
    }

    /// Days for which events are kept, if not for ever.
    pub fn events_days(&self) -> Option<u32> {
        checked(self.events.as_deref()?)
    }

    /// Days for which ids of messages are kept.
    pub fn message_ids_days(&self) -> u32 {
        self.message_ids.as_deref().and_then(checked).unwrap_or(limits::MESSAGE_IDS_DAYS)
    }
}

/// What cannot be read keeps all; reading the configuration has refused it.
fn checked(text: &str) -> Option<u32> {
    days(text).ok()
}

/// Reads `90d`; the error says what to write instead.
pub fn days(text: &str) -> Result<u32, &'static str> {
    const HELP: &str = "Write a number and a unit (d, w, or y of 366 days), as `90d`.";
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(HELP)?);
    let unit = match unit.trim() {
        "d" | "day" | "days" => 1,
        "w" | "week" | "weeks" => 7,
        "y" | "year" | "years" => 366,
        _ => return Err(HELP),
    };
    let days = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or(HELP)?;
    match days {
        0 => Err("At least a day is kept."),
        days if days > limits::RETENTION_DAYS => Err("That is longer than a century: leave it away to keep all."),
        days => Ok(days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_keep_is_a_number_and_a_unit() {
        assert_eq!(days("90d"), Ok(90));
        assert_eq!(days(" 2 weeks "), Ok(14));
        assert_eq!(days("3y"), Ok(1_098));
        for wrong in ["", "d", "90", "3m", "1d12h", "-1d", "0d", "200y", "99999999999d"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }
}
