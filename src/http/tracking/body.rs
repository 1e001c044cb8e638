//! What was sent, as text? Read within the bytes that all requests share, unpacked, and never larger than a request may be.
//!
//! Bytes count as they come: a client that says much and sends it slowly takes nothing from the others.

use std::io::Read as _;

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;

use crate::{
    limits::{TRACKING_BYTES, TRACKING_DISCARDED_BYTES},
    profile::live::{Room, Unstored},
};

/// Why there is no text.
#[derive(Debug)]
pub enum Unread {
    Invalid(&'static str, String),
    Full(Unstored),
}

/// Reads the whole body.
pub async fn read(headers: &HeaderMap, body: Body, room: &mut Room) -> Result<String, Unread> {
    let mut stream = body.into_data_stream();
    let read = collect(headers, &mut stream, room).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(unread) => {
            discard(stream).await;
            return Err(unread);
        }
    };
    let bytes = match encoding(headers)? {
        Encoding::Plain => bytes,
        Encoding::Gzip => unpack(&bytes, room)?,
    };
    Ok(text(bytes))
}

async fn collect(headers: &HeaderMap, stream: &mut BodyDataStream, room: &mut Room) -> Result<Vec<u8>, Unread> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > TRACKING_BYTES as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Unread::Invalid("incomplete_body", "the body did not come to its end".into()))?;
        if bytes.len() + chunk.len() > TRACKING_BYTES {
            return Err(too_large());
        }
        room.grow(chunk.len()).map_err(Unread::Full)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads on without keeping anything. A client that is cut off while it sends would not hear why, and would come again.
async fn discard(mut stream: BodyDataStream) {
    let mut bytes = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        bytes += chunk.len();
        if bytes > TRACKING_DISCARDED_BYTES {
            return;
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
fn unpack(bytes: &[u8], room: &mut Room) -> Result<Vec<u8>, Unread> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(TRACKING_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|_| Unread::Invalid("invalid_encoding", "the body is not gzip, as Content-Encoding says".into()))?;
    if unpacked.len() > TRACKING_BYTES {
        return Err(too_large());
    }
    room.grow(unpacked.len()).map_err(Unread::Full)?;
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
