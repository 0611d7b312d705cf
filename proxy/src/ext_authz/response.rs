//! An authorizer's response, read to its end and no further than a bound.

use crate::http::body::ResponseBody;
use ::http::HeaderMap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};

/// The most that an answer may hold.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// The body and the trailers.
pub(super) async fn read(body: ResponseBody) -> Result<(Bytes, Option<HeaderMap>), String> {
    let read = Limited::new(body, MOST_BYTES).collect().await;
    let read = read.map_err(|error| format!("its answer: {error}"))?;
    let trailers = read.trailers().cloned();
    Ok((read.to_bytes(), trailers))
}
