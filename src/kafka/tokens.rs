//! Which token does SASL/OAUTHBEARER carry now? One token for each destination, fetched ahead of its end.
//!
//! librdkafka asks for a token on the thread that polls, so asking must never wait for a network: a thread of its own
//! fetches the next one at half of its life, and the polling thread only ever gets the one at hand.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rdkafka::client::OAuthToken;
use secrecy::ExposeSecret as _;

use super::{
    aws, oauth,
    settings::{Mechanism, Settings},
    token::Token,
};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// How soon a token is asked for again after its source did not answer.
const RETRY: Duration = Duration::from_secs(5);

/// The token at hand, and the thread that keeps it fresh for as long as this value lives.
#[derive(Debug)]
pub struct Tokens {
    at_hand: Arc<Mutex<Token>>,
    /// Dropped with this value, which ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Tokens {
    /// Gets the first token, if the mechanism works with tokens. Waits for the network.
    pub fn start(settings: &Settings) -> Result<Option<Arc<Tokens>>> {
        if !matches!(settings.mechanism, Mechanism::Aws { .. } | Mechanism::OAuthBearer { .. }) {
            return Ok(None);
        }
        let settings = settings.clone();
        let at_hand = Arc::new(Mutex::new(fetch(&settings, now())?));
        let (alive, ended) = mpsc::channel::<()>();
        let shared = Arc::clone(&at_hand);
        let refresh = move || {
            let mut wait = half_of_its_life(&shared.lock().unwrap_or_else(PoisonError::into_inner), now());
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = match fetch(&settings, now()) {
                    Ok(token) => {
                        let wait = half_of_its_life(&token, now());
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = token;
                        wait
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no new token; the one at hand is used until it ends");
                        RETRY
                    }
                };
            }
        };
        thread::Builder::new()
            .name("kafka-token".into())
            .spawn(refresh)
            .map_err(|error| Error::internal("no thread for the token").because(error))?;
        Ok(Some(Arc::new(Tokens { at_hand, _alive: alive })))
    }

    /// The token at hand, as librdkafka takes it. Never waits for a network.
    pub fn at_hand(&self) -> OAuthToken {
        let token = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lifetime_ms = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        OAuthToken { token: token.text.expose_secret().to_owned(), principal_name: token.principal, lifetime_ms }
    }
}

/// A new token from wherever the mechanism has it from.
fn fetch(settings: &Settings, now: SystemTime) -> Result<Token> {
    match &settings.mechanism {
        Mechanism::Aws(iam) => {
            let mut keys = aws::keys(&iam.access_key_id, &iam.secret_access_key);
            if let Some(role) = &iam.role_arn {
                keys = aws::assume_role(role, &iam.region, iam.sts_endpoint.as_deref(), &keys, now)?;
            }
            aws::msk_token(&iam.region, &keys, now)
        }
        Mechanism::OAuthBearer(client) => oauth::token(client, settings.tls.as_ref(), now),
        _ => Err(Error::internal("this mechanism has no token")),
    }
}

fn now() -> SystemTime {
    Clock::system().now().into()
}

/// How long after `now` the next token is fetched: one that is short of breath, or ended already, is not asked for without a pause.
fn half_of_its_life(token: &Token, now: SystemTime) -> Duration {
    (token.expires.duration_since(now).unwrap_or_default() / 2).max(RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_token_is_fetched_at_half_of_this_ones_life_and_never_without_a_pause() {
        let now = UNIX_EPOCH + Duration::from_secs(1_773_500_966);
        let wait = |lives: Duration, after: Duration| {
            let token = Token { text: "t".into(), principal: "p".into(), expires: now + lives };
            half_of_its_life(&token, now + after)
        };
        let [none, second, minute] = [0, 1, 60].map(Duration::from_secs);
        assert_eq!(wait(15 * minute, none), Duration::from_secs(450), "a token of MSK");
        assert_eq!(wait(5 * minute, minute), 2 * minute, "one that was late to arrive");
        assert_eq!(wait(8 * second, none), RETRY, "a short one");
        assert_eq!(wait(minute, 2 * minute), RETRY, "one that has ended");
    }
}
