//! What is changed in a request before it goes on to the application: tokens taken out, headers that tell it claims.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::sync::Arc;

/// Changes to a request's head, to be made once the request is known to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edits {
    /// The headers that tell claims: nobody but the mesh sets them.
    pub(super) cleared: Arc<[HeaderName]>,
    /// The headers that tokens were in.
    pub(super) removed: SmallVec<[HeaderName; 1]>,
    /// The cookies that are left, where some held a token.
    pub(super) cookies: Option<Vec<HeaderValue>>,
    pub(super) added: Vec<(HeaderName, HeaderValue)>,
    pub(super) path_and_query: Option<String>,
}

impl Edits {
    pub(super) fn new(cleared: Arc<[HeaderName]>) -> Self {
        Self {
            cleared,
            removed: SmallVec::new(),
            cookies: None,
            added: Vec::new(),
            path_and_query: None,
        }
    }

    /// Makes the changes to the headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in self.cleared.iter().chain(&self.removed) {
            headers.remove(name);
        }
        if let Some(cookies) = &self.cookies {
            headers.remove(COOKIE);
            for cookie in cookies {
                headers.append(COOKIE, cookie.clone());
            }
        }
        for (name, value) in &self.added {
            headers.append(name, value.clone());
        }
    }

    /// The path with its query, where a token was taken out of it.
    #[must_use]
    pub fn path_and_query(&self) -> Option<&str> {
        self.path_and_query.as_deref()
    }
}
