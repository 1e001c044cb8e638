//! Is what the topics say what the database says? The last question of a test that did its worst.

use rollcall::{
    config::Config,
    deliver::{
        Target,
        verify::{self, Question, Report},
    },
};
use sqlx::PgPool;

/// What `rollcall verify --digest` finds.
pub async fn look(pool: &PgPool, target: &Target) -> Report {
    let question = Question { digest: true, ..Question::default() };
    verify::verify(pool, target, question, &mut |_, _| {}).await.expect("the destination can be verified")
}

/// Fails unless each change that the cursor has passed was told once, in order and unchanged, and adds up to what counts as told.
pub async fn verified(pool: &PgPool, target: &Target) -> Report {
    let report = look(pool, target).await;
    assert!(report.agrees, "{}", serde_json::to_string_pretty(&report).unwrap());
    report
}

/// The same of the destination `name` of a configuration.
pub async fn verified_by(pool: &PgPool, config: &Config, name: &str) -> Report {
    verified(pool, &Target::of(config, name).expect("the destination is configured")).await
}
