//! Definitions that refer to each other.

use std::collections::{BTreeMap, BTreeSet};

use rollcall::audience::{
    Definition,
    check::{Checked, Known, check},
    parse,
    statement::Statement,
};

fn checked(definitions: &[(&str, &str)], known: &Known) -> Checked {
    let definitions: BTreeMap<String, Option<Definition>> = definitions
        .iter()
        .map(|(key, text)| match text.strip_prefix("sql: ") {
            Some(statement) => (
                key.to_string(),
                Some(Definition::Statement(Statement { text: statement.to_owned(), elsewhere: None })),
            ),
            None => (key.to_string(), Some(Definition::Query(parse(key, text).unwrap()))),
        })
        .collect();
    check(&definitions, &BTreeMap::new(), known)
}

#[test]
fn an_audience_comes_after_those_it_refers_to() {
    let checked = checked(
        &[
            ("a", "trait('b') = 'true' AND trait('d') = 'true'"),
            ("b", "event('X').where(trait('c') = 'true').count() >= 1"),
            ("c", "trait('plan') = 'pro'"),
            ("d", "NOT trait('c') = 'true'"),
        ],
        &Known::default(),
    );
    assert_eq!(checked.order, ["c", "b", "d", "a"]);
    assert!(checked.refused.is_empty() && checked.warnings.is_empty());
}

#[test]
fn an_audience_refers_to_the_computed_traits_that_it_reads_by_the_keys_under_which_they_are_stored() {
    let definition = |text: &str| Some(Definition::Query(parse("it", text).unwrap()));
    let definitions = BTreeMap::from([
        ("a".to_owned(), definition("trait('orders') >= 1 AND trait('b') = 'true' AND trait('plan') = 'pro'")),
        ("b".to_owned(), definition("event('X').where(property('y') > trait('revenue')).count() >= 1")),
    ]);
    let stored = [("orders", "orders"), ("revenue", "totals"), ("totals", "totals")];
    let traits = stored.map(|(key, stored)| (key.to_owned(), Some(stored.to_owned()))).into();
    let references = check(&definitions, &traits, &Known::default()).references;
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!((&references["a"], &references["b"]), (&keys(&["b", "orders"]), &keys(&["totals"])));
}

#[test]
fn a_cycle_is_refused_with_its_path_and_stops_only_those_that_hang_on_it() {
    let checked = checked(
        &[
            ("a", "trait('b') = 'true'"),
            ("b", "event('X').count() >= 1 AND NOT event('Y').where(trait('c').exists()).count() >= 1"),
            ("c", "trait('plan') = 'pro' OR trait('a') = 'true'"),
            ("d", "trait('a') = 'true'"),
            ("self", "trait('self') = 'true'"),
            ("fine", "trait('plan') = 'pro'"),
        ],
        &Known::default(),
    );
    assert_eq!(checked.order, ["fine"]);
    assert_eq!(checked.formulas.keys().collect::<Vec<_>>(), ["fine"]);
    for key in ["a", "b", "c", "self"] {
        assert_eq!(checked.refused[key].message, "The audience would create a cycle by referencing another audience");
    }
    assert_eq!(checked.refused["a"].help.as_deref(), Some("Break the circle a → b → c → a."));
    assert_eq!(checked.refused["self"].help.as_deref(), Some("Break the circle self → self."));
    assert_eq!(checked.refused["d"].message, "it refers to 'a', which cannot be computed");
}

#[test]
fn accounts_and_entities_are_read_and_refused_for_now() {
    let checked = checked(
        &[
            ("any", "ANY event('X').count() >= 1"),
            ("none", "trait('plan') = 'pro' OR NOT ALL NOT event('X').count() >= 1"),
            ("entity", "event('X').where(entity('orders').count() >= 1).count() >= 1"),
        ],
        &Known::default(),
    );
    assert!(checked.order.is_empty());
    assert!(checked.refused["any"].message.contains("account-level audiences are not computed yet"));
    assert!(checked.refused["none"].message.contains("account-level audiences are not computed yet"));
    assert!(checked.refused["entity"].message.starts_with("entity('orders') is of a linked audience"));
}

#[test]
fn a_name_that_nothing_has_is_a_warning_with_the_nearest_known_one() {
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let known = Known {
        carried: BTreeMap::new(),
        audiences: Vec::new(),
        computed: BTreeMap::new(),
        events: names(&["Order Completed", "Page Viewed"]),
        traits: names(&["plan", "address"]),
        properties: BTreeMap::from([("Order Completed".to_owned(), names(&["revenue", "products"]))]),
    };
    let checked = checked(
        &[
            ("a", "event('Order Complete').count() >= 1 AND trait('plam') = 'pro' AND trait('b') = 'true'"),
            ("b", "event('Order Completed').where(property('products.$.sku') = 'x').sum(property('revenu')) > 1"),
        ],
        &known,
    );
    assert_eq!(checked.order, ["b", "a"]);
    let warnings: Vec<_> = checked.warnings.iter().map(|(key, warning)| format!("{key}: {warning}")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    a: no event 'Order Complete' has been seen yet (did you mean 'Order Completed'?)
    a: no trait 'plam' has been seen yet (did you mean 'plan'?)
    b: no property of 'Order Completed' 'revenu' has been seen yet (did you mean 'revenue'?)
    ");
}

#[test]
fn a_statement_refers_to_nobody_and_may_be_referred_to() {
    let checked = checked(
        &[("a", "trait('z') = 'true'"), ("z", "sql: select user_id from t where trait('a')")],
        &Known::default(),
    );
    assert_eq!(checked.order, ["z", "a"]);
    assert!(checked.refused.is_empty() && checked.warnings.is_empty());
}
