//! What is known of one person, for programs? Segment's Profile API, under the listener's token.
//!
//! ```text
//!  GET /v1/spaces/{space}/collections/users/profiles/{type}:{value}/{traits|external_ids|events|metadata|links}
//! ```
//!
//! Reads only. The audiences that a person is in, as of their last runs, are read as traits that are `true`. Without a token in the
//! configuration nobody is answered: what stands here is personal.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use openssl::memcmp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use super::rate::Rate;
use crate::{
    Error,
    clock::Clock,
    config::Secret,
    ids::ProfileId,
    limits::{PROFILE_EVENT_DAYS, PROFILE_ITEMS, PROFILE_REQUESTS_A_SECOND},
    membership::standing,
    profile::{rules::Rules, view},
    values,
};

/// Items of an answer where the request names no limit; the peer's.
const ITEMS: usize = 20;

/// What the routes look at.
#[derive(Debug, Clone)]
struct Profiles {
    pool: PgPool,
    clock: Clock,
    space_id: Arc<str>,
    token: Option<Arc<[u8; 32]>>,
    /// Of whoever has the token.
    rate: Arc<Rate>,
    rules: Arc<Rules>,
}

/// The routes of one space. People are looked up by these rules, as they were taken in.
pub fn routes(pool: PgPool, clock: Clock, space_id: &str, token: Option<&Secret>, rules: Arc<Rules>) -> Router {
    let token = token.map(|token| Arc::new(digest(token.expose())));
    let profiles = Profiles {
        rate: Arc::new(Rate::new(PROFILE_REQUESTS_A_SECOND, clock.now())),
        pool,
        clock,
        space_id: space_id.into(),
        token,
        rules,
    };
    let path = "/v1/spaces/{space}/collections/{collection}/profiles/{id}/{part}";
    Router::new().route(path, get(answer)).with_state(profiles)
}

#[derive(Debug, Deserialize)]
struct Place {
    space: String,
    collection: String,
    id: String,
    part: String,
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    include: Option<String>,
    class: Option<String>,
    limit: Option<String>,
    /// Where the page before ended.
    #[serde(alias = "cursor")]
    next: Option<String>,
}

/// One page of a list.
struct Window {
    skip: usize,
    limit: usize,
}

/// Why there is no answer, in the peer's form.
struct Refusal(StatusCode, &'static str, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(status, code, message) = self;
        let mut response = (status, Json(json!({"error": {"code": code, "message": message}}))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a profile could not be read");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The store does not answer; try again.".into())
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

fn not_found() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not_found", "The resource was not found.".into())
}

fn invalid(what: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "validation_failure", format!("The parameter `{what}` is not valid."))
}

async fn answer(
    State(profiles): State<Profiles>,
    uri: Uri,
    Path(place): Path<Place>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    profiles.admit(&headers)?;
    let window = wanted.window()?;
    if place.space != *profiles.space_id || place.collection != "users" {
        return Err(not_found());
    }
    let (kind, value) = place.id.split_once(':').ok_or_else(|| invalid("id"))?;
    // One snapshot, so that what is told of a person belongs together.
    let mut tx = profiles.pool.begin_with("begin isolation level repeatable read read only").await?;
    let value = profiles.rules.normalized(kind, value);
    let profile = view::profile(&mut tx, kind, &value).await?.ok_or_else(not_found)?;
    let (mut body, has_more) = match place.part.as_str() {
        "traits" => traits(&mut tx, profile, &wanted, &window).await?,
        "external_ids" => external_ids(&mut tx, profile, &wanted, &window).await?,
        "events" => events(&mut tx, profile, &wanted, &window, profiles.clock.now()).await?,
        "links" => links(&mut tx, profile, &window).await?,
        "metadata" => (metadata(&mut tx, profile).await?, false),
        _ => return Err(not_found()),
    };
    tx.commit().await?;
    let next = if has_more { STANDARD.encode((window.skip + window.limit).to_string()) } else { String::new() };
    body["cursor"] = json!({"url": uri.path(), "has_more": has_more, "next": next, "limit": window.limit});
    Ok(Json(body))
}

impl Profiles {
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            let message = "Profiles are read with a token alone: set `http.token` in the configuration.";
            return Err(Refusal(StatusCode::FORBIDDEN, "forbidden", message.into()));
        };
        // Digests are compared, and each in full: neither the time nor the length tells how near a guess was.
        match carried(headers).is_some_and(|given| memcmp::eq(&digest(&given), &**token)) {
            // Whoever has no token takes nothing of it from those who have.
            true if self.rate.passes(self.clock.now()) => Ok(()),
            true => {
                let message = format!("More than {PROFILE_REQUESTS_A_SECOND} requests a second; try again.");
                Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message))
            }
            false => Err(Refusal(StatusCode::UNAUTHORIZED, "authentication_error", "The token is not valid.".into())),
        }
    }
}

/// The token of a request: a Bearer's, or the user of Basic, whose password does not matter.
fn carried(headers: &HeaderMap) -> Option<String> {
    let (scheme, given) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(given.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
    Some(pair.split_once(':').map_or(pair.as_str(), |(user, _)| user).to_owned())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Wanted {
    fn window(&self) -> Result<Window, Refusal> {
        let limit = match &self.limit {
            None => ITEMS,
            Some(limit) => limit
                .parse()
                .ok()
                .filter(|limit| (1..=PROFILE_ITEMS).contains(limit))
                .ok_or_else(|| invalid("limit"))?,
        };
        let skip = match self.next.as_deref().filter(|next| !next.is_empty()) {
            None => 0,
            Some(next) => {
                let text = STANDARD.decode(next).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let skip = text.and_then(|text| text.parse::<u32>().ok()).ok_or_else(|| invalid("next"))?;
                skip as usize
            }
        };
        Ok(Window { skip, limit })
    }

    /// Whether a name is among those that `include` asks for; all are without it.
    fn includes(&self, name: &str) -> bool {
        self.include.as_deref().is_none_or(|names| names.split(',').any(|wanted| wanted.trim() == name))
    }
}

impl Window {
    fn cut<T>(&self, all: Vec<T>) -> (Vec<T>, bool) {
        let has_more = all.len() > self.skip + self.limit;
        (all.into_iter().skip(self.skip).take(self.limit).collect(), has_more)
    }
}

async fn traits(
    conn: &mut PgConnection,
    profile: ProfileId,
    wanted: &Wanted,
    window: &Window,
) -> Result<(Value, bool), Refusal> {
    let mut all = match wanted.class.as_deref() {
        None => view::traits(conn, profile).await?,
        Some("audience" | "computed_trait") => Map::new(),
        Some(_) => return Err(invalid("class")),
    };
    if wanted.class.as_deref().is_none_or(|class| class == "computed_trait") {
        let computed = values::of_person(conn, profile).await?.into_iter();
        all.extend(computed.filter_map(|(key, value)| Some((key, serde_json::from_str(&value).ok()?))));
    }
    if wanted.class.as_deref().is_none_or(|class| class == "audience") {
        // The membership wins over a trait of its name, as it does when it is told.
        let keys = standing::audiences(conn, profile).await?;
        all.extend(keys.into_iter().map(|key| (key, Value::Bool(true))));
    }
    let mut all: Vec<_> = all.into_iter().filter(|(name, _)| wanted.includes(name)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let (page, has_more) = window.cut(all);
    Ok((json!({"traits": page.into_iter().collect::<Map<_, _>>()}), has_more))
}

async fn external_ids(
    conn: &mut PgConnection,
    profile: ProfileId,
    wanted: &Wanted,
    window: &Window,
) -> Result<(Value, bool), Refusal> {
    let all = view::identifiers(conn, profile).await?.into_iter().filter(|id| wanted.includes(&id.kind));
    let external = |id: view::Identifier| json!({"id": id.value, "type": id.kind, "collection": "users", "encoding": "none", "created_at": instant(id.added_at)});
    let (page, has_more) = window.cut(all.map(external).collect());
    Ok((json!({"data": page}), has_more))
}

async fn events(
    conn: &mut PgConnection,
    profile: ProfileId,
    wanted: &Wanted,
    window: &Window,
    now: DateTime<Utc>,
) -> Result<(Value, bool), Refusal> {
    let after = now - TimeDelta::days(PROFILE_EVENT_DAYS);
    let names: Option<Vec<String>> =
        wanted.include.as_deref().map(|names| names.split(',').map(|name| name.trim().to_owned()).collect());
    let all = view::events(conn, profile, after, names.as_deref(), window.skip as i64, window.limit as i64 + 1).await?;
    let has_more = all.len() > window.limit;
    let page: Vec<Value> = all
        .into_iter()
        .take(window.limit)
        .map(|event| {
            json!({"type": "track", "event": event.name, "timestamp": instant(event.occurred_at), "message_id": event.message_id,
                   "source_id": event.source_id, "properties": event.properties, "context": event.context})
        })
        .collect();
    Ok((json!({"data": page}), has_more))
}

/// The groups that a person belongs to.
async fn links(conn: &mut PgConnection, profile: ProfileId, window: &Window) -> Result<(Value, bool), Refusal> {
    let groups = view::groups(conn, profile).await?;
    let link = |group: String| {
        json!({"to_collection": "accounts", "external_ids": [
            {"id": group, "type": "group_id", "collection": "accounts", "encoding": "none"}]})
    };
    let (page, has_more) = window.cut(groups.into_iter().map(link).collect());
    Ok((json!({"data": page}), has_more))
}

async fn metadata(conn: &mut PgConnection, profile: ProfileId) -> Result<Value, Refusal> {
    let found = view::metadata(conn, profile).await?.ok_or_else(not_found)?;
    Ok(json!({"metadata": {
        "created_at": instant(found.created_at), "expires_at": null,
        "first_message_id": found.first_message_id, "first_source_id": found.first_source_id,
        "last_message_id": found.last_message_id, "last_source_id": found.last_source_id,
    }}))
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
