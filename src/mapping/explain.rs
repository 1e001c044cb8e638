//! Where does a value come from? A plan in words, for `rollcall map --explain`.

use std::fmt::{self, Display, Formatter};

use super::{
    plan::{Plan, Test, Winner},
    template::Part,
    text::Case,
};
use crate::js;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Literal(value) => write!(f, "the constant {}", js::json_text(value)),
            Plan::Nothing => f.write_str("nothing"),
            Plan::Path(path) if path.is_root() => f.write_str("the whole event"),
            Plan::Path(path) => path.fmt(f),
            Plan::PathFrom(from) => write!(f, "the path that is in {from}"),
            Plan::Template(template) => {
                f.write_str("the text \"")?;
                for part in template.parts() {
                    match part {
                        Part::Text(text) => f.write_str(text)?,
                        Part::Value(path) => write!(f, "{{{path}}}")?,
                    }
                }
                f.write_str("\"")
            }
            Plan::TemplateFrom(from) => write!(f, "the template that is in {from}"),
            Plan::Liquid(_) => f.write_str("a Liquid template"),
            Plan::If(condition) => match &condition.test {
                Test::Exists(test) => {
                    write!(f, "if ({test}) exists ({}) else ({})", condition.then, condition.otherwise)
                }
                Test::Filled(test) => {
                    write!(f, "if ({test}) is not blank ({}) else ({})", condition.then, condition.otherwise)
                }
            },
            Plan::Case(Case::Lower, value) => write!(f, "({value}) in lower case"),
            Plan::Case(Case::Upper, value) => write!(f, "({value}) in upper case"),
            Plan::Replace(replace, value) => {
                write!(f, "({value})")?;
                replace
                    .steps
                    .iter()
                    .try_for_each(|step| write!(f, " with {:?} for {:?}", step.replacement, step.pattern))
            }
            Plan::ArrayPath(items, None) => items.fmt(f),
            Plan::ArrayPath(items, Some(shape)) => write!(f, "each of ({items}) as ({shape})"),
            Plan::Flatten { separator, value, .. } => write!(f, "({value}) flattened with {separator:?}"),
            Plan::Encode(value) => write!(f, "the JSON text of ({value})"),
            Plan::Decode(value) => write!(f, "({value}) read as JSON"),
            Plan::Merge(winner, objects) => {
                f.write_str("merged ")?;
                list(f, objects.iter())?;
                f.write_str(if *winner == Winner::First { ", the first wins" } else { ", the last wins" })
            }
            Plan::Transform(apply, mapping) => write!(f, "({mapping}) of ({apply})"),
            Plan::ExcludeWhenNull(value) => write!(f, "({value}) without nulls"),
            Plan::Array(items) => list(f, items.iter()),
            Plan::Object(members) => {
                f.write_str("{")?;
                for (at, (key, member)) in members.iter().enumerate() {
                    write!(f, "{}{key}: {member}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

fn list<'p>(f: &mut Formatter<'_>, plans: impl Iterator<Item = &'p Plan>) -> fmt::Result {
    f.write_str("[")?;
    for (at, plan) in plans.enumerate() {
        write!(f, "{}{plan}", if at > 0 { ", " } else { "" })?;
    }
    f.write_str("]")
}
