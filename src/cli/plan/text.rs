//! A plan for a person at a terminal: `+ ~ -`, old and new lines of a definition, numbers.

use std::fmt::Write as _;

use crate::{
    audience::Class,
    plan::{Action, AudienceChange, DestinationChange, Effect, Field, Plan},
};

/// The plan as text; in colour, if a terminal reads it.
pub fn text(plan: &Plan, colors: bool) -> String {
    let paint = Paint { colors };
    let mut out = String::new();
    for (key, why) in &plan.refused {
        let _ = writeln!(out, "{} {key} cannot be computed: {why}", paint.red("!"));
    }
    if plan.is_empty() {
        out.push_str("Nothing to do: the database knows all that the configuration says.");
        return out;
    }
    for change in &plan.audiences {
        audience(&mut out, paint, change);
    }
    for change in &plan.destinations {
        destination(&mut out, paint, change);
    }
    let _ = write!(out, "{}", summary(plan));
    out
}

/// How much it is, in three sentences.
pub fn summary(plan: &Plan) -> String {
    let [added, changed, removed] = plan.counts();
    let (identifies, more) = plan.identifies();
    let mut text = format!("Plan: {added} to add, {changed} to change, {removed} to remove. ");
    if more {
        text.push_str("At least ");
    }
    let at = plan.evaluated_at.format("%Y-%m-%d %H:%M:%S UTC");
    let _ = write!(text, "{identifies} Identify events as of {at}. Digest {}.", plan.digest);
    text
}

fn audience(out: &mut String, paint: Paint, change: &AudienceChange) {
    let _ = writeln!(out, "{} {} \"{}\"", paint.sign(change.action), paint.bold(&change.key), change.name);
    change.fields.iter().for_each(|field| self::field(out, paint, field));
    if let Some(effect) = &change.effect {
        self::effect(out, paint, change.class, effect);
    }
    if let Some(why) = &change.failed {
        line(out, "fails", &paint.red(why));
    }
    change.notes.iter().for_each(|note| line(out, "note", note));
    out.push('\n');
}

fn destination(out: &mut String, paint: Paint, change: &DestinationChange) {
    let name = format!("destination {}", change.name);
    let _ = writeln!(out, "{} {}", paint.sign(change.action), paint.bold(&name));
    for field in &change.fields {
        match mapping(field) {
            Some(said) => {
                let _ = writeln!(out, "    {said}");
            }
            None => self::field(out, paint, field),
        }
    }
    change.notes.iter().for_each(|note| line(out, "note", note));
    out.push('\n');
}

/// Of a mapping only a digest is known, which tells nobody anything.
pub fn mapping(field: &Field) -> Option<String> {
    let name = field.field.strip_prefix("mapping ")?;
    Some(match (&field.from, &field.to) {
        (None, _) => format!("+ mapping {name}"),
        (_, None) => format!("- mapping {name}"),
        _ => format!("~ mapping {name}"),
    })
}

fn field(out: &mut String, paint: Paint, field: &Field) {
    let name = &field.field;
    match (&field.from, &field.to) {
        (Some(from), Some(to)) if name == "query" => {
            line(out, name, "");
            for (sign, text) in query_lines(from, to) {
                let text = format!("      {sign} {text}");
                let text = match sign {
                    '-' => paint.red(&text),
                    '+' => paint.green(&text),
                    _ => text,
                };
                let _ = writeln!(out, "{text}");
            }
        }
        (Some(from), Some(to)) => line(out, name, &format!("{} → {}", paint.red(from), paint.green(to))),
        (from, to) => {
            let value = to.as_ref().or(from.as_ref()).map_or("", String::as_str);
            let mut lines = value.lines();
            line(out, name, lines.next().unwrap_or(""));
            lines.for_each(|rest| line(out, "", rest));
        }
    }
}

/// The lines of an old and a new definition: what they begin and end with alike stands once.
pub fn query_lines<'a>(from: &'a str, to: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(old, new)| old == new).count();
    let same = |lines: &[&'a str]| lines.iter().map(|line| (' ', *line)).collect::<Vec<_>>();
    let gone = old[head..old.len() - tail].iter().map(|line| ('-', *line));
    let come = new[head..new.len() - tail].iter().map(|line| ('+', *line));
    let mut lines = same(&old[..head]);
    lines.extend(gone.chain(come));
    lines.extend(same(&old[old.len() - tail..]));
    lines
}

fn effect(out: &mut String, paint: Paint, class: Class, effect: &Effect) {
    let [counted, came, went, entering, leaving] = match class {
        Class::Audience => ["members", "true", "false", "enter", "leave"],
        Class::Trait => ["values", "with a value", "null", "other value", "no value"],
    };
    let before = effect.members_before.map_or("none yet".into(), |before| before.to_string());
    let (entered, exited) = (format!("+{}", effect.entered), format!("-{}", effect.exited));
    let change = format!("{} {}", paint.green(&entered), paint.red(&exited));
    line(out, counted, &format!("{before} → {}  ({change})", effect.members));
    for (name, told) in &effect.identifies {
        let least = if effect.at_least { "at least " } else { "" };
        let events =
            format!("{least}{} Identify events ({} {came}, {} {went})", told.changes(), told.entered, told.exited);
        line(out, "told", &format!("{name}: {events}"));
    }
    if let Some(why) = &effect.held_because {
        line(out, "guard", &paint.yellow(&format!("holds it unless this is confirmed: {why}")));
    }
    for (what, people) in [(entering, &effect.samples.entered), (leaving, &effect.samples.exited)] {
        if !people.is_empty() {
            line(out, what, &people.join(", "));
        }
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{}", format!("    {name:<14} {value}").trim_end());
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    colors: bool,
}

impl Paint {
    fn sign(self, action: Action) -> String {
        match action {
            Action::Add => self.green("+"),
            Action::Change => self.yellow("~"),
            Action::Remove => self.red("-"),
            Action::Follow => self.yellow(">"),
        }
    }
    fn with(self, code: u8, text: &str) -> String {
        if self.colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.with(1, text)
    }
    fn red(self, text: &str) -> String {
        self.with(31, text)
    }
    fn green(self, text: &str) -> String {
        self.with(32, text)
    }
    fn yellow(self, text: &str) -> String {
        self.with(33, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_stand_once() {
        let lines = query_lines("a\nb\nc", "a\nx\ny\nc");
        assert_eq!(lines, [(' ', "a"), ('-', "b"), ('+', "x"), ('+', "y"), (' ', "c")]);
        assert_eq!(query_lines("a\na", "a"), [(' ', "a"), ('-', "a")]);
        assert_eq!(query_lines("", "a"), [('+', "a")]);
    }
}
