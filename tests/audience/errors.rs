//! What a person is told about a wrong definition: every place, what was expected, and how to mend it.

use rollcall::{
    audience::{parse, parse_trait},
    error::Error,
};

fn told(error: Error) -> String {
    let problems = error.problems.unwrap();
    let mut told = String::new();
    for problem in &problems.problems {
        let before = &problems.text[..problem.span.start];
        let (line, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
        let column = before[start..].chars().count() + 1;
        let place = &problems.text[problem.span.clone()];
        told += &format!("  {line}:{column} ⟨{place}⟩ {}\n      {}\n", problem.message, problem.help.as_ref().unwrap());
    }
    told
}

fn all(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{text}\n{}", told(parse("it", text).expect_err(text)))).collect()
}

#[test]
fn words_of_other_languages_are_named_in_this_one() {
    let told = all(&[
        "trait('a') = 'x' && trait('b') <> 'y' || !trait('c').exists()",
        "event(‘X’).count() >= 1 AND trait(“a”).exists()",
        "trait('a') = true OR trait('b') = null OR trait('c') > 1e6",
        "type = 'track'",
        "trait('a') == 'x' AND event = 'y'",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn misspelt_names_are_answered_with_the_nearest_known_one() {
    let told = all(&[
        "evnt('X').count() >= 1",
        "event('X').wihtin(7 days).count() >= 1",
        "event('X').within(7 dayz).counts() >= 1",
        "event('X').within(1 month).count() >= 1",
        "event('X').within(7 Days).count() >= 1",
        "event('X').within(1.5 days).count() >= 1 OR event('X').within(0 days).count() >= 1",
        "event('X').within(9000 weeks).count() >= 1 OR event('X').within(99999999999 days).count() >= 1",
        "trait('a').start_with('x') OR Trait('b').Exists()",
        "trait('a').frobnicate()",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn every_error_of_a_definition_is_told() {
    let told = all(&[
        "event('Order Completed')\n  .within(2 months)\n  .where(property('revenue') >< 5 AND propertyy('a') = 1)\n  .count() >= 1\nAND trait('plan') = pro\nOR trait('ü') >= ",
        "(trait('a').exists() AND trait('b') = ) OR (event('X').count()",
        "trait('a') = 'b' trait('c') = 'd'",
        "trait('a') = 'b') AND trait('c') = ",
        "trait('a') = 'b",
        "AND trait('a').exists()",
        "",
        "   ",
        "@",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn a_chain_goes_on_only_as_its_types_allow() {
    let told = all(&[
        "event('X')",
        "event('X') >= 1",
        "event('X').count()",
        "event('X').exists()",
        "event('X').unique(property('a')) = 'b'",
        "event('X').sum('revenue') > 1",
        "event('X').mode(property('a')) = 'b'",
        "event('X').min(property('a') as array) = 'b'",
        "trait('x').count() >= 1",
        "trait('x').exists().absent()",
        "trait('x') = 1 = 2",
        "(trait('x') = 1).exists()",
        "'pro' = trait('plan')",
        "literal(5) = trait('plan')",
        "trait('x') = event('Y')",
        "property('x') = 1",
        "event('X').where(property(parent: 'x') = 1).count() >= 1",
        "event('X').where(context(parent: 'x') = 1).within(parent: 1 day).count() >= 1",
        "event('X').where(ANY trait('x').exists()).count() >= 1",
        "event('X').expires_after(1 hour).count() >= 1",
        "event('X').between(10 days, 7 days).count() >= 1",
        "event('X').between(1 week, 7 days).count() >= 1",
        "event('').count() >= 1",
        "trait('a..b').exists() OR trait('').exists() OR trait('$.a').exists() OR trait('a.').exists()",
        "trait('a').before_date('tomorrow') OR trait('a') = 2024-02-30 OR trait('a').after_date(5)",
        "trait('a').contains(2024-01-01)",
        "trait('a').one_of() OR trait('a').one_of('b' 'c') OR trait('a').one_of(['b')",
        "event('A').where(event('B').where(event('C').where(event('D').count() >= 1).count() >= 1).count() >= 1).count() >= 1",
        "event('X').sources({include: 'a'}).count() >= 1",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn a_computed_trait_is_one_value_of_events() {
    let texts = ["trait('x')", "event('X')", "event('X').count() >= 1", "event('X').sum(property('a')).count()", "5"];
    let told: String =
        texts.iter().map(|text| format!("{text}\n{}", told(parse_trait("it", text).expect_err(text)))).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn limits_are_refused_with_their_figures() {
    let many = vec!["trait('a').exists()"; 51].join(" AND ");
    assert_eq!(only(&many), "51 comparisons, and a definition has at most 50");
    parse("it", &vec!["trait('a').exists()"; 50].join(" OR ")).unwrap();
    assert_eq!(
        only(&format!("trait('{}').exists()", "é".repeat(10_000))),
        "10018 characters, and a definition has at most 10000"
    );
    parse("it", &format!("trait('{}').exists()", "é".repeat(9_982))).unwrap();
    assert_eq!(only("trait('a\0') = 'b'"), "a NUL character");
}

#[test]
fn no_depth_overflows_the_stack() {
    for text in [
        "(".repeat(10_000),
        "NOT ".repeat(2_500),
        "!".repeat(10_000),
        "event('X').where(".repeat(588),
        "ALL ANY ".repeat(1_250),
        format!("{}trait('a').exists(){}", "(".repeat(4_000), ")".repeat(4_000)),
        "trait('a').one_of([".repeat(500),
        "trait('a') = event('b').where(".repeat(300),
    ] {
        let error = parse("it", &text).unwrap_err();
        assert!(error.problems.unwrap().problems.len() <= 20);
    }
    let deep = format!("{}trait('a').exists(){}", "(".repeat(40), ")".repeat(40));
    parse("it", &deep).unwrap();
}

fn only(text: &str) -> String {
    let problems = parse("it", text).unwrap_err().problems.unwrap().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].message.clone()
}
