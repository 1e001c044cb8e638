//! How does a broker with OAuth 2 know us? A token of the token endpoint, by client credentials (RFC 6749, section 4.4).

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{
    settings::{OAuthClient, Tls},
    tls,
    token::{self, Token, encode},
};
use crate::error::{Error, Result};

/// How long a token is taken to be good when its endpoint does not say.
const UNTOLD_SECONDS: u64 = 300;

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
}

/// A new token. Who asks is told in the `Authorization` header, which every endpoint must understand (section 2.3.1).
/// The endpoint may be known to the authority of `ssl_ca`, and always has to prove who it is: it gets the client's secret.
pub fn token(client: &OAuthClient, tls: Option<&Tls>, now: SystemTime) -> Result<Token> {
    let endpoint = &client.token_endpoint;
    let secret = client.secret.expose_secret();
    let basic = STANDARD.encode(format!("{}:{}", encode(&client.id), encode(secret)));
    let authorities = tls.map(tls::read).transpose()?.and_then(|material| material.authorities());
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(client.scope.as_deref().map(|scope| ("scope", scope)));
    let (status, text) =
        token::post(endpoint, &format!("Basic {basic}"), &form, authorities.as_deref()).map_err(|error| {
            Error::wait(format!("KAFKA_CONNECTION_ERROR: the token endpoint {endpoint} does not answer"))
                .help("Check oauth_token_endpoint, and that this machine may reach it.")
                .because(error)
        })?;
    if status != 200 {
        let refused: Refused = serde_json::from_str(&text).unwrap_or_default();
        let reason = [refused.error, refused.error_description].join(" ");
        let message =
            format!("KAFKA_CONNECTION_ERROR: the token endpoint {endpoint} answers {status} {}", reason.trim());
        let error = if status >= 500 { Error::wait(message) } else { Error::settings(message) };
        return Err(error.help("Check oauth_client_id, oauth_client_secret and oauth_scope."));
    }
    let granted: Granted = serde_json::from_str(&text).map_err(|_| {
        Error::settings(format!("KAFKA_CONNECTION_ERROR: {endpoint} does not answer with a token"))
            .help("oauth_token_endpoint should be the URL that answers POST with {\"access_token\": …}.")
    })?;
    Ok(Token {
        text: granted.access_token.into(),
        principal: client.id.clone(),
        expires: now + Duration::from_secs(granted.expires_in.unwrap_or(UNTOLD_SECONDS)),
    })
}
