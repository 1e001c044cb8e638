//! Why someone is in, with the numbers, and when time alone will change it.

use proptest::prelude::*;
use rollcall::{
    audience::{
        Computed, Definition,
        catalogue::Catalogue,
        check::Known,
        explain::{NextChange, explain},
        interpret::Profile,
        outlook::Outlook,
        parse,
    },
    config::{self, Surroundings},
};
use serde_json::json;

use super::meaning::{NOW, at, event, profile};
use crate::support::{definitions, histories};

#[test]
fn an_explanation_shows_the_numbers_and_the_next_change() {
    let text = "(event('Order Completed').within(30 days).count() >= 2 OR trait('vip') = 'false') AND NOT trait('plan').one_of(trait('old_plan'))";
    let person = profile(
        json!({"plan": "pro", "tags": ["a"]}),
        vec![
            event("Order Completed", "2024-02-20T08:00:00Z", json!({})),
            event("Order Completed", "2024-03-01T08:00:00Z", json!({})),
            event("Order Completed", "2024-03-02T08:00:00Z", json!({})),
        ],
    );
    let explanation = explain(&parse("it", text).unwrap(), &person, at(NOW));
    insta::assert_json_snapshot!(explanation);
}

#[test]
fn time_alone_changes_an_answer_at_its_edge() {
    let person =
        profile(json!({"renews_at": "2024-03-15T00:00:00Z"}), vec![event("E", "2024-03-09T12:00:00Z", json!({}))]);
    for (text, change) in [
        ("event('E').within(7 days).count() >= 1", Some("2024-03-16T12:00:00Z")),
        ("event('E').between(2 days, 3 days).count() >= 1", Some("2024-03-11T12:00:00Z")),
        ("event('E').count() >= 1", None),
        ("trait('renews_at').within_next(7 days)", Some("2024-03-15T00:00:00.000001Z")),
        ("trait('renews_at').within_next(1 day)", Some("2024-03-14T00:00:00Z")),
        ("trait('renews_at').within_last(1 day)", Some("2024-03-15T00:00:00Z")),
        ("trait('renews_at').before_last(1 day)", Some("2024-03-16T00:00:00Z")),
        ("trait('renews_at').after_next(1 day)", Some("2024-03-14T00:00:00.000001Z")),
        ("trait('renews_at').before_date(2024-03-20)", None),
        (
            "event('E').where(context('timestamp').within_last(2 days)).count() >= 1",
            Some("2024-03-11T12:00:00.000001Z"),
        ),
    ] {
        let next = explain(&parse("it", text).unwrap(), &person, at(NOW)).next_change;
        assert_eq!(next, change.map_or(NextChange::Never, |change| NextChange::At(at(change))), "{text}");
    }
    let soon = profile(json!({}), vec![event("E", "2024-03-11T00:00:00Z", json!({}))]);
    let next = explain(&parse("it", "event('E').count() >= 1").unwrap(), &soon, at(NOW)).next_change;
    assert_eq!(next, NextChange::At(at("2024-03-11")), "an event of the future comes to exist");
}

/// What is known of somebody with a user_id, for these definitions.
fn outlook(catalogue: &Catalogue, history: Profile) -> Outlook<'_> {
    assert!(catalogue.refused.is_empty(), "{:?}", catalogue.refused);
    Outlook {
        audiences: &catalogue.audiences,
        history,
        identifier_types: ["user_id".to_owned()].into(),
        values: Default::default(),
        member_of: Default::default(),
    }
}

fn explained(outlook: &mut Outlook<'_>, key: &str, now: &str) -> (bool, NextChange) {
    let audience = outlook.audiences.iter().find(|audience| audience.key == key).expect("an audience");
    let Computed::Members { definition: Definition::Query(definition), .. } = &audience.computed else { panic!() };
    let explanation = outlook.explain(audience, definition, at(now));
    (explanation.holds, explanation.next_change)
}

#[test]
fn time_alone_changes_an_answer_through_what_it_refers_to() {
    let catalogue = catalogue(
        "
audiences:
  - {name: Recent, query: \"event('E').within(7 days).count() >= 1\"}
  - {name: Recent Vips, query: \"trait('tier') = 'gold' AND trait('recent') = 'true'\"}
  - {name: Others, query: \"NOT trait('recent_vips') = 'true'\"}
  - {name: Busy, query: \"trait('orders') >= 1\"}
  - {name: Counted, query: \"trait('orders') = 0\"}
  - {name: Renewing, query: \"trait('renewal').within_next(1 day)\"}
  - {name: Bought, sql: select user_id from buyers}
  - {name: Not Bought, query: \"trait('bought') = 'false'\"}
traits:
  - {name: Orders, query: event('E').within(2 days).count()}
  - {name: Renewal, query: event('E').last(property('renews_at'))}
",
    );
    let history =
        profile(json!({"tier": "gold"}), vec![event("E", "2024-03-09T12:00:00Z", json!({"renews_at": "2024-03-15"}))]);
    let mut outlook = outlook(&catalogue, history);
    for (key, answer) in [
        ("recent", (true, NextChange::At(at("2024-03-16T12:00:00Z")))),
        ("recent_vips", (true, NextChange::At(at("2024-03-16T12:00:00Z")))),
        ("others", (false, NextChange::At(at("2024-03-16T12:00:00Z")))),
        ("busy", (true, NextChange::At(at("2024-03-11T12:00:00Z")))),
        ("counted", (false, NextChange::At(at("2024-03-11T12:00:00Z")))),
        ("renewing", (false, NextChange::At(at("2024-03-14")))),
        ("not_bought", (true, NextChange::Unknown)),
    ] {
        assert_eq!(explained(&mut outlook, key, NOW), answer, "{key}");
    }
    outlook.identifier_types.clear();
    let answer = explained(&mut outlook, "recent", NOW);
    assert_eq!(answer.1, NextChange::Never, "nobody without an identifier ever becomes a member");
}

fn catalogue(config: &str) -> Catalogue {
    let around = Surroundings { variable: &|_| None, file: &|_| unreachable!() };
    Catalogue::of(&config::parse("a test", config, &around).unwrap(), &Known::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whoever_refers_to_an_audience_changes_when_it_changes(
        definition in definitions::definition_without_references(),
        profile in histories::profile(),
        at in histories::instant(),
    ) {
        let text = definition.to_string();
        prop_assume!(parse("it", &text).is_ok());
        let query = serde_json::Value::from(text).to_string();
        let catalogue = catalogue(&format!(
            "audiences:\n- {{name: Inner, query: {query}}}\n- {{name: Outer, query: \"NOT trait('inner') = 'true'\"}}\n"
        ));
        // Nobody but us says who is in these.
        let profile = Profile { memberships: Default::default(), ..profile };
        prop_assume!(catalogue.refused.is_empty());
        let inner = explain(&definition, &profile, at);
        let outer = explained(&mut outlook(&catalogue, profile), "outer", &at.to_rfc3339());
        prop_assert_eq!(outer, (!inner.holds, inner.next_change));
    }
}
