//! In which format is a file? As it was said, else by the last ending of its name.

use std::{fmt, path::Path, str::FromStr};

/// How messages stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A message a line, a list of messages, or batches of them.
    Json,
    /// A table whose cells stand between commas, semicolons, tabs or bars.
    Csv,
    /// A table with tabs.
    Tsv,
}

impl Format {
    /// By the ending of the file's name, in any case, behind which a compression may be named.
    pub fn of(path: &Path) -> Format {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let mut endings = name.split('.').skip(1).collect::<Vec<_>>();
        if endings.last().is_some_and(|ending| ["gz", "zst", "zstd"].contains(ending)) {
            endings.pop();
        }
        match endings.last() {
            Some(&"csv") => Format::Csv,
            Some(&"tsv" | &"tab") => Format::Tsv,
            _ => Format::Json,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "json" | "jsonl" | "ndjson" => Format::Json,
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            _ => return Err("must be json, csv or tsv".into()),
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ending_counts_in_any_case() {
        for (name, format) in [
            ("ORDERS.CSV", Format::Csv),
            ("orders.tsv.csv", Format::Csv),
            ("old.tsv.d/orders.jsonl", Format::Json),
            ("old.csv/orders", Format::Json),
            ("a.csv.gz", Format::Csv),
            ("a.TSV.ZST", Format::Tsv),
            ("csv", Format::Json),
            ("csv.json", Format::Json),
            (".csv", Format::Csv),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }
}
