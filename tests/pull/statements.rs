//! Statements as people write them: numbers as ids, notes behind them, and names that stand there twice.

use serde_json::json;

use super::{Shop, traits};

#[tokio::test]
async fn a_number_is_its_digits_also_of_whom_vanishes() {
    let shop = Shop::with(
        "create table people (id numeric(12, 2), plan text); insert into people values (42, 'pro'), (7, 'free')",
    )
    .await;
    let query = "select id as user_id, plan from people; -- each /* once */\n /* a; /* b */ */ ;";
    let config = shop.config(&format!("query: {query:?}, profiles: {{}}"));
    assert_eq!(shop.pull(&config).await.unwrap().stored, 2);
    assert_eq!(traits(&shop.store.pool, "42").await, json!({"plan": "pro"}));
    shop.run("delete from people where id = 42").await;
    assert_eq!(shop.pull(&config).await.unwrap().vanished, 1);
    assert_eq!(traits(&shop.store.pool, "42").await, json!({}), "nothing of what was said of 42 holds");
    assert_eq!(traits(&shop.store.pool, "7").await, json!({"plan": "free"}));
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused_with_where_they_stand() {
    let shop = Shop::with("create table people (id int, plan text)").await;
    for (columns, said) in [
        ("id as user_id, plan, upper(plan) as plan", "the statement yields `plan` twice: as columns 2 and 3"),
        ("id as user_id, plan, id as user_id", "the statement yields `user_id` twice: as columns 1 and 3"),
        ("id as user_id, 1, 'a', 2", "the statement yields `?column?` twice: as columns 2 and 3"),
    ] {
        let error = shop
            .pull(&shop.config(&format!("query: {:?}, profiles: {{}}", format!("select {columns} from people"))))
            .await;
        assert_eq!(error.unwrap_err().message, said);
    }
}
