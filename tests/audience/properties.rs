//! What holds of every definition and every text.

use proptest::prelude::*;
use rollcall::audience::{
    ast::Expr,
    conditions::{Formula, Keys, distinct, formula, references},
    explain::{NextChange, explain},
    interpret::{Profile, holds},
    parse, parse_trait, print,
};

use crate::support::{definitions, histories};

fn keys() -> Keys {
    Keys { audiences: histories::AUDIENCES.iter().map(|key| key.to_string()).collect(), ..Keys::default() }
}

/// Some of the traits are computed.
fn keys_with_traits() -> Keys {
    let own = |key: &str| (key.to_owned(), key.to_owned());
    Keys { traits: ["score", "tags", "renews_at"].map(own).into(), ..keys() }
}

/// What a formula says of one profile.
fn says(formula: &Formula, profile: &Profile, at: chrono::DateTime<chrono::Utc>) -> bool {
    match formula {
        Formula::Everyone => true,
        Formula::Nobody | Formula::Statement(_) => false,
        Formula::Condition(condition) => {
            // A condition reads the store alone: it must not see memberships.
            let profile = Profile { memberships: Default::default(), ..profile.clone() };
            holds(&Expr::Compare(condition.0.clone()), &profile, at)
        }
        Formula::Member(key) => profile.memberships[key],
        Formula::Value(comparison) => holds(&Expr::Compare(comparison.clone()), profile, at),
        Formula::Not(inner) => !says(inner, profile, at),
        Formula::And(terms) => terms.iter().all(|term| says(term, profile, at)),
        Formula::Or(terms) => terms.iter().any(|term| says(term, profile, at)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_printed_definition_is_read_as_the_same_tree(definition in definitions::definition()) {
        let text = print(&definition);
        let read = parse("it", &text);
        // The generator knows no limit on size.
        prop_assume!(text.len() < 10_000);
        match read {
            Ok(read) => prop_assert_eq!(read, definition),
            Err(error) => {
                let problems = error.problems.unwrap().problems;
                prop_assert!(problems.iter().all(|p| p.message.contains("at most 50") || p.message.contains("deep")), "{}: {:?}", text, problems);
            }
        }
    }

    #[test]
    fn a_formula_means_what_its_definition_means(
        definition in definitions::definition(),
        profiles in prop::collection::vec(histories::profile(), 4),
        at in histories::instant(),
    ) {
        // References that cannot be split are refused, and there is nothing to compare.
        let Ok(formula) = formula(&definition, &keys_with_traits()) else { return Ok(()) };
        for profile in profiles {
            prop_assert_eq!(holds(&definition, &profile, at), says(&formula, &profile, at), "{} as {:#?}", definition, formula);
        }
    }

    #[test]
    fn a_formula_over_traits_means_what_its_comparison_means(
        cases in prop::collection::vec((definitions::comparison_of_traits(), histories::profile_without_events()), 20),
    ) {
        for (comparison, profile) in cases {
            let comparison = Expr::Compare(comparison);
            let Ok(formula) = formula(&comparison, &keys_with_traits()) else { continue };
            let at = histories::now();
            prop_assert_eq!(holds(&comparison, &profile, at), says(&formula, &profile, at), "{} as {:#?} of {}", comparison, formula, profile.traits);
        }
    }

    #[test]
    fn a_condition_is_in_its_one_form(comparison in definitions::condition()) {
        let split = formula(&Expr::Compare(comparison), &keys()).unwrap();
        for condition in distinct([&split]) {
            let again = formula(&Expr::Compare(condition.0.clone()), &keys()).unwrap();
            prop_assert_eq!(again, Formula::Condition(condition.clone()));
            let read = parse("it", &condition.0.to_string());
            if let Ok(read) = read {
                prop_assert_eq!(read, Expr::Compare(condition.0.clone()), "a condition is printed in the language");
            }
        }
    }

    #[test]
    fn a_definition_without_references_asks_for_no_membership(definition in definitions::definition_without_references()) {
        prop_assert!(references(&definition, &keys().audiences).is_empty());
        let formula = format!("{:?}", formula(&definition, &keys()).unwrap());
        prop_assert!(!formula.contains("Member("));
    }

    #[test]
    fn time_alone_changes_an_answer_when_explain_says_so(
        definition in definitions::definition(),
        profile in histories::profile(),
        at in histories::instant(),
        later in prop::collection::vec(histories::instant(), 20),
    ) {
        let now = holds(&definition, &profile, at);
        let change = match explain(&definition, &profile, at).next_change {
            NextChange::At(change) => {
                prop_assert!(change > at);
                prop_assert_eq!(holds(&definition, &profile, change), !now, "{}", definition);
                Some(change)
            }
            NextChange::Never => None,
            NextChange::Unknown => return Ok(()),
        };
        let just_before = change.map(|change| change - chrono::TimeDelta::microseconds(1));
        for later in later.into_iter().chain(just_before) {
            if later > at && change.is_none_or(|change| later < change) {
                prop_assert_eq!(holds(&definition, &profile, later), now, "{} changes before at {}", definition, later);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse("it", &text);
        let _ = parse_trait("it", &text);
    }

    #[test]
    fn no_soup_of_tokens_makes_the_parser_panic(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..40)) {
        let text = tokens.join(" ");
        for error in [parse("it", &text).err(), parse_trait("it", &text).err()].into_iter().flatten() {
            let problems = error.problems.unwrap();
            prop_assert!(!problems.problems.is_empty());
            for problem in problems.problems {
                prop_assert!(text.get(problem.span).is_some(), "a problem points at its text");
                prop_assert!(problem.help.is_some());
            }
        }
    }
}

const TOKENS: &[&str] = &[
    "event('X')",
    "trait('a')",
    "property('p')",
    "property(parent: 'p')",
    "context('timestamp')",
    "entity('e')",
    ".where(",
    ".within(",
    "7 days",
    "1 month",
    "parent:",
    ".between(",
    ".count()",
    ".sum(",
    ".unique(",
    ".mode(",
    "as string",
    ", 2",
    ")",
    "(",
    "AND",
    "or",
    "NOT",
    "ALL",
    ">= 1",
    "= 'x'",
    "!=",
    "==",
    ".20",
    "2024-01-01",
    "2024-13-01",
    "'open",
    "[",
    "]",
    "{",
    "}",
    "&&",
    "!",
    "‘x’",
    "“",
    ".",
    ",",
    ":",
    ".exists()",
    ".one_of('a', 'b')",
    ".sources({exclude: 's'})",
    "literal(1)",
    "1e5",
    "Event('X')",
    "ü",
    "\u{1F600}",
];

#[test]
fn random_cases_are_worth_their_time() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (definitions, profiles, instants) = (definitions::definition(), histories::profile(), histories::instant());
    let (mut of, mut hold, mut decided, mut refused, mut same) = (0, 0, 0, 0, 0);
    for _ in 0..300 {
        let definition = definitions.new_tree(&mut runner).unwrap().current();
        let answers: Vec<bool> = (0..8)
            .map(|_| {
                let profile = profiles.new_tree(&mut runner).unwrap().current();
                let at = instants.new_tree(&mut runner).unwrap().current();
                holds(&definition, &profile, at)
            })
            .collect();
        of += 1;
        hold += usize::from(answers[0]);
        same += usize::from(answers.iter().all(|a| *a == answers[0]));
        match formula(&definition, &keys()) {
            Ok(Formula::Everyone | Formula::Nobody) => decided += 1,
            Ok(_) => {}
            Err(_) => refused += 1,
        }
    }
    assert!((of / 5..of * 4 / 5).contains(&hold), "{hold} of {of} hold");
    assert!(decided < of / 5, "{decided} of {of} need no history");
    assert!(refused < of / 5, "{refused} of {of} cannot be split");
    assert!(same < of * 4 / 5, "{same} of {of} give eight people the same answer");
}
