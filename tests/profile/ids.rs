//! Ids as programs and people write them: numbers, colons, values that stand for nobody, e-mail in any case.

use rollcall::profile::{
    forget::{self, Asked},
    lookup::{self, Identifier},
    rules::Rules,
};
use serde_json::{Value, json};

use super::{count, import, lines};
use crate::support::postgres::Database;

#[tokio::test]
async fn whole_numbers_are_ids_wherever_a_user_id_is_one() {
    let database = Database::fresh().await;
    let content = r#"{"type":"track","userId":42.0,"anonymousId":-42,"event":"E","messageId":7}
{"type":"group","userId":42,"groupId":17}
{"type":"alias","userId":"42","previousId":9}
{"type":"identify","userId":"42","traits":{"email":"a@b.c"},"context":{"externalIds":[{"id":5.0,"type":"crm","collection":"users","encoding":"none"}]}}
{"type":"track","userId":42.5,"event":"E"}
"#;
    let (summary, refusals) = import(&database.pool, content).await;
    assert_eq!((summary.accepted, summary.refused), (4, 1), "{refusals:?}");
    assert_eq!(refusals[0]["field"], "userId");
    let ids: Vec<String> = sqlx::query_scalar("select type || ':' || value from identifiers order by 1")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(ids, ["anonymous_id:-42", "anonymous_id:9", "crm:5", "email:a@b.c", "user_id:42"]);
    assert_eq!(count(&database.pool, "select count(*) from group_members where group_id = '17'").await, 1);
    assert_eq!(count(&database.pool, "select count(*) from events where message_id = '7'").await, 1);
}

#[tokio::test]
async fn an_email_is_one_person_in_any_case_and_with_spaces_around_it() {
    let database = Database::fresh().await;
    let identify = |user: &str, email: &str| json!({"type": "identify", "userId": user, "timestamp": "2024-01-01", "traits": {"email": email}});
    let seen = |email: &str| json!({"type": "track", "anonymousId": "a", "event": "Seen", "timestamp": "2024-01-02", "properties": {"email": email}});
    import(&database.pool, &lines(&[identify("u1", "Ann@Example.com "), seen(" ANN@example.COM")])).await;
    let ids: Vec<String> = sqlx::query_scalar("select type || ':' || value from identifiers order by 1")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(ids, ["anonymous_id:a", "email:ann@example.com", "user_id:u1"]);
    let traits: Value = sqlx::query_scalar("select traits from profiles").fetch_one(&database.pool).await.unwrap();
    assert_eq!(traits["email"], "Ann@Example.com ", "the trait stays as it was sent");
    let rules = Rules::default();
    let mut connection = database.pool.acquire().await.unwrap();
    for written in ["email:ANN@EXAMPLE.COM", "email: ann@example.com", "u1", "user_id:u1"] {
        lookup::find(&mut connection, &Identifier::of(written, &rules)).await.unwrap_or_else(|_| panic!("{written}"));
    }
}

#[tokio::test]
async fn who_is_named_by_an_id_with_a_colon_before_they_come_is_left_alone_when_they_come() {
    let database = Database::fresh().await;
    let rules = Rules::default();
    let of = |text: &'static str| Identifier::of(text, &rules);
    assert_eq!(forget::request(&database.pool, &of("fb:999"), false).await.unwrap(), Asked::Unknown);
    assert!(!forget::suppress(&database.pool, &of("fb:998")).await.unwrap());
    assert!(!forget::suppress(&database.pool, &of("email:Ann@Example.com")).await.unwrap());
    assert!(!forget::suppress(&database.pool, &of("crm:5")).await.unwrap());
    let external = json!({"externalIds": [{"id": "5", "type": "crm", "collection": "users", "encoding": "none"}]});
    let (summary, _) = import(
        &database.pool,
        &lines(&[
            json!({"type": "track", "userId": "fb:999", "event": "E"}),
            json!({"type": "track", "userId": "fb:998", "event": "E"}),
            json!({"type": "identify", "userId": "ann", "traits": {"email": "ann@example.com"}}),
            json!({"type": "track", "userId": "x", "event": "E", "context": external}),
            json!({"type": "track", "userId": "999", "event": "E"}),
        ]),
    )
    .await;
    assert_eq!((summary.accepted, summary.suppressed), (1, 4));
    forget::unsuppress(&database.pool, &of("fb:998")).await.unwrap();
    let again = lines(&[json!({"type": "track", "userId": "fb:998", "event": "F"})]);
    assert_eq!(import(&database.pool, &again).await.0.accepted, 1);
    // Who is there is found by the whole first.
    let mut connection = database.pool.acquire().await.unwrap();
    lookup::find(&mut connection, &of("fb:998")).await.unwrap();
}

#[tokio::test]
async fn what_php_writes_for_an_empty_object_is_one() {
    let database = Database::fresh().await;
    let content = r#"{"type":"track","userId":"u","event":"E","properties":[ ],"context":[],"integrations":[]}
{"type":"identify","userId":"u","traits":[],"context":{"traits":[],"device":[]}}
{"type":"page","userId":"u","name":"Home","properties":[]}
{"type":"group","userId":"u","groupId":"g","traits":[
  ]}
"#;
    let (summary, refusals) = import(&database.pool, content).await;
    assert_eq!((summary.accepted, summary.refused), (4, 0), "{refusals:?}");
    let stored: Vec<(Value, Value)> = sqlx::query_as("select properties, context from events order by name_id")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(stored[0], (json!({}), json!({})));
    assert_eq!(stored[1].0["name"], "Home");
}

#[tokio::test]
async fn values_that_stand_for_nobody_join_nobody() {
    let database = Database::fresh().await;
    let nobody = [
        "[object Object]",
        "(null)",
        "N/A",
        "Guest",
        " undefined ",
        "00000000-0000-0000-0000-000000000000",
        "\u{200b}",
        "{{ user.id }}",
        "${userId}",
        "%USER_ID%",
        "<user id>",
    ];
    let messages: Vec<Value> = nobody
        .iter()
        .enumerate()
        .map(|(n, id)| json!({"type": "track", "userId": format!("u{n}"), "anonymousId": id, "event": "E"}))
        .chain(nobody.iter().map(|id| json!({"type": "track", "userId": id, "event": "E"})))
        .collect();
    let (summary, refusals) = import(&database.pool, &lines(&messages)).await;
    assert_eq!((summary.accepted, summary.refused as usize), (nobody.len() as u64, nobody.len()), "{refusals:?}");
    assert_eq!(count(&database.pool, "select count(*) from profiles").await, nobody.len() as i64);
}
