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
async fn profiles_that_both_exist_are_left_and_the_message_is_the_users() {
    let database = Database::fresh().await;
    import(
        &database.pool,
        &lines(&[seen("1", Some("u1"), None), seen("2", None, Some("a1")), seen("3", Some("u1"), Some("a1"))]),
    )
    .await;
    assert_eq!(people(&database.pool).await, ["user_id:u1", "anonymous_id:a1"]);
    assert_eq!(count(&database.pool, "select count(*) from events where profile_id = 1").await, 2);
}

#[tokio::test]
async fn other_identifiers_belong_to_whoever_brings_them_first() {
    let database = Database::fresh().await;
    import(
        &database.pool,
        &lines(&[
            json!({"type": "identify", "messageId": "1", "userId": 7, "timestamp": "2024-01-01", "traits": {"email": "a@example.com"},
                "context": {"device": {"type": "iOS", "id": "d1", "token": "t1"}, "externalIds": [{"id": "c1", "type": "crm_id", "collection": "users", "encoding": "none"}]}}),
            json!({"type": "track", "event": "E", "messageId": "2", "userId": "8", "timestamp": "2024-01-01", "properties": {"email": "a@example.com"}}),
            json!({"type": "identify", "messageId": "3", "userId": "9", "timestamp": "2024-01-01", "traits": {"email": {"not": "text"}}}),
        ]),
    )
    .await;
    assert_eq!(
        people(&database.pool).await,
        ["crm_id:c1 email:a@example.com ios.id:d1 ios.push_token:t1 user_id:7", "user_id:8", "user_id:9"]
    );
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
