//! What does a mapping do, once it is understood? The compiled form of directives, and how it is applied to an event.
//!
//! A plan that exists is valid: [`super::compile`] builds no other. What can still fail depends on the event.

use std::borrow::Cow;

use super::{
    Fault,
    event::Event,
    liquid::Liquid,
    path::Path,
    reads::Reads,
    shape,
    template::Template,
    text::{Case, Replace},
};
use crate::js::{self, Json, Members, settle_repeats};

/// One node of a mapping.
#[derive(Debug)]
pub enum Plan {
    /// Holds no directive: referred to, never copied.
    Literal(Json<'static>),
    Object(Vec<(String, Plan)>),
    Array(Vec<Plan>),
    Path(Path),
    /// `@path` whose text comes from another directive.
    PathFrom(Box<Plan>),
    Template(Template),
    TemplateFrom(Box<Plan>),
    Liquid(Liquid),
    If(Box<Condition>),
    Case(Case, Box<Plan>),
    Replace(Replace, Box<Plan>),
    /// `@arrayPath`: the items, and the shape of each.
    ArrayPath(Box<Plan>, Option<Box<Plan>>),
    Flatten {
        separator: String,
        value: Box<Plan>,
        omit_arrays: bool,
    },
    Encode(Box<Plan>),
    Decode(Box<Plan>),
    Merge(Winner, Vec<Plan>),
    /// `@transform`: the second mapping reads what the first made.
    Transform(Box<Plan>, Box<Plan>),
    ExcludeWhenNull(Box<Plan>),
    /// Resolves to nothing.
    Nothing,
}

#[derive(Debug)]
pub struct Condition {
    pub test: Test,
    pub then: Plan,
    pub otherwise: Plan,
}

#[derive(Debug)]
pub enum Test {
    /// Neither null nor nothing.
    Exists(Plan),
    /// The peer's `blank`, which holds when the value is *not* blank: neither absent nor `== ""` in JavaScript.
    Filled(Plan),
}

/// Which object of a merge wins: the last (direction `right`) or the first (`left`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    Last,
    First,
}

/// What directives read: the event, or a value that `@arrayPath` or `@transform` put in its place.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a, 'e> {
    Event(&'a Event<'e>),
    Value(&'a Json<'a>),
}

impl<'a, 'e: 'a> Scope<'a, 'e> {
    pub fn get(self, path: &Path) -> Json<'a> {
        match self {
            Scope::Event(event) => event.get(path),
            Scope::Value(value) => path.of(value),
        }
    }

    /// The whole.
    pub fn whole(self) -> &'a Json<'a> {
        match self {
            Scope::Event(event) => event.tree(),
            Scope::Value(value) => value,
        }
    }
}

impl Plan {
    /// The whole output for an event, without the members that have no value.
    pub fn output<'a, 'e: 'a>(&'a self, event: &'a Event<'e>) -> Result<Json<'a>, Fault> {
        if !event.is_object() {
            return Err(format!("data must be an object, got {}", event.tree().kind()));
        }
        self.resolve(Scope::Event(event)).map(shape::without_undefined)
    }

    /// The value that this node becomes.
    pub fn resolve<'a, 'e: 'a>(&'a self, scope: Scope<'a, 'e>) -> Result<Json<'a>, Fault> {
        Ok(match self {
            Plan::Literal(value) => Json::Ref(value),
            Plan::Nothing => Json::Undefined,
            Plan::Path(path) => scope.get(path),
            Plan::Template(template) => Json::Text(Cow::Owned(template.render(|path| scope.get(path)))),
            Plan::Object(members) => {
                let mut object = Vec::with_capacity(members.len());
                resolve_members(members, scope, &mut object)?;
                Json::Object(object)
            }
            Plan::Array(items) => Json::Array(items.iter().map(|item| item.resolve(scope)).collect::<Result<_, _>>()?),
            Plan::PathFrom(text) => {
                let text = wanted_text("@path", text.resolve(scope)?)?;
                scope.get(&Path::parse(&text))
            }
            Plan::TemplateFrom(text) => {
                let text = wanted_text("@template", text.resolve(scope)?)?;
                Json::Text(Cow::Owned(Template::parse(&text).render(|path| scope.get(path))))
            }
            Plan::Liquid(liquid) => Json::Text(Cow::Owned(liquid.render(scope.whole())?)),
            Plan::If(condition) => {
                let holds = match &condition.test {
                    Test::Exists(value) => !value.resolve(scope)?.is_absent(),
                    Test::Filled(value) => !is_blank(&value.resolve(scope)?),
                };
                (if holds { &condition.then } else { &condition.otherwise }).resolve(scope)?
            }
            Plan::Case(case, value) => case.of(value.resolve(scope)?),
            Plan::Replace(replace, value) => Json::Text(Cow::Owned(replace.of(&value.resolve(scope)?))),
            Plan::ArrayPath(items, shape) => array_path(items.resolve(scope)?, shape.as_deref())?,
            Plan::Flatten { separator, value, omit_arrays } => {
                shape::flatten(value.resolve(scope)?, separator, *omit_arrays)
            }
            Plan::Encode(value) => match value.resolve(scope)? {
                Json::Undefined => Json::Undefined,
                value => Json::Text(Cow::Owned(js::json_text(&value))),
            },
            Plan::Decode(value) => shape::decode(value.resolve(scope)?),
            Plan::Merge(winner, objects) => merged(winner, objects, scope)?,
            Plan::Transform(apply, mapping) => transformed(apply, mapping, scope)?,
            Plan::ExcludeWhenNull(value) => shape::without_nulls(value.resolve(scope)?),
        })
    }
}

impl Plan {
    /// Adds what is read of the event. Below `@arrayPath` and `@transform` it reads what they put in its place.
    pub fn add_reads(&self, reads: &mut Reads) {
        match self {
            Plan::Literal(_) | Plan::Nothing => {}
            Plan::Path(path) => reads.path(path),
            Plan::Template(template) => template.paths().for_each(|path| reads.path(path)),
            // What these name is known only when the event comes.
            Plan::PathFrom(_) | Plan::TemplateFrom(_) | Plan::Liquid(_) => *reads = Reads::All,
            Plan::Object(members) => members.iter().for_each(|(_, member)| member.add_reads(reads)),
            Plan::Array(plans) | Plan::Merge(_, plans) => plans.iter().for_each(|plan| plan.add_reads(reads)),
            Plan::If(condition) => {
                let (Test::Exists(test) | Test::Filled(test)) = &condition.test;
                [test, &condition.then, &condition.otherwise].into_iter().for_each(|plan| plan.add_reads(reads));
            }
            Plan::Case(_, value)
            | Plan::Replace(_, value)
            | Plan::ArrayPath(value, _)
            | Plan::Flatten { value, .. }
            | Plan::Encode(value)
            | Plan::Decode(value)
            | Plan::Transform(value, _)
            | Plan::ExcludeWhenNull(value) => value.add_reads(reads),
        }
    }
}

/// Each item in the given shape. A single object counts as an array of one; anything else passes through.
fn array_path<'a>(items: Json<'a>, shape: Option<&'a Plan>) -> Result<Json<'a>, Fault> {
    let Some(shape) = shape else { return Ok(items) };
    if !matches!(items.view(), Json::Array(_) | Json::Object(_)) {
        return Ok(items);
    }
    if let Json::Ref(items) = items {
        // The items live in the event: what the shape finds in them is referred to.
        let shaped = each(items.view()).map(|item| shape.resolve(Scope::Value(item)));
        return Ok(Json::Array(shaped.collect::<Result<_, _>>()?));
    }
    let shaped = each(&items).map(|item| Ok(shape.resolve(Scope::Value(item))?.into_owned()));
    Ok(Json::Array(shaped.collect::<Result<_, Fault>>()?))
}

fn each<'v, 'a>(items: &'v Json<'a>) -> impl Iterator<Item = &'v Json<'a>> {
    match items {
        Json::Array(items) => items.iter(),
        single => std::slice::from_ref(single).iter(),
    }
}

fn merged<'a, 'e: 'a>(winner: &Winner, objects: &'a [Plan], scope: Scope<'a, 'e>) -> Result<Json<'a>, Fault> {
    let mut members = Vec::with_capacity(16);
    let mut add = |object: &'a Plan| match object {
        // Straight to where it goes.
        Plan::Object(more) => resolve_members(more, scope, &mut members),
        object => object.resolve(scope).map(|made| shape::assign(&mut members, made)),
    };
    match winner {
        Winner::Last => objects.iter().try_for_each(&mut add)?,
        Winner::First => objects.iter().rev().try_for_each(&mut add)?,
    }
    Ok(Json::Object(settle_repeats(members)))
}

/// What `mapping` makes of what `apply` makes.
fn transformed<'a, 'e: 'a>(apply: &'a Plan, mapping: &Plan, scope: Scope<'a, 'e>) -> Result<Json<'a>, Fault> {
    // Nothing counts as an empty object.
    if !matches!(scope.whole().view(), Json::Object(_) | Json::Undefined) {
        return Err(format!("@transform: data must be an object, got {}", scope.whole().kind()));
    }
    let made = shape::without_undefined(apply.resolve(scope)?);
    // What the mapping finds lives in `made`, which ends here.
    Ok(mapping.resolve(Scope::Value(&made))?.into_owned())
}

/// Adds the members of an object. One without a value stays for now: in a merge it hides those before it.
fn resolve_members<'a, 'e: 'a>(
    members: &'a [(String, Plan)],
    scope: Scope<'a, 'e>,
    object: &mut Members<'a>,
) -> Result<(), Fault> {
    for (key, plan) in members {
        object.push((Cow::Borrowed(key), plan.resolve(scope)?));
    }
    Ok(())
}

fn wanted_text<'a>(directive: &str, value: Json<'a>) -> Result<Cow<'a, str>, Fault> {
    match value {
        Json::Text(text) => Ok(text),
        Json::Ref(value) => match value.view() {
            Json::Text(text) => Ok(text.clone()),
            other => Err(format!("{directive}: expected string, got {}", other.kind())),
        },
        other => Err(format!("{directive}: expected string, got {}", other.kind())),
    }
}

/// Absent, or equal to the empty text by JavaScript's `==`: false, zero, and arrays that join to nothing.
fn is_blank(value: &Json<'_>) -> bool {
    match value.view() {
        Json::Array(_) => js::string(value).is_empty(),
        _ => value.is_falsy(),
    }
}
