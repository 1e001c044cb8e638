//! What is an audience called downstream? The key: derived from the name, never changed, never shared.

use heck::ToSnakeCase;

use crate::{
    error::{Error, Result},
    limits,
};

/// An audience or computed trait whose key is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub key: String,
    /// The name that its owner gave it.
    pub name: String,
    pub deleted: bool,
}

/// The key of an audience: the one given, else snake_case of the name. Fails if that makes no valid key.
///
/// Digits stay with their letters: `Order Completed Last 30days` gives `order_completed_last_30days`.
pub fn key_of(name: &str, given: Option<&str>) -> Result<String> {
    let key = match given {
        Some(key) => key.to_owned(),
        None => name.to_snake_case(),
    };
    if is_valid(&key) {
        return Ok(key);
    }
    let rule = format!(
        "A key begins with a letter a-z, goes on with a-z, 0-9 and _, and has at most {} characters",
        limits::AUDIENCE_KEY_BYTES
    );
    Err(match given {
        Some(_) => {
            let suggestion = key.to_snake_case();
            let error =
                Error::definition(format!("audience '{}' has a key that is none: '{}'", short(name), short(&key)));
            match is_valid(&suggestion) {
                true => error.help(format!("{rule}, as '{suggestion}'.")),
                false => error.help(format!("{rule}.")),
            }
        }
        None => Error::definition(format!("no key can be derived from the name '{}'", short(name)))
            .help(format!("Give it a `key`. {rule}.")),
    })
}

/// Whether a text can be a key.
pub fn is_valid(key: &str) -> bool {
    key.len() <= limits::AUDIENCE_KEY_BYTES
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Refuses a key that another audience or computed trait has, or had: a key stays on profiles and downstream after its
/// audience is gone, so a deleted one's is taken again only when `reuse` says so.
pub fn check_free(name: &str, key: &str, taken: &[Taken], reuse: bool) -> Result<()> {
    let collides = |other: &&Taken| other.key == key && (!other.deleted || !reuse);
    let Some(other) = taken.iter().find(collides) else { return Ok(()) };
    let message = format!(
        "audience '{}' has the key '{key}', which is that of {}'{}'",
        short(name),
        if other.deleted { "the deleted " } else { "" },
        short(&other.name)
    );
    Err(Error::definition(message).help(if other.deleted {
        "Give it another `key`, or set `reuse_deleted_key: true`: the new one then goes on from what was told under that key."
    } else {
        "Give one of them another `key`, or another name."
    }))
}

/// Names under which consumers look for who somebody is: `true` must not stand in their place.
const RESERVED: [&str; 8] =
    ["id", "user_id", "anonymous_id", "group_id", "email", "cross_domain_id", "ga_client_id", "braze_id"];

/// Refuses a key that is an identifier's, or the name of an imported trait that `carried` profiles have: under it the trait could be
/// read no more, here and downstream. `hides` says that this is meant.
pub fn check_hidden(name: &str, key: &str, types: &[&str], carried: Option<u64>, hides: bool) -> Result<()> {
    let what = match carried {
        _ if hides => return Ok(()),
        _ if RESERVED.contains(&key) || types.contains(&key) => "an identifier's name".to_owned(),
        Some(profiles) if profiles > 0 => format!("the name of an imported trait (profiles that have it: {profiles})"),
        _ => return Ok(()),
    };
    let message = format!("'{}' has the key '{key}', which is {what}", short(name));
    Err(Error::definition(message).help(format!(
        "Give it another `key`, or set `hides_trait: true`: from then on trait('{key}') means this one, and consumers are told it in its place."
    )))
}

/// A name as a message can hold it.
fn short(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stay_with_their_letters() {
        assert_eq!(key_of("Order Completed Last 30days", None).unwrap(), "order_completed_last_30days");
        assert_eq!(key_of("VIP: big-spenders (EU)", None).unwrap(), "vip_big_spenders_eu");
    }

    #[test]
    fn a_name_without_a_key_asks_for_one() {
        for name in ["", "30 days", "Žena", "日本", "!!!", &"long ".repeat(100)] {
            let error = key_of(name, None).unwrap_err();
            assert!(error.help.unwrap().starts_with("Give it a `key`."), "{name}");
            assert_eq!(key_of(name, Some("women")).unwrap(), "women");
        }
    }

    #[test]
    fn a_wrong_key_is_answered_with_a_right_one() {
        let error = key_of("Big", Some("Big Spenders")).unwrap_err();
        assert!(error.help.unwrap().ends_with("as 'big_spenders'."));
    }

    #[test]
    fn a_key_that_hides_a_trait_or_an_identifier_is_taken_only_on_demand() {
        for (key, carried) in [("email", None), ("user_id", None), ("crm_id", None), ("plan", Some(3))] {
            let error = check_hidden("A", key, &["crm_id"], carried, false).unwrap_err();
            assert!(error.help.unwrap().contains("hides_trait"), "{key}");
            check_hidden("A", key, &["crm_id"], carried, true).unwrap();
        }
        assert!(check_hidden("Plan", "plan", &[], Some(3), false).unwrap_err().message.contains("have it: 3"));
        check_hidden("A", "plan", &[], None, false).unwrap();
    }

    #[test]
    fn a_collision_names_the_other_one_and_a_deleted_key_is_reused_only_on_demand() {
        let taken = [
            Taken { key: "vip".into(), name: "V.I.P.".into(), deleted: false },
            Taken { key: "old".into(), name: "Old ones".into(), deleted: true },
        ];
        assert!(check_free("VIP", "vip", &taken, true).unwrap_err().message.contains("'V.I.P.'"));
        assert!(check_free("Old", "old", &taken, false).unwrap_err().message.contains("deleted 'Old ones'"));
        check_free("Old", "old", &taken, true).unwrap();
        check_free("New", "new", &taken, false).unwrap();
    }
}
