//! Whom does each SQL audience's statement yield? Each distinct one runs once, and fails alone.

use std::{collections::HashMap, sync::Arc};

use sqlx::PgConnection;

use super::{Due, Members};
use crate::{Error, Result, audience::conditions::Formula, membership::statement};

/// By statement, whom it yields. Fails itself only if the transaction cannot go on.
pub(super) async fn answers<'d>(
    conn: &mut PgConnection,
    due: &[Due<'d>],
) -> Result<HashMap<&'d str, Result<Members, Arc<Error>>>> {
    let mut answers = HashMap::new();
    for due in due {
        let Formula::Statement(text) = due.formula else { continue };
        if answers.contains_key(text.as_str()) {
            continue;
        }
        let answer = match statement::members(conn, text).await? {
            Ok(yielded) => {
                if yielded.unknown > 0 {
                    let (audience, unknown) = (due.key, yielded.unknown);
                    tracing::warn!(audience, unknown, "the statement yields users that the store does not know");
                }
                Ok(Members { ids: yielded.ids, all_but: false })
            }
            Err(error) => Err(Arc::new(error)),
        };
        answers.insert(text.as_str(), answer);
    }
    Ok(answers)
}
