//! What is shown to an authorizer of a request's body: read, held up to a bound, and sent on to the application afterwards.

use crate::http::body::RequestBody;
use crate::http::replay::{Again, Kept};
use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use mesh_core::ext_authz::Body;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

/// A body as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its beginning, at most as long as the provider says.
    pub bytes: Bytes,
    /// Whether there is more of it.
    pub partial: bool,
}

/// Why a body is not shown.
#[derive(Debug)]
pub enum Unshown {
    /// It is longer than may be held.
    TooLong,
    /// Its sender broke off.
    Broken(hyper::Error),
}

/// Reads as much of a body as may be shown. What comes back beside it is the whole body, to be sent on.
///
/// # Errors
/// [`Unshown`].
pub async fn show(settings: Body, body: RequestBody) -> Result<(Shown, RequestBody), Unshown> {
    let mut body = match body {
        // The client waits to be asked for it: that is now.
        RequestBody::Held(held) => RequestBody::Incoming(held.asked_for()),
        body => body,
    };
    let most = settings.most as usize;
    if !settings.partial && body.size_hint().lower() > u64::from(settings.most) {
        return Err(Unshown::TooLong);
    }
    let (mut chunks, mut length, mut trailers) = (VecDeque::new(), 0, None);
    while length <= most && trailers.is_none() && !(settings.partial && length == most) {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => break,
            Some(Err(error)) => return Err(Unshown::Broken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => {
                    length += chunk.len();
                    chunks.push_back(chunk);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    if length > most && !settings.partial {
        return Err(Unshown::TooLong);
    }
    let shown = Shown {
        bytes: beginning(&chunks, most),
        partial: length > most || !(trailers.is_some() || body.is_end_stream()),
    };
    let whole = Again::new(Kept::read(chunks, trailers), body);
    Ok((shown, RequestBody::Again(Box::new(whole))))
}

fn beginning(chunks: &VecDeque<Bytes>, most: usize) -> Bytes {
    if chunks.len() == 1
        && let Some(only) = chunks.front()
    {
        return only.slice(..only.len().min(most));
    }
    let mut joined = BytesMut::new();
    for chunk in chunks {
        let room = most - joined.len();
        joined.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_body_is_shown_up_to_a_bound_and_goes_on_whole() {
        for (chunks, most, partial, expected) in [
            (&["abc"][..], 3, false, Some(("abc", false))),
            (&["abc"], 4, true, Some(("abc", false))),
            (&["a", "bc"], 3, false, Some(("abc", false))),
            (&["abcd"], 3, false, None),
            (&["ab", "cd"], 3, false, None),
            (&["abcd"], 3, true, Some(("abc", true))),
            (&["ab", "cd", "ef"], 3, true, Some(("abc", true))),
            (&["abc", "d"], 3, true, Some(("abc", true))),
            (&[], 3, false, Some(("", false))),
        ] {
            let settings = Body {
                most,
                partial,
                as_bytes: false,
            };
            let sent: VecDeque<Bytes> = chunks.iter().map(|chunk| Bytes::from(*chunk)).collect();
            let body = RequestBody::Again(Box::new(Again::new(Kept::read(sent, None), RequestBody::Empty)));
            match (show(settings, body).await, expected) {
                (Ok((shown, whole)), Some((text, more))) => {
                    assert_eq!((&shown.bytes[..], shown.partial), (text.as_bytes(), more), "{chunks:?}");
                    assert_eq!(whole.collect().await.unwrap().to_bytes(), chunks.concat());
                }
                (Err(Unshown::TooLong), None) => {}
                (found, _) => panic!("{chunks:?} {most}: {found:?}"),
            }
        }
    }
}
