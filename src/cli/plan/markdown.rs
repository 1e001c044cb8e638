//! A plan for a pull request: a table of what it does, and what changes below it.

use std::fmt::Write as _;

use super::text::{mapping, query_lines, summary};
use crate::{
    audience::Class,
    plan::{Action, AudienceChange, Field, Plan},
};

/// The plan as Markdown. It names nobody: samples are left out, since others read along.
pub fn markdown(plan: &Plan) -> String {
    let mut out = String::from("### Rollcall plan\n\n");
    for (key, why) in &plan.refused {
        let _ = writeln!(out, "- ❌ `{key}` cannot be computed: {}", escaped(why));
    }
    if !plan.refused.is_empty() {
        out.push('\n');
    }
    if plan.is_empty() {
        out.push_str("Nothing to do.\n");
        return out;
    }
    for (class, heading) in [
        (Class::Audience, "audience | members | enter | leave"),
        (Class::Trait, "trait | with a value | other value | no value"),
    ] {
        let mut changes = plan.audiences.iter().filter(|change| change.class == class).peekable();
        if changes.peek().is_some() {
            let _ = writeln!(out, "| | {heading} | Identify events |\n|---|---|--:|--:|--:|---|");
            changes.for_each(|change| row(&mut out, change));
            out.push('\n');
        }
    }
    for change in &plan.audiences {
        let _ = writeln!(out, "#### {} `{}` ({})\n", sign(change.action), change.key, escaped(&change.name));
        details(&mut out, &change.fields, &change.notes);
        if let Some(why) = change.effect.as_ref().and_then(|effect| effect.held_because.as_ref()) {
            let _ = writeln!(out, "> ⚠️ The guard holds it unless this is confirmed: {}\n", escaped(why));
        }
        if let Some(why) = &change.failed {
            let _ = writeln!(out, "> ❌ {}\n", escaped(why));
        }
    }
    for change in &plan.destinations {
        let _ = writeln!(out, "#### {} destination `{}`\n", sign(change.action), change.name);
        details(&mut out, &change.fields, &change.notes);
    }
    let _ = writeln!(out, "{}", summary(plan));
    out
}

fn row(out: &mut String, change: &AudienceChange) {
    let effect = change.effect.as_ref();
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let members = effect.map_or(String::new(), |effect| match effect.members_before {
        Some(before) => format!("{before} → {}", effect.members),
        None => effect.members.to_string(),
    });
    let told = effect.map(|effect| {
        let least = if effect.at_least { "≥ " } else { "" };
        let each = effect.identifies.iter().map(|(name, told)| format!("{name}: {least}{}", told.changes()));
        each.collect::<Vec<_>>().join(", ")
    });
    let held = if effect.is_some_and(|effect| effect.held_because.is_some()) { " ⚠️" } else { "" };
    let _ = writeln!(
        out,
        "| {} | `{}`{held} | {members} | {} | {} | {} |",
        sign(change.action),
        change.key,
        number(effect.map(|effect| effect.entered)),
        number(effect.map(|effect| effect.exited)),
        told.unwrap_or_default(),
    );
}

fn details(out: &mut String, fields: &[Field], notes: &[String]) {
    for field in fields.iter().filter(|field| field.field == "query") {
        let (from, to) = (field.from.as_deref().unwrap_or(""), field.to.as_deref().unwrap_or(""));
        // A definition may itself hold a fence; a longer one holds it.
        let fence = "`".repeat(3.max(longest_run(from).max(longest_run(to)) + 1));
        let _ = writeln!(out, "{fence}diff");
        for (sign, line) in query_lines(from, to) {
            let _ = writeln!(out, "{sign} {line}");
        }
        let _ = writeln!(out, "{fence}\n");
    }
    let others = fields.iter().filter(|field| field.field != "query").map(|field| match mapping(field) {
        Some(said) => format!("- {}", escaped(&said)),
        None => match (&field.from, &field.to) {
            (Some(from), Some(to)) => format!("- {}: {} → {}", field.field, escaped(from), escaped(to)),
            (from, to) => {
                format!("- {}: {}", field.field, escaped(to.as_ref().or(from.as_ref()).map_or("", String::as_str)))
            }
        },
    });
    let lines: Vec<String> =
        others.chain(notes.iter().map(|note| format!("- {}", escaped(note).replace("\\`", "`")))).collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "{}\n", lines.join("\n"));
    }
}

fn sign(action: Action) -> &'static str {
    match action {
        Action::Add => "➕",
        Action::Change => "✏️",
        Action::Remove => "➖",
        Action::Follow => "↪️",
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Text that a person wrote, as text: no table cell, link or tag comes of it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out
}
