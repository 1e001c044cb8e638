//! Whom does each SQL audience's statement yield? Each distinct one runs once, and fails alone.

pub(super) mod elsewhere;
mod people;
pub(super) mod traits;
pub mod yields;

use std::{collections::HashMap, sync::Arc};

use sqlx::PgConnection;

use self::elsewhere::Sessions;
use super::{Due, Members};
use crate::{
    Error, Result,
    audience::{conditions::Formula, statement::Statement},
    membership::PassedOver,
};

/// By statement, whom it yields, and which of its rows are nobody.
type Answers<'d> = HashMap<&'d Statement, Result<(Members, PassedOver), Arc<Error>>>;

/// Runs each statement once. Fails itself only if the transaction cannot go on.
pub(super) async fn answers<'d>(
    conn: &mut PgConnection,
    due: &[Due<'d>],
    sessions: &mut Sessions<'d>,
) -> Result<Answers<'d>> {
    let mut answers = HashMap::new();
    for due in due {
        let Formula::Statement(of) = due.formula else { continue };
        if answers.contains_key(of) {
            continue;
        }
        let yielded = match &of.elsewhere {
            None => people::members(conn, &of.text).await?,
            Some(there) => sessions.members(conn, &of.text, there).await?,
        };
        let answer = match yielded {
            Ok(yielded) => {
                log(due.key, yielded.passed_over);
                Ok((Members { ids: yielded.ids, all_but: false }, yielded.passed_over))
            }
            Err(error) => Err(Arc::new(error)),
        };
        answers.insert(of, answer);
    }
    Ok(answers)
}

/// Says what a statement passed over, where there is something to say.
fn log(audience: &str, PassedOver { null, repeated, unknown }: PassedOver) {
    if unknown > 0 {
        tracing::warn!(audience, unknown, null, repeated, "the statement yields users that the store does not know");
    } else if null > 0 || repeated > 0 {
        tracing::info!(audience, null, repeated, "the statement yields rows that put nobody in");
    }
}
