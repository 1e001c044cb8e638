//! Does an event say that somebody is in an audience, or out of it? The rule of the peer's destinations
//! (`audience-membership` of its core package).

use crate::js::{self, Json};

/// True is in, false is out, `None` cannot tell: not an audience's event, no key, or a value that is not a boolean.
pub fn told(event: &Json<'_>) -> Option<bool> {
    let personas = event.member("context")?.member("personas")?;
    let class = personas.member("computation_class")?.as_str()?;
    if !matches!(class, "audience" | "journey_step") {
        return None;
    }
    let key = personas.member("computation_key").filter(|key| !key.is_falsy()).map(js::string)?;
    let values = match event.member("type")?.as_str()? {
        "identify" => event.member("traits"),
        "track" => event.member("properties"),
        _ => None,
    };
    match values?.member(&key)?.view() {
        Json::Bool(member) => Some(*member),
        _ => None,
    }
}
