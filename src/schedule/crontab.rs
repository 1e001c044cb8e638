//! Which local times does a crontab line mean? Five fields, or six with seconds first, as crontab users mean them.
//!
//! The `cron` crate finds the next and the last one, in plain local time that knows of no zone. It takes seconds for
//! granted, counts weekdays from Sunday = 1 and joins both day fields by AND, so each field is read here and handed
//! over as a list of its numbers. See crontab(5) for the meaning.

use std::str::FromStr;

use chrono::{NaiveDateTime, TimeDelta};

use super::{
    field,
    reader::{Part, Reader},
};

/// Local times, as the union of one or two schedules of the `cron` crate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Crontab {
    either: Vec<cron::Schedule>,
}

impl Crontab {
    /// Reads fields or an `@` name.
    pub(super) fn parse(part: Part, reader: &mut Reader) -> Option<Crontab> {
        if part.text.starts_with('@') {
            let fields = match part.text.to_ascii_lowercase().as_str() {
                "@hourly" => "0 * * * *",
                "@daily" | "@midnight" => "0 0 * * *",
                "@weekly" => "0 0 * * 0",
                "@monthly" => "0 0 1 * *",
                "@yearly" | "@annually" => "0 0 1 1 *",
                name => {
                    let help = match name {
                        "@reboot" => {
                            "Rollcall runs what it missed when it starts; no schedule is needed for that.".into()
                        }
                        _ if name.starts_with("@every") => format!("Write `every{}`, without the @.", &name[6..]),
                        _ => "There are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.".into(),
                    };
                    return reader.refuse(part, format!("`{part}` is not known"), help);
                }
            };
            return Self::parse(part.read_as(fields), reader);
        }
        let mut parts: Vec<Part> = part.words().collect();
        match parts.len() {
            5 => parts.insert(0, part.read_as("0")),
            6 => {}
            7 => {
                return reader.refuse(parts[6], "a field for the year is not known", "Leave the seventh field away.");
            }
            count => {
                let help = "Write five fields (minute, hour, day of month, month, weekday), six with the second first, \
                            a name as `@hourly`, or a period as `every 15m`.";
                return reader.refuse(part, format!("a schedule has five or six fields, not {count}"), help);
            }
        }
        let fields = parts.iter().zip(&field::ALL).map(|(part, kind)| kind.parse(*part, reader));
        // Every field is read before any is missed: all problems are told at once.
        let fields = fields.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        let [second, minute, hour, day, month, weekday] = fields.try_into().ok()?;
        if !weekday.is_restricted() && !day.comes_in(&month) {
            return reader.refuse(
                parts[3],
                "no such month has this day",
                "Choose a day that comes, as 28, or a month that has it.",
            );
        }
        let times = |day: &str, weekday: &str| {
            cron::Schedule::from_str(&format!("{second} {minute} {hour} {day} {month} {weekday}")).ok()
        };
        // crontab(5): when both day fields are restricted (do not start with *), either one may match; else both must.
        let either = match day.is_restricted() && weekday.is_restricted() {
            true => vec![times(&day.to_string(), "*"), times("*", &weekday.numbered_from_one())],
            false => vec![times(&day.to_string(), &weekday.numbered_from_one())],
        };
        match either.into_iter().collect() {
            Some(either) => Some(Crontab { either }),
            None => reader.refuse(part, "this schedule is not understood", "Please report it: it should have been."),
        }
    }

    /// The first local time after `local`. None past the year 2100, where the `cron` crate ends.
    pub(super) fn next_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let next = |times: &cron::Schedule| Some(times.after(&local.and_utc()).next()?.naive_utc());
        self.either.iter().filter_map(next).min()
    }

    /// The last local time before `local`. None before 1970, where the `cron` crate begins.
    pub(super) fn last_before(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let last = |times: &cron::Schedule| Some(times.after(&local.and_utc()).next_back()?.naive_utc());
        self.either.iter().filter_map(last).max()
    }

    /// Whether this local time is one of them.
    pub(super) fn includes(&self, local: NaiveDateTime) -> bool {
        self.last_before(local + TimeDelta::nanoseconds(1)) == Some(local)
    }
}
