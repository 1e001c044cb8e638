//! What does a record say, and of whom? An Identify read as a consumer reads it, without copying it. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The parts of an Identify that tell who is in what.
#[derive(Debug, Deserialize)]
pub struct Said<'a> {
    #[serde(borrow, default, rename = "userId")]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "anonymousId")]
    anonymous_id: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Context<'a>,
    #[serde(borrow)]
    pub traits: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    personas: Personas<'a>,
}

#[derive(Debug, Deserialize)]
struct Personas<'a> {
    #[serde(borrow)]
    computation_key: &'a RawValue,
}

impl<'a> Said<'a> {
    /// `None` if the value is no Identify of an audience or trait.
    pub fn read(value: &'a [u8]) -> Option<Said<'a>> {
        serde_json::from_slice(value).ok()
    }

    pub fn user_id(&self) -> Option<Cow<'a, str>> {
        self.user_id.and_then(text)
    }

    pub fn anonymous_id(&self) -> Option<Cow<'a, str>> {
        self.anonymous_id.and_then(text)
    }

    /// The audience's or trait's key.
    pub fn key(&self) -> Option<Cow<'a, str>> {
        text(self.context.personas.computation_key)
    }

    /// What is said under a name, as JSON text.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        first(self.traits.get(), name).or_else(|| {
            let members = self.members();
            members.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
        })
    }

    /// All that is said, as JSON text by name.
    pub fn members(&self) -> Vec<(String, &'a str)> {
        let members = serde_json::from_str::<std::collections::BTreeMap<String, &'a RawValue>>(self.traits.get());
        members.unwrap_or_default().into_iter().map(|(key, value)| (key, value.get())).collect()
    }
}

/// The boolean of an object's first member, if that goes by `name`: so our own events begin, and nothing need be parsed.
fn first<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let rest = object.strip_prefix("{\"")?.strip_prefix(name)?.strip_prefix("\":")?;
    let length = ["true", "false"].into_iter().find(|word| rest.starts_with(word))?.len();
    matches!(rest.as_bytes().get(length), Some(b',' | b'}')).then(|| &rest[..length])
}

/// The text of a JSON string; `None` of anything else.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identify_is_read_as_a_consumer_reads_it() {
        let event = br#"{"anonymousId":"a\"1","context":{"personas":{"computation_key":"vip"}},"traits":{"vip":true,"plan":1.50},"type":"identify"}"#;
        let said = Said::read(event).unwrap();
        assert_eq!((said.user_id(), said.anonymous_id().as_deref()), (None, Some("a\"1")));
        assert_eq!(
            (said.key().as_deref(), said.value("vip"), said.value("plan")),
            (Some("vip"), Some("true"), Some("1.50"))
        );
        assert_eq!(said.value("vi"), None);
        assert!(Said::read(b"{\"userId\":\"u1\"}").is_none());
    }
}
