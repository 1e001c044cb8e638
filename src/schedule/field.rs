//! Which numbers does one field of a crontab line mean? Lists, ranges, steps and names.

use std::fmt;

use super::reader::{Part, Reader};

/// The numbers of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n stands for the number n.
    numbers: u64,
    /// Whether the text starts with `*` (or `?`, as Quartz writes it): what crontab asks of the two day fields.
    star: bool,
}

/// One of the six kinds of field.
#[derive(Debug)]
pub(super) struct Kind {
    what: &'static str,
    min: u32,
    max: u32,
    /// Names of the numbers from `min` on.
    names: &'static [&'static str],
    /// What to write for a step that is longer than the field, which fires once a round and not as it reads.
    instead: &'static str,
}

/// In the order of a line with seconds. Weekdays count from Sunday = 0.
pub(super) const ALL: [Kind; 6] = [
    Kind { what: "second", min: 0, max: 59, names: &[], instead: "every 90s" },
    Kind { what: "minute", min: 0, max: 59, names: &[], instead: "every 90m" },
    Kind { what: "hour", min: 0, max: 23, names: &[], instead: "every 36h" },
    Kind { what: "day of the month", min: 1, max: 31, names: &[], instead: "every 45d" },
    Kind { what: "month", min: 1, max: 12, names: &MONTHS, instead: "every 366d" },
    Kind { what: "weekday", min: 0, max: 6, names: &WEEKDAYS, instead: "every 2w" },
];

#[rustfmt::skip]
const MONTHS: [&str; 12] = [
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

impl Kind {
    /// Reads a list of `*`, `5`, `5-10`, `fri-mon`, each with or without `/step`.
    pub(super) fn parse(&self, part: Part, reader: &mut Reader) -> Option<Field> {
        let mut field = Some(Field { numbers: 0, star: part.text.starts_with(['*', '?']) });
        for item in part.split(',') {
            let numbers = self.item(item, reader);
            field = field.zip(numbers).map(|(field, numbers)| Field { numbers: field.numbers | numbers, ..field });
        }
        field
    }

    /// The bits of one item of the list.
    fn item(&self, item: Part, reader: &mut Reader) -> Option<u64> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range.text == "*" => (self.min, self.max),
            _ if range.text == "?" && self.what.contains("day") => (self.min, self.max),
            Some((from, to)) => {
                let (from, to) = (self.number(from, reader), self.number(to, reader));
                from.zip(to)?
            }
            None => {
                let from = self.number(range, reader)?;
                // `5/15` is 5, 20, 35, 50: from there to the end.
                (from, if step.is_some() { self.max } else { from })
            }
        };
        let step = match step {
            Some(step) => self.step(step, reader)?,
            None => 1,
        };
        // A range may pass the end, as `fri-mon` or `22-2`. Counting past it and coming back to the start also makes
        // the weekday 7 the weekday 0.
        let count = self.max - self.min + 1;
        let to = if from <= to { to } else { to + count };
        Some((from..=to).step_by(step).fold(0, |bits, number| bits | 1 << ((number - self.min) % count + self.min)))
    }

    fn number(&self, part: Part, reader: &mut Reader) -> Option<u32> {
        let what = self.what;
        if let Ok(number) = part.text.parse::<u32>() {
            let max = if what == "weekday" { 7 } else { self.max };
            if (self.min..=max).contains(&number) {
                return Some(number);
            }
            let help = match what {
                "weekday" => "0 and 7 are Sunday, 1 is Monday.".into(),
                _ => format!("It goes from {} to {max}.", self.min),
            };
            return reader.refuse(part, format!("there is no {what} {number}"), help);
        }
        // Any beginning of a name from three letters on: mon, tues, thurs, sept.
        let lower = part.text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| lower.len() >= 3 && name.starts_with(&lower));
        if let Some(index) = named {
            return Some(self.min + index as u32);
        }
        let distance = |name: &str| strsim::damerau_levenshtein(&lower, name);
        let nearest = || self.names.iter().find(|name| distance(name) <= 2 || distance(&name[..3]) <= 1);
        let help = match part.text {
            "" => {
                return reader.refuse(
                    part,
                    format!("a {what} is missing"),
                    "Write a number here, or leave the sign away.",
                );
            }
            text if text.contains(['L', 'W', '#']) => "L, W and # of Quartz are not known; list the days.".into(),
            text if text.starts_with(['H', 'R', '~']) => "To spread load, use `jitter`.".into(),
            "?" => "Write `*`.".into(),
            _ => match nearest() {
                Some(name) => format!("Did you mean `{}`?", &name[..3]),
                None if self.names.is_empty() => format!(
                    "Write numbers from {} to {}, `*`, `5-10`, `*/5` or a list with commas.",
                    self.min, self.max
                ),
                None => format!("Write a number or a name, as `{}`.", &self.names[1][..3]),
            },
        };
        reader.refuse(part, format!("`{part}` is not a {what}"), help)
    }

    fn step(&self, part: Part, reader: &mut Reader) -> Option<usize> {
        match part.text.parse::<usize>() {
            Ok(0) | Err(_) => {
                reader.refuse(part, format!("`{part}` is not a step"), "Write a number from 1 on, as in `*/15`.")
            }
            Ok(step) if step > self.max as usize => reader.refuse(
                part,
                format!("a step of {step} is longer than all of the {what}s", what = self.what),
                format!("For a longer period write one, as `{}`.", self.instead),
            ),
            Ok(step) => Some(step),
        }
    }
}

impl Field {
    /// In the sense of crontab(5): the field does not start with `*`.
    pub(super) fn is_restricted(&self) -> bool {
        !self.star
    }

    /// Whether, this being days, one of them comes in one of `months`.
    pub(super) fn comes_in(&self, months: &Field) -> bool {
        let longest = months.iter().map(|month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        });
        self.numbers.trailing_zeros() <= longest.max().unwrap_or(31)
    }

    /// Weekdays as the `cron` crate numbers them: Sunday is 1.
    pub(super) fn numbered_from_one(&self) -> String {
        Field { numbers: self.numbers << 1, ..*self }.to_string()
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        (0..64).filter(|number| self.numbers >> number & 1 == 1)
    }
}

/// A list of numbers, which the `cron` crate reads in the same way.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{number}")?;
        }
        Ok(())
    }
}
