//! When does a zone's clock show a local time? The one place that knows of clock changes.
//!
//! One rule covers both directions: a local time belongs to **the first instant at which the zone's clock shows it or
//! a later time**. A time that is skipped thus falls on the first instant after the gap, and a time that occurs twice
//! on its first occurrence. The rule keeps the order of local times, so ticks never overtake each other.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

use super::reader::{Part, Reader};

/// Reads the name of a zone of the tz database.
pub(super) fn parse(part: Part, reader: &mut Reader) -> Option<Tz> {
    if let Ok(zone) = part.text.parse() {
        return Some(zone);
    }
    let help = help(part.text);
    reader.refuse(part, format!("there is no time zone `{part}`"), help)
}

const EXAMPLES: &str = "Write a name of the tz database, as `Europe/Berlin` or `UTC`";

/// What is probably meant. Never a zone of another offset: whoever takes it would be hours early or late.
fn help(text: &str) -> String {
    if text.eq_ignore_ascii_case("local") {
        return format!("{EXAMPLES}: instances on different machines must agree.");
    }
    let offset = offset_minutes(text);
    if offset == Some(0) || ["z", "utc", "gmt"].iter().any(|utc| text.eq_ignore_ascii_case(utc)) {
        return "Write `UTC`.".into();
    }
    if let Some(minutes) = offset {
        return fixed(minutes);
    }
    if let Some((_, places)) = ABBREVIATIONS.iter().find(|(short, _)| text.eq_ignore_ascii_case(short)) {
        return format!(
            "An abbreviation has no clock changes, and several places may share it: write the place, as {places}."
        );
    }
    let lower = text.to_lowercase();
    let city = |zone: &&Tz| zone.name().rsplit('/').next().is_some_and(|city| city.to_lowercase() == lower);
    let distance = |zone: &Tz| strsim::damerau_levenshtein(&lower, &zone.name().to_lowercase());
    // Of short names and of numbers, two letters are another zone: `Asia/Bali` is not `Asia/Baku`, nor `Pacific Time` `Pacific/Niue`.
    let is_a_name = text.len() > 6 && !text.contains(|c: char| c.is_ascii_digit());
    let allowed = match text.rsplit_once('/').map_or(6, |(_, place)| place.len()) {
        0..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let nearest =
        || TZ_VARIANTS.iter().min_by_key(|zone| distance(zone)).filter(|zone| is_a_name && distance(zone) <= allowed);
    match TZ_VARIANTS.iter().find(city).or_else(nearest) {
        Some(zone) => format!("Did you mean `{}`?", zone.name()),
        None => format!("{EXAMPLES}."),
    }
}

/// Abbreviations that are no zones, with the places whose clocks may be meant.
const ABBREVIATIONS: [(&str, &str); 21] = [
    ("PST", "`America/Los_Angeles` or `Asia/Manila`"),
    ("PDT", "`America/Los_Angeles`"),
    ("PT", "`America/Los_Angeles`"),
    ("MDT", "`America/Denver`"),
    ("MT", "`America/Denver`"),
    ("CST", "`America/Chicago` or `Asia/Shanghai`"),
    ("CDT", "`America/Chicago`"),
    ("CT", "`America/Chicago`"),
    ("EDT", "`America/New_York`"),
    ("ET", "`America/New_York`"),
    ("BST", "`Europe/London` or `Asia/Dhaka`"),
    ("IST", "`Asia/Kolkata`, `Europe/Dublin` or `Asia/Jerusalem`"),
    ("CEST", "`Europe/Berlin`"),
    ("EEST", "`Europe/Athens`"),
    ("MSK", "`Europe/Moscow`"),
    ("SGT", "`Asia/Singapore`"),
    ("HKT", "`Asia/Hong_Kong`"),
    ("JST", "`Asia/Tokyo`"),
    ("KST", "`Asia/Seoul`"),
    ("AEST", "`Australia/Sydney` or `Australia/Brisbane`"),
    ("NZST", "`Pacific/Auckland`"),
];

/// How far `GMT+2`, `UTC-03:30` or `+0200` is ahead of UTC, by the everyday meaning of the sign.
fn offset_minutes(text: &str) -> Option<i32> {
    let upper = text.to_uppercase();
    let rest = ["GMT", "UTC"].iter().find_map(|prefix| upper.strip_prefix(prefix)).unwrap_or(&upper).trim();
    let (sign, digits) = match (rest.strip_prefix('+'), rest.strip_prefix(['-', '\u{2212}'])) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match (digits.split_once(':'), digits.len()) {
        (Some(parts), _) => parts,
        (None, 1 | 2) => (digits, "0"),
        (None, 4) => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 60 + minutes))
}

/// The tz database names fixed offsets by the opposite sign.
fn fixed(minutes: i32) -> String {
    let named = match minutes / 60 {
        0 => "UTC".to_owned(),
        hours => format!("Etc/GMT{:+}", -hours),
    };
    let (sign, ahead) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
    let offset = format!("UTC{sign}{:02}:{:02}", ahead / 60, ahead % 60);
    match named.parse::<Tz>() {
        Ok(_) if minutes % 60 == 0 => {
            format!(
                "The fixed offset {offset} is `{named}` (its sign is reversed there); a place has clock changes, as `Europe/Berlin`."
            )
        }
        _ => format!(
            "No zone is the fixed offset {offset}: write a place whose clock shows it, as `Asia/Kolkata` for UTC+05:30."
        ),
    }
}

/// What the zone's clock shows.
pub(super) fn local(zone: Tz, instant: DateTime<Utc>) -> NaiveDateTime {
    instant.with_timezone(&zone).naive_local()
}

/// The first instant at which the zone's clock shows `local` or later.
pub(super) fn first_showing(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    let instant = match zone.from_local_datetime(&local) {
        LocalResult::Single(only) => only,
        LocalResult::Ambiguous(first, _) => first,
        LocalResult::None => GapInfo::new(&local, &zone)?.end?,
    };
    Some(instant.to_utc())
}

/// How far the zone's clock may have been ahead of what it shows at `instant`: zero, unless it was set back and passes
/// the same local times a second time.
pub(super) fn set_back(zone: Tz, instant: DateTime<Utc>) -> TimeDelta {
    match zone.from_local_datetime(&local(zone, instant)) {
        LocalResult::Ambiguous(first, second) if second.to_utc() == instant => second - first,
        _ => TimeDelta::zero(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_proposed_for_an_offset_has_that_offset() {
        for (text, zone) in [
            ("GMT+2", Some("Etc/GMT-2")),
            ("UTC+2", Some("Etc/GMT-2")),
            ("utc-05:00", Some("Etc/GMT+5")),
            ("+0200", Some("Etc/GMT-2")),
            ("-3", Some("Etc/GMT+3")),
            ("GMT+14", Some("Etc/GMT-14")),
            ("+00:00", Some("UTC")),
            ("GMT+5:30", None),
            ("GMT-13", None),
        ] {
            let help = help(text);
            let minutes = offset_minutes(text).unwrap();
            match zone {
                Some(zone) => {
                    assert!(help.contains(&format!("`{zone}`")), "{text}: {help}");
                    let shown = local(zone.parse().unwrap(), DateTime::UNIX_EPOCH) - DateTime::UNIX_EPOCH.naive_utc();
                    assert_eq!(shown.num_minutes(), i64::from(minutes), "{text}");
                }
                None => assert!(help.starts_with("No zone is the fixed offset"), "{text}: {help}"),
            }
        }
    }

    #[test]
    fn an_abbreviation_is_answered_with_places_and_never_with_another_abbreviation() {
        for (short, place) in ABBREVIATIONS {
            let help = help(short);
            assert!(help.contains(place) && !help.contains("Did you mean"), "{short}: {help}");
            for zone in place.split('`').filter(|part| part.contains('/')) {
                zone.parse::<Tz>().unwrap_or_else(|_| panic!("{zone} is a zone"));
            }
        }
        assert_eq!(help("Z"), "Write `UTC`.");
        assert!(help("XYZ").starts_with(EXAMPLES) && help("GMTT").starts_with(EXAMPLES));
        assert_eq!(help("berlin"), "Did you mean `Europe/Berlin`?");
        assert_eq!(help("Europe/Berlim"), "Did you mean `Europe/Berlin`?");
        for text in ["Pacific Time", "Asia/Bali", "Eastern Standard Time", "Asia/Goa"] {
            assert!(help(text).starts_with(EXAMPLES), "{text}: {}", help(text));
        }
    }
}
