//! How is an error told? To a person with the place underlined, to a program as one JSON object; both on standard error.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};
use serde_json::json;

use super::{Output, output::ReaderGone};
use crate::error::{Error, Kind, Problem, Problems};

/// Tells `error` on standard error.
pub fn tell(error: &Error, output: &Output) {
    let text = if output.is_json() { as_json(error) } else { as_text(error, output.colors_errors()) };
    let text = output.shown(&text, output.colors_errors());
    // Nobody is left to be told when this fails.
    let _ = io::Write::write_all(&mut io::stderr().lock(), text.as_bytes());
}

/// Whether whoever read our standard output has gone.
pub fn reader_is_gone(error: &Error) -> bool {
    causes(error).any(|cause| cause.is::<ReaderGone>())
}

/// The word for a kind in `--json`, as in `docs/operations.md`.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Definition => "definition",
        Kind::Settings => "settings",
        Kind::Wait => "wait",
        Kind::Halted => "halted",
        Kind::Internal => "internal",
    }
}

fn as_json(error: &Error) -> String {
    let problems = error.problems.iter().flat_map(|at| {
        at.problems.iter().map(|problem| {
            let (line, column) = at.position(problem);
            json!({ "message": problem.message, "help": problem.help, "in": at.name, "line": line, "column": column })
        })
    });
    let error = json!({ "error": {
        "kind": kind(error.kind),
        "exit_code": error.kind.exit_code(),
        "message": error.message,
        "help": error.help,
        "problems": problems.collect::<Vec<_>>(),
        "causes": causes(error).map(|cause| cause.to_string()).collect::<Vec<_>>(),
    }});
    format!("{error}\n")
}

fn as_text(error: &Error, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
    let mut text = String::new();
    match handler.render_report(&mut text, &Report::new(error)) {
        Ok(()) => text,
        Err(_) => format!("{error}\n"),
    }
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&'_ (dyn StdError + 'static)| (*cause).source())
}

/// An error as miette sees it: the message, and each place as a report below it.
#[derive(Debug)]
struct Report<'a> {
    error: &'a Error,
    places: Vec<Place<'a>>,
}

#[derive(Debug)]
struct Place<'a> {
    problem: &'a Problem,
    source: Lines,
}

impl<'a> Report<'a> {
    fn new(error: &'a Error) -> Self {
        let places = error.problems.as_deref().into_iter().flat_map(|at: &'a Problems| {
            let text = Arc::new(at.text.clone());
            at.problems
                .iter()
                .map(move |problem| Place { problem, source: Lines { name: at.name.clone(), text: text.clone() } })
        });
        Report { error, places: places.collect() }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Report<'_> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help.as_ref().map(|help| Box::new(help) as _)
    }
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.places.iter().map(|place| place as _)))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl StdError for Place<'_> {}

impl Diagnostic for Place<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as _)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.problem.span.clone()))))
    }
}

/// A text of which only the wrong lines are shown: those around them are not the matter, and somebody may look on.
#[derive(Debug)]
struct Lines {
    name: String,
    text: Arc<String>,
}

impl SourceCode for Lines {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (mut start, mut end) = (span.offset(), span.offset() + span.len());
        // miette asks with no context for the position, and with some for the lines to print.
        if before + after > 0 {
            start = self.text.get(..start).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1);
            end += self.text.get(end..).map_or(0, |rest| rest.find(['\r', '\n']).unwrap_or(rest.len()));
        }
        let contents = self.text.read_span(&(start..end).into(), 0, 0)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::unwritten;

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_database_that_has_gone_is_one() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(reader_is_gone(&unwritten(gone())));
        assert!(!reader_is_gone(&unwritten(io::ErrorKind::StorageFull.into())));
        assert!(!reader_is_gone(&sqlx::Error::Io(gone()).into()));
    }
}
