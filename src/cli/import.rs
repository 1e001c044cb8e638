//! `rollcall import`: messages in.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Context, table};
use crate::{
    Error, Result,
    profile::{
        csv::ColumnMap,
        import::{Importer, Summary},
        promote::promote,
        source::{Format, Reading, Source},
    },
};

/// Read Segment messages (JSON, one a line or in a list) or CSV into the profile store; .gz and .zst too.
///
/// A message counts once, however often it is imported. Refused lines do not stop the others: they are listed with their
/// reasons in import-errors-NAME.jsonl, and more of them than --max-refused allows end with exit code 4. Stopped half-way, the same
/// command goes on where it stood.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall import events-*.jsonl.gz
  pg_dump_events | rollcall import -
  rollcall import orders.csv --csv \"type=track, event='Order Completed', userId=@customer, timestamp=@date, properties.revenue=@amount\"")]
pub struct Args {
    /// Files to read, one after the other; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The files are CSV: which column, or fixed value, each field of a message gets. Without it a `.csv` file's header names the fields.
    #[arg(long, value_name = "FIELD=@COLUMN,…", conflicts_with = "csv_map")]
    pub csv: Option<String>,
    /// The same, from a file with one assignment a line.
    #[arg(long, value_name = "FILE")]
    pub csv_map: Option<PathBuf>,
    /// What the files are (json, csv, tsv), whatever they are called. Without it the last ending of a name tells; standard input is JSON.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// What stands between the cells of CSV: one character, or `tab`. Without it `,`, `;`, tab and `|` are recognised by the header.
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// Take rows whose last cells are missing, too; what is missing says nothing.
    #[arg(long)]
    pub short_rows: bool,
    /// The share of a file's messages that may be refused before the import ends with exit code 4. All others are stored either way.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub max_refused: f64,
    /// The source of messages that name none.
    #[arg(long, value_name = "ID")]
    pub source: Option<String>,
    /// Read from the first line even what was imported before; still no message counts twice.
    #[arg(long)]
    pub again: bool,
    /// Where refused lines are listed, instead of import-errors-NAME.jsonl.
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,
}

fn delimiter(text: &str) -> std::result::Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("must be one ASCII character, or `tab`".into()),
    }
}

/// `1%`, `0.5%`, `0`.
fn share(text: &str) -> std::result::Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    percent.map(|percent| percent / 100.0).ok_or_else(|| "must be a percentage from 0% to 100%".into())
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let reading = Reading {
        format: args.format,
        map: column_map(&args)?,
        delimiter: args.delimiter,
        short_rows: args.short_rows,
    };
    let pool = context.store().await?;
    let config = if context.global().config.exists() { Some(context.config()?) } else { None };
    if let Some(config) = &config {
        promote(&pool, &config.store.promote, |done, of| tracing::info!(done, of, "filling promoted numbers")).await?;
    }
    let mut importer = Importer::new(pool);
    importer.rules = Arc::new(context.rules()?);
    importer.source_id.clone_from(&args.source);
    importer.again = args.again;
    let mut summaries = Vec::new();
    for file in &args.files {
        let source = open(file, reading.clone()).await?;
        let mut report = Report::beside(&args, file);
        let mut progress = context.output().progress("messages", None);
        let mut told = 0;
        let ran = importer.run(source, &mut report, |summary| {
            let done = summary.accepted + summary.repeated + summary.refused;
            progress.add(done - told);
            told = done;
        });
        let summary = ran.await?;
        drop(progress);
        summaries.push(summary);
        if report.file.is_some() {
            tracing::warn!(report = %report.path.display(), "lines were refused; the report says which and why");
        }
    }
    context.output().show(&summaries, |summaries| describe(summaries))?;
    too_many_refused(&summaries, args.max_refused)
}

/// An import that lost more than it was allowed to must not look like one that went well.
fn too_many_refused(summaries: &[Summary], most: f64) -> Result<()> {
    let is_too_many = |summary: &&Summary| {
        let read = summary.accepted + summary.repeated + summary.suppressed + summary.refused;
        summary.refused as f64 > most * read as f64
    };
    let files: Vec<String> = summaries
        .iter()
        .filter(is_too_many)
        .map(|summary| format!("{} of {}", summary.refused, summary.name))
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    let percent = most * 100.0;
    Err(Error::settings(format!("more than {percent}% of the messages were refused: {}", files.join(", "))).help(
        "The report says which and why; all others are stored. Mend those and import the file again, or allow more by --max-refused.",
    ))
}

fn column_map(args: &Args) -> Result<Option<ColumnMap>> {
    let text = match (&args.csv, &args.csv_map) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            Error::settings(format!("the column map {} cannot be read", path.display())).because(error)
        })?,
        (None, None) => return Ok(None),
    };
    ColumnMap::parse(&text).map(Some)
}

/// Opening reads the whole file once, for its digest: not on the runtime's thread.
async fn open(file: &Path, reading: Reading) -> Result<Source> {
    let file = file.to_owned();
    let opened = tokio::task::spawn_blocking(move || match file.to_str() {
        Some("-") => Source::stream("-", Box::new(io::stdin()), reading),
        _ => Source::open(&file, reading),
    });
    opened.await.map_err(|error| Error::internal("opening the file ended early").because(error))?
}

fn describe(summaries: &[Summary]) -> String {
    let rows = summaries.iter().map(|summary| {
        let seconds = summary.seconds.max(0.001);
        [
            summary.name.clone(),
            summary.accepted.to_string(),
            summary.repeated.to_string(),
            summary.refused.to_string(),
            format!("{:.1}", summary.seconds),
            format!("{:.0}", (summary.accepted + summary.repeated) as f64 / seconds),
        ]
    });
    let mut text = table(["file", "stored", "known", "refused", "seconds", "per second"], rows);
    for summary in summaries {
        if summary.resumed_after_line > 0 {
            text += &format!("\n{}: lines up to {} were imported before", summary.name, summary.resumed_after_line);
        }
        if summary.suppressed > 0 {
            text +=
                &format!("\n{}: {} messages dropped, of people who are suppressed", summary.name, summary.suppressed);
        }
        if summary.misdated > 0 {
            text += &format!(
                "\n{}: {} messages named a time that cannot be read, and count as of their arrival",
                summary.name, summary.misdated
            );
        }
        if summary.undated > 0 {
            text += &format!("\n{}: {} messages named no time, and count as of now", summary.name, summary.undated);
        }
    }
    text
}

/// The list of refused lines; its file is made with the first one.
struct Report {
    path: PathBuf,
    file: Option<File>,
}

impl Report {
    fn beside(args: &Args, file: &Path) -> Report {
        let name = match file.file_stem().and_then(|stem| stem.to_str()) {
            None | Some("-") => "stdin",
            Some(name) => name,
        };
        Report { path: args.errors.clone().unwrap_or_else(|| format!("import-errors-{name}.jsonl").into()), file: None }
    }
}

impl Write for Report {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
        }
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}
