//! What holds of every definition and every text.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rollcall::audience::{
    ast::Expr,
    conditions::{Formula, formula},
    interpret::{Profile, holds},
    parse, parse_trait, print,
};

use crate::support::{definitions, histories};

fn audiences() -> BTreeSet<String> {
    histories::AUDIENCES.iter().map(|key| key.to_string()).collect()
}

/// What a formula says of one profile.
fn says(formula: &Formula, profile: &Profile, at: chrono::DateTime<chrono::Utc>) -> bool {
    match formula {
        Formula::Everyone => true,
        Formula::Nobody => false,
        Formula::Condition(condition) => {
            // A condition reads the store alone: it must not see memberships.
            let profile = Profile { memberships: Default::default(), ..profile.clone() };
            holds(&Expr::Compare(condition.0.clone()), &profile, at)
        }
        Formula::Member(key) => profile.memberships[key],
        Formula::Not(inner) => !says(inner, profile, at),
        Formula::And(terms) => terms.iter().all(|term| says(term, profile, at)),
        Formula::Or(terms) => terms.iter().any(|term| says(term, profile, at)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

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
        let Ok(formula) = formula(&definition, &audiences()) else { return Ok(()) };
        for profile in profiles {
            prop_assert_eq!(holds(&definition, &profile, at), says(&formula, &profile, at), "{} as {:#?}", definition, formula);
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
