//! The decision, over all facts that there can be.

use proptest::prelude::*;
use rollcall::{
    config::Delivery,
    deliver::{
        cursor::{Cursor, End},
        recover::{Decision, Facts, Found, Reason, decide},
    },
    delta::Chain,
    ids::{Position, RunId},
};
use uuid::Uuid;

fn facts() -> Facts {
    let end = End { run: RunId(7), chain: Chain(vec![1, 2]).to_hex() };
    Facts {
        delivery: Delivery::ExactlyOnce,
        stream: Uuid::from_u128(1),
        log_end: Position(30),
        mirror: Position(20),
        cursor: Found::Cursor(Cursor { stream: Uuid::from_u128(1), next: Position(20), end: Some(end) }),
        deleted: false,
        chain: Some(Chain(vec![1, 2])),
        recreated: Vec::new(),
    }
}

fn cursor(facts: &mut Facts) -> &mut Cursor {
    match &mut facts.cursor {
        Found::Cursor(cursor) => cursor,
        other => panic!("{other:?}"),
    }
}

fn halts(change: impl FnOnce(&mut Facts)) -> Option<Reason> {
    let mut facts = facts();
    change(&mut facts);
    match decide(&facts) {
        Decision::Halt(halt) => Some(halt.reason),
        _ => None,
    }
}

#[test]
fn a_cursor_that_fits_the_log_is_gone_on_from() {
    assert_eq!(decide(&facts()), Decision::Resume(Position(20)));
    let mirror_behind = Facts { mirror: Position(3), ..facts() };
    assert_eq!(decide(&mirror_behind), Decision::Resume(Position(20)));
    let all_told = Facts { log_end: Position(20), ..facts() };
    assert_eq!(decide(&all_told), Decision::Idle(Position(20)));
}

#[test]
fn a_fresh_start_tells_everything() {
    let fresh = Facts { cursor: Found::Nothing, chain: None, mirror: Position(0), ..facts() };
    assert_eq!(decide(&fresh), Decision::Resume(Position(0)));
    assert_eq!(decide(&Facts { log_end: Position(0), ..fresh }), Decision::Idle(Position(0)));
}

#[test]
fn what_does_not_add_up_halts_by_its_name() {
    assert_eq!(halts(|facts| facts.log_end = Position(19)), Some(Reason::CursorAhead));
    assert_eq!(halts(|facts| facts.mirror = Position(21)), Some(Reason::CursorBehind));
    assert_eq!(halts(|facts| facts.cursor = Found::Nothing), Some(Reason::CursorLost));
    let emptied = |facts: &mut Facts| {
        *facts = Facts { cursor: Found::Nothing, mirror: Position(0), chain: None, deleted: true, ..facts.clone() }
    };
    assert_eq!(halts(emptied), Some(Reason::CursorLost));
    assert_eq!(halts(|facts| facts.cursor = Found::Unreadable), Some(Reason::CursorUnreadable));
    assert_eq!(halts(|facts| cursor(facts).stream = Uuid::from_u128(2)), Some(Reason::OtherStream));
    assert_eq!(halts(|facts| facts.chain = Some(Chain(vec![9]))), Some(Reason::ChainDiffers));
    assert_eq!(halts(|facts| facts.chain = None), Some(Reason::ChainDiffers));
    assert_eq!(halts(|facts| cursor(facts).end = None), Some(Reason::TornTransaction));
    assert_eq!(halts(|facts| facts.recreated = vec!["audiences".into()]), Some(Reason::TopicRecreated));
}

#[test]
fn names_are_stable_and_every_reason_has_a_remedy() {
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let expected = [
        "cursor_ahead",
        "cursor_behind",
        "cursor_lost",
        "cursor_unreadable",
        "other_stream",
        "chain_differs",
        "torn_transaction",
        "topic_recreated",
        "log_damaged",
        "too_many_quarantined",
    ];
    assert_eq!(names, expected);
    let guarantees = include_str!("../../docs/guarantees.md");
    for reason in Reason::ALL {
        assert!(reason.remedy().ends_with('.'));
        assert!(guarantees.contains(&format!("`{}`", reason.name())), "{reason} is not in docs/guarantees.md");
    }
}

#[test]
fn a_cursor_reads_back_as_it_was_written() {
    let Found::Cursor(end) = facts().cursor else { unreachable!() };
    let text = r#"{"stream":"00000000-0000-0000-0000-000000000001","next":20,"run":7,"chain":"0102"}"#;
    assert_eq!(end.to_json(), text);
    assert_eq!(serde_json::from_str::<Cursor>(text).unwrap(), end);
    let begin = Cursor { end: None, ..end };
    assert_eq!(begin.to_json(), r#"{"stream":"00000000-0000-0000-0000-000000000001","next":20}"#);
    assert_eq!(serde_json::from_str::<Cursor>(&begin.to_json()).unwrap(), begin);
}

prop_compose! {
    fn any_facts()(
        log_end in 0i64..6, mirror in 0i64..6, next in 0i64..6, has_end: bool, kind in 0..4, same_stream in 0..4,
        chain in 0u8..3, log_chain in prop::option::of(0u8..3), recreated in 0..4, deleted: bool, at_least_once: bool,
    ) -> Facts {
        let end = has_end.then(|| End { run: RunId(1), chain: Chain(vec![chain]).to_hex() });
        let stream = Uuid::from_u128(u128::from(same_stream > 0));
        Facts {
            delivery: if at_least_once { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce },
            deleted,
            stream: Uuid::from_u128(1),
            log_end: Position(log_end),
            mirror: Position(mirror),
            cursor: match kind {
                0 => Found::Nothing,
                1 => Found::Unreadable,
                _ => Found::Cursor(Cursor { stream, next: Position(next), end }),
            },
            chain: log_chain.map(|byte| Chain(vec![byte])),
            recreated: if recreated == 0 { vec!["t".into()] } else { Vec::new() },
        }
    }
}

proptest! {
    /// Told again never, left out never: going on is only ever at the committed cursor, at or before the log's end,
    /// at or after all that was acknowledged.
    #[test]
    fn going_on_is_only_ever_at_the_committed_cursor(facts in any_facts()) {
        match decide(&facts) {
            Decision::Halt(_) => {}
            Decision::Resume(position) | Decision::Idle(position) => {
                prop_assert!(position <= facts.log_end);
                prop_assert!(position >= facts.mirror);
                prop_assert!(facts.recreated.is_empty());
                match &facts.cursor {
                    Found::Nothing => prop_assert!(position == Position(0) && !facts.deleted),
                    Found::Unreadable => prop_assert!(false, "went on from an unreadable cursor"),
                    Found::Cursor(cursor) => {
                        // Without transactions what may have been told is told again, never left out.
                        let once = facts.delivery == Delivery::ExactlyOnce;
                        prop_assert_eq!(position, if once { cursor.next } else { facts.mirror });
                        prop_assert!(position <= cursor.next);
                        prop_assert_eq!(cursor.stream, facts.stream);
                        let end = cursor.end.as_ref().map(|end| end.chain.clone());
                        prop_assert_eq!(end, facts.chain.as_ref().map(Chain::to_hex));
                    }
                }
                let idle = matches!(decide(&facts), Decision::Idle(_));
                prop_assert_eq!(idle, position == facts.log_end);
            }
        }
    }
}
