//! What was sent, as text? Read within the bytes that requests share, unpacked, and never larger than a request may be.
//!
//! Bytes count as they come: a client that says much and sends it slowly takes nothing from the others. One that hardly sends at all
//! is not waited for, and an unfinished body gives way to others: see [`crate::profile::room`].

use std::{io::Read as _, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;

use tokio::time::{Instant, timeout_at};

use crate::{
    limits::{TRACKING_BYTES, TRACKING_BYTES_A_SECOND, TRACKING_DISCARDED_BYTES, TRACKING_PAUSE_SECONDS},
    profile::room::{Full, Room},
};

/// Why there is no text.
#[derive(Debug)]
pub enum Unread {
    Invalid(&'static str, String),
    Full,
    /// It comes too slowly to be waited for.
    Slow,
}

impl From<Full> for Unread {
    fn from(Full: Full) -> Unread {
        Unread::Full
    }
}

/// Reads the whole body.
pub async fn read(headers: &HeaderMap, body: Body, room: &mut Room) -> Result<String, Unread> {
    let (mut stream, gives_way) = (Paced::of(body), room.gives_way());
    let read = tokio::select! {
        read = collect(headers, &mut stream, room) => read,
        () = gives_way => Err(Unread::Full),
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(unread) => {
            room.give_back();
            stream.discard().await;
            return Err(unread);
        }
    };
    room.is_whole();
    let bytes = match encoding(headers)? {
        Encoding::Plain => bytes,
        Encoding::Gzip => unpack(&bytes, room).await?,
    };
    Ok(text(bytes))
}

/// Reads a body of which nothing is wanted. A client that is cut off while it sends would not hear why, and would come again.
pub async fn discard(body: Body) {
    Paced::of(body).discard().await;
}

async fn collect(headers: &HeaderMap, stream: &mut Paced, room: &mut Room) -> Result<Vec<u8>, Unread> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > TRACKING_BYTES as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await? {
        if bytes.len() + chunk.len() > TRACKING_BYTES {
            return Err(too_large());
        }
        room.grow(chunk.len()).await?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A body of which so much must come in so much time.
struct Paced {
    stream: BodyDataStream,
    began: Instant,
    bytes: usize,
}

impl Paced {
    fn of(body: Body) -> Paced {
        Paced { stream: body.into_data_stream(), began: Instant::now(), bytes: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Unread> {
        let pause = Duration::from_secs(TRACKING_PAUSE_SECONDS);
        let due = self.began + pause + Duration::from_secs_f64(self.bytes as f64 / TRACKING_BYTES_A_SECOND as f64);
        let deadline = due.min(Instant::now() + pause);
        match timeout_at(deadline, self.stream.next()).await {
            Err(_) => Err(Unread::Slow),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Unread::Invalid("incomplete_body", "the body did not come to its end".into())),
            Ok(Some(Ok(chunk))) => {
                self.bytes += chunk.len();
                Ok(Some(chunk))
            }
        }
    }

    /// Reads on without keeping anything.
    async fn discard(mut self) {
        while let Ok(Some(_)) = self.next().await {
            if self.bytes > TRACKING_DISCARDED_BYTES {
                return;
            }
        }
    }
}

enum Encoding {
    Plain,
    Gzip,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Unread> {
    let Some(named) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Plain) };
    match named.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(Encoding::Plain),
        b"gzip" | b"x-gzip" => Ok(Encoding::Gzip),
        _ => Err(Unread::Invalid("invalid_encoding", "Content-Encoding may be gzip, or the body plain".into())),
    }
}

/// Stops at the most that a request may be: what would unpack to more is refused, however small it came.
async fn unpack(bytes: &[u8], room: &mut Room) -> Result<Vec<u8>, Unread> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(TRACKING_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|_| Unread::Invalid("invalid_encoding", "the body is not gzip, as Content-Encoding says".into()))?;
    if unpacked.len() > TRACKING_BYTES {
        return Err(too_large());
    }
    room.grow(unpacked.len()).await?;
    Ok(unpacked)
}

fn too_large() -> Unread {
    Unread::Invalid("too_large", format!("the body has more than {TRACKING_BYTES} bytes"))
}

/// Where it is not UTF-8, half of a surrogate pair is written in its place. That is refused with the message that it stands in, so
/// that its neighbours are stored.
fn text(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let broken = if chunk.invalid().is_empty() { "" } else { "\\ud800" };
        [chunk.valid(), broken].concat()
    };
    bytes.utf8_chunks().map(chunk).collect()
}
