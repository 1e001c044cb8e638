//! Whose is each message?

use serde_json::{Value, json};
use sqlx::PgPool;

use super::{count, import, lines};
use crate::support::postgres::Database;

fn seen(id: &str, user: Option<&str>, anonymous: Option<&str>) -> Value {
    json!({"type": "track", "event": "Seen", "messageId": id, "timestamp": "2024-01-01", "userId": user, "anonymousId": anonymous})
}

/// The identifiers of each profile, as `anonymous_id:a1 user_id:u1`.
async fn people(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select string_agg(type || ':' || value, ' ' order by type, value) from identifiers group by profile_id order by profile_id")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_an_anonymous_visitor_did_becomes_the_known_users() {
    for split in [false, true] {
        let database = Database::fresh().await;
        let before = lines(&[seen("1", None, Some("a1")), seen("2", None, Some("a1"))]);
        let after =
            lines(&[seen("3", Some("u1"), Some("a1")), seen("4", Some("u1"), None), seen("5", Some("u1"), Some("a2"))]);
        if split {
            import(&database.pool, &before).await;
            import(&database.pool, &after).await;
        } else {
            import(&database.pool, &(before + &after)).await;
        }
        assert_eq!(people(&database.pool).await, ["anonymous_id:a1 anonymous_id:a2 user_id:u1"]);
        assert_eq!(count(&database.pool, "select count(*) from events where profile_id = 1").await, 5);
    }
}

#[tokio::test]
async fn two_people_who_share_a_device_stay_two() {
    for split in [false, true] {
        let database = Database::fresh().await;
        let before = lines(&[seen("1", Some("u1"), Some("a1"))]);
        let after = lines(&[seen("2", Some("u2"), Some("a1")), seen("3", None, Some("a1"))]);
        if split {
            import(&database.pool, &before).await;
            import(&database.pool, &after).await;
        } else {
            import(&database.pool, &(before + &after)).await;
        }
        assert_eq!(people(&database.pool).await, ["anonymous_id:a1 user_id:u1", "user_id:u2"]);
        assert_eq!(count(&database.pool, "select count(*) from events where profile_id = 1").await, 2);
    }
}

#[tokio::test]
async fn profiles_that_turn_out_to_be_one_person_become_the_first_created() {
    for split in [1, 2, 3, 100] {
        let database = Database::fresh().await;
        let pool = &database.pool;
        let messages = [
            seen("1", None, Some("a1")),
            json!({"type": "identify", "messageId": "2", "anonymousId": "a1", "timestamp": "2024-01-05", "traits": {"plan": "new", "city": "Ulm"}}),
            json!({"type": "identify", "messageId": "3", "userId": "u1", "timestamp": "2024-01-03", "traits": {"plan": "old", "age": 7}}),
            json!({"type": "group", "messageId": "4", "userId": "u1", "groupId": "g", "timestamp": "2024-01-03"}),
            seen("5", Some("u1"), None),
            seen("6", Some("u1"), Some("a1")),
        ];
        for part in messages.chunks(split) {
            import(pool, &lines(part)).await;
        }
        assert_eq!(people(pool).await, ["anonymous_id:a1 user_id:u1"]);
        assert_eq!(count(pool, "select count(*) from events where profile_id = 1").await, 3);
        assert_eq!(count(pool, "select count(*) from group_members where profile_id = 1").await, 1);
        assert_eq!(count(pool, "select count(*) from profiles").await, 1);
        let traits: Value = sqlx::query_scalar("select traits from profiles").fetch_one(pool).await.unwrap();
        assert_eq!(traits, json!({"plan": "new", "city": "Ulm", "age": 7}), "the newest value counts");
    }
}

#[tokio::test]
async fn an_alias_joins_the_earlier_id() {
    for split in [1, 100] {
        let database = Database::fresh().await;
        let alias = |id: &str, user: &str, previous: &str| json!({"type": "alias", "messageId": id, "userId": user, "previousId": previous, "timestamp": "2024-01-01"});
        let messages = [
            seen("1", None, Some("a1")),
            alias("2", "u1", "a1"),
            alias("3", "u1", "a2"),
            seen("4", None, Some("a2")),
            seen("5", Some("u2"), None),
            // Two known users stay two.
            alias("6", "u1", "u2"),
        ];
        for part in messages.chunks(split) {
            import(&database.pool, &lines(part)).await;
        }
        assert_eq!(people(&database.pool).await, ["anonymous_id:a1 anonymous_id:a2 user_id:u1", "user_id:u2"]);
        assert_eq!(count(&database.pool, "select count(*) from events where profile_id = 1").await, 2);
    }
}

#[tokio::test]
async fn values_that_stand_for_nobody_bring_nobody_together() {
    let database = Database::fresh().await;
    let (summary, refusals) = import(
        &database.pool,
        &lines(&[
            seen("1", Some("u1"), Some("00000000-0000-0000-0000-000000000000")),
            seen("2", Some("null"), Some("a2")),
            seen("3", Some("-1"), Some("anonymous")),
        ]),
    )
    .await;
    assert_eq!(people(&database.pool).await, ["user_id:u1", "anonymous_id:a2"]);
    assert_eq!((summary.accepted, summary.refused), (2, 1));
    assert!(refusals[0]["reason"].as_str().unwrap().contains("blocked"), "{refusals:?}");
}

#[tokio::test]
async fn people_are_found_by_any_identifier_and_a_known_user_keeps_theirs() {
    let database = Database::fresh().await;
    import(
        &database.pool,
        &lines(&[
            json!({"type": "identify", "messageId": "1", "userId": 7, "timestamp": "2024-01-01", "traits": {"email": "a@example.com"},
                "context": {"device": {"type": "iOS", "id": "d1", "token": "t1"}, "externalIds": [
                    {"id": "c1", "type": "crm_id", "collection": "users", "encoding": "none"},
                    {"id": "c2", "type": "crm_id", "collection": "users"}]}}),
            // The email is the weakest identifier: it gives way, and a new profile is made.
            json!({"type": "track", "event": "E", "messageId": "2", "userId": "8", "timestamp": "2024-01-01", "properties": {"email": "a@example.com"}}),
            json!({"type": "track", "event": "E", "messageId": "3", "anonymousId": "a1", "timestamp": "2024-01-01", "context": {"traits": {"email": "a@example.com"}}}),
            json!({"type": "identify", "messageId": "4", "userId": "9", "timestamp": "2024-01-01", "traits": {"email": {"not": "text"}}}),
            json!({"type": "identify", "messageId": "5", "userId": "10", "timestamp": "2024-01-01",
                "context": {"device": {"type": "android", "id": "d2", "advertisingId": "x"}, "integrations": {"Google Analytics": {"clientId": "ga"}}, "braze_id": "b"}}),
        ]),
    )
    .await;
    assert_eq!(
        people(&database.pool).await,
        [
            "anonymous_id:a1 crm_id:c1 email:a@example.com ios.id:d1 ios.push_token:t1 user_id:7",
            "user_id:8",
            "user_id:9",
            "android.id:d2 braze_id:b ga_client_id:ga user_id:10"
        ]
    );
    assert_eq!(count(&database.pool, "select count(*) from events where profile_id = 1").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_whom_several_imports_bring_at_once_are_made_once() {
    let database = Database::fresh().await;
    // Different messages, so that nothing but the people can hold one import up for another.
    let of = |import: usize| {
        lines(&(0..500).map(|n| seen(&format!("{import}-{n}"), Some(&format!("u{n}")), None)).collect::<Vec<_>>())
    };
    let (a, b, c, d) = (of(1), of(2), of(3), of(4));
    let pool = &database.pool;
    tokio::join!(import(pool, &a), import(pool, &b), import(pool, &c), import(pool, &d));
    assert_eq!(count(pool, "select count(*) from events").await, 2_000);
    assert_eq!(count(pool, "select count(*) from profiles").await, 500);
    assert_eq!(count(pool, "select max(id) from profiles").await, 500, "ids are dense");
}
