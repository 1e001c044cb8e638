//! Why someone is in, with the numbers, and when time alone will change it.

use rollcall::audience::{
    explain::{NextChange, explain},
    parse,
};
use serde_json::json;

use super::meaning::{NOW, at, event, profile};

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
