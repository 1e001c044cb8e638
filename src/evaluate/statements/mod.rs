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
    audience::{computed::Statement, conditions::Formula},
};

/// By statement, whom it yields. Fails itself only if the transaction cannot go on.
pub(super) async fn answers<'d>(
    conn: &mut PgConnection,
    due: &[Due<'d>],
    sessions: &mut Sessions<'d>,
) -> Result<HashMap<&'d Statement, Result<Members, Arc<Error>>>> {
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
                if yielded.unknown > 0 {
                    let (audience, unknown) = (due.key, yielded.unknown);
                    tracing::warn!(audience, unknown, "the statement yields users that the store does not know");
                }
                Ok(Members { ids: yielded.ids, all_but: false })
            }
            Err(error) => Err(Arc::new(error)),
        };
        answers.insert(of, answer);
    }
    Ok(answers)
}
