//! When does a zone's clock show a local time? The one place that knows of clock changes.
//!
//! One rule covers both directions: a local time belongs to **the first instant at which the zone's clock shows it or
//! a later time**. A time that is skipped thus falls on the first instant after the gap, and a time that occurs twice
//! on its first occurrence. The rule keeps the order of local times, so ticks never overtake each other.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

use super::setting::{Part, Reader};

/// Reads the name of a zone of the tz database.
pub(super) fn parse(part: Part, reader: &mut Reader) -> Option<Tz> {
    if let Ok(zone) = part.text.parse() {
        return Some(zone);
    }
    const EXAMPLES: &str = "Write a name of the tz database, as `Europe/Berlin` or `UTC`";
    let help = match part.text {
        text if text.starts_with(['+', '-']) => {
            format!("{EXAMPLES}; a fixed offset is `Etc/GMT-2`, which means two hours ahead of UTC.")
        }
        text if text.eq_ignore_ascii_case("local") => {
            format!("{EXAMPLES}: instances on different machines must agree.")
        }
        text => {
            let lower = text.to_lowercase();
            let distance = |zone: &Tz| strsim::damerau_levenshtein(&lower, &zone.name().to_lowercase());
            let city = |zone: &Tz| zone.name().rsplit('/').next().is_some_and(|city| city.to_lowercase() == lower);
            let nearest = TZ_VARIANTS.iter().find(|zone| city(zone)).or_else(|| {
                let nearest = TZ_VARIANTS.iter().min_by_key(|zone| distance(zone))?;
                (distance(nearest) <= 3).then_some(nearest)
            });
            match nearest {
                Some(zone) => format!("Did you mean `{}`?", zone.name()),
                None => format!("{EXAMPLES}."),
            }
        }
    };
    reader.refuse(part, format!("there is no time zone `{part}`"), help)
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
