//! What is asked of the store: equal meanings become equal conditions, references become terms of the formula.

use std::fmt::Write;

use rollcall::audience::{
    conditions::{Formula, Keys, distinct, formula},
    parse,
};

fn keys() -> Keys {
    let stored = [("spent", "spent"), ("last", "totals"), ("skus", "skus")];
    Keys {
        audiences: ["a", "b", "c", "d", "e"].map(str::to_owned).into(),
        traits: stored.map(|(key, stored)| (key.to_owned(), stored.to_owned())).into(),
    }
}

fn split(text: &str) -> Formula {
    formula(&parse("it", text).unwrap_or_else(|error| panic!("{text}: {error:?}")), &keys()).unwrap()
}

fn refused(text: &str) -> String {
    formula(&parse("it", text).unwrap(), &keys()).unwrap_err().message
}

fn show(formula: &Formula) -> String {
    let joined = |terms: &[Formula], word: &str| {
        let terms: Vec<_> = terms.iter().map(show).collect();
        format!("({})", terms.join(word))
    };
    match formula {
        Formula::Everyone => "everyone".into(),
        Formula::Nobody => "nobody".into(),
        Formula::Condition(condition) => format!("[{}]", condition.0),
        Formula::Statement(statement) => format!("whom {} yields", statement.text),
        Formula::Member(key) => format!("member of {key}"),
        Formula::Value(comparison) => format!("computed {comparison}"),
        Formula::Not(inner) => format!("not {}", show(inner)),
        Formula::And(terms) => joined(terms, " and "),
        Formula::Or(terms) => joined(terms, " or "),
    }
}

#[test]
fn what_means_the_same_is_asked_once() {
    let same = [
        vec![
            "event('X').count() >= 1",
            "event('X').count() > 0",
            "event('X').count() >= .5",
            "NOT event('X').count() = 0",
        ],
        vec![
            "event('X').count() < 3",
            "event('X').count() <= 2",
            "event('X').count() <= 2.9",
            "NOT event('X').count() >= 3",
        ],
        vec!["event('X').count() != 2", "NOT event('X').count() = 2", "event('X').count() != 2.0"],
        vec!["trait('p').omits('x')", "NOT trait('p').contains('x')", "NOT (NOT trait('p').omits('x'))"],
        vec!["trait('p').none_of('x', 'y')", "NOT trait('p').one_of('y', 'x', 'y')"],
        vec!["trait('p').one_of('x')", "trait('p') = 'x'"],
        vec!["trait('p').absent()", "NOT trait('p').exists()"],
        vec!["trait('p').contains(5)", "trait('p').contains('5')"],
        vec![
            "event('X').within(7 days).where(property('a') = 1 AND property('b') = 2).count() >= 1",
            "event('X').where(property('b') = 2).where(property('a') = 1).within(1 week).count() >= 1",
            "event('X').within(168 hours).within(9 days).where(property('a') = 1.0 AND (property('b') = 2 AND property('a') = 1)).count() >= 1",
        ],
        vec![
            "event('X').sources({exclude: 'q', 'p'}).count() >= 1",
            "event('X').sources({exclude: 'p'}).sources({exclude: 'q', 'p'}).count() >= 1",
        ],
        vec!["event('X').sum(property('r')) < 5", "NOT event('X').sum(property('r')) >= 5"],
    ];
    for texts in same {
        let first = split(texts[0]);
        for text in &texts {
            assert_eq!(split(text), first, "{text}");
        }
        assert_eq!(distinct(&texts.iter().map(|text| split(text)).collect::<Vec<_>>()).len(), 1);
    }
}

#[test]
fn what_differs_by_a_missing_side_stays_apart() {
    for (a, b) in [
        ("trait('p') != 'x'", "NOT trait('p') = 'x'"),
        ("trait('p').omits(trait('q'))", "NOT trait('p').contains(trait('q'))"),
        ("trait('p').none_of('x', trait('q'))", "NOT trait('p').one_of('x', trait('q'))"),
        ("event('X').avg(property('r')) < 5", "NOT event('X').avg(property('r')) >= 5"),
        ("trait('p') = 5", "trait('p') = '5'"),
    ] {
        assert_ne!(split(a), split(b), "{a}");
    }
}

#[test]
fn references_and_constants_leave_only_what_must_be_asked() {
    let texts = [
        "trait('a') = 'true'",
        "trait('a') != 'true' OR trait('b').absent()",
        "trait('a').exists()",
        "trait('a') = 'pro' OR trait('a') > 5",
        "trait('a').contains('ru') AND trait('b').starts_with('f')",
        "trait('a') = trait('b')",
        "trait('a') = trait('plan')",
        "trait('a') != trait('plan')",
        "trait('plan') = trait('a')",
        "trait('a').before_last(7 days) OR trait('renews_at').before_date(trait('a'))",
        "event('X').where(trait('a') = 'true' AND property('p') = 1).count() >= 1",
        "event('X').where(trait('a') = 'true' OR property('p') = 1).count() = 0",
        "event('X').where(property('vip') = trait('a')).count() >= trait('b')",
        "event('X').where(event('Y').where(trait('a') = 'true').within(parent: 1 day).count() = 0).count() >= 1",
        "event('X').count() >= 0 AND event('X').count() = 1.5",
        "event('X').where(context('timestamp').absent()).sum(property('r')) = 0",
        "trait('a.b') = 'true'",
    ];
    let mut shown = String::new();
    for text in texts {
        writeln!(shown, "{text}\n    {}", show(&split(text))).unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn references_that_cannot_be_split_are_refused() {
    assert!(refused("trait('a') > trait('plan')").contains("compared by order"));
    assert!(refused("trait('a') = trait('tags.$')").contains("each entry"));
    let many = "event('X').where(trait('a') = 'true' OR trait('b') = 'true' OR trait('c') = 'true' OR trait('d') = 'true' OR trait('e') = 'true').count() >= 1";
    assert!(refused(many).contains("refers to 5 audiences"));
    assert!(refused("ANY trait('plan') = 'pro'").contains("account-level"));
}
