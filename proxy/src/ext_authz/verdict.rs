//! What an authorizer says.

use super::target;
use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use mesh_core::ext_authz::{Edit, How, remove};

/// Whether a call may pass.
#[derive(Debug)]
pub enum Verdict {
    /// It may, with these changes.
    Allowed(Box<Changes>),
    /// It may not.
    Denied(Box<Denial>),
}

/// What becomes of a request that may pass, and of its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What the request's headers are set to.
    pub request: Vec<Edit>,
    /// The headers that it loses.
    pub removed: Vec<HeaderName>,
    /// What the response's headers are set to.
    pub response: Vec<Edit>,
    /// Another method.
    pub method: Option<Method>,
    /// Another path, with its query.
    pub path: Option<String>,
    /// Another authority.
    pub host: Option<HeaderValue>,
    /// Parameters of the query that are set.
    pub parameters: Vec<(String, String)>,
    /// Parameters that are taken away.
    pub removed_parameters: Vec<String>,
}

impl Changes {
    /// Changes a request; whether its target is another one now.
    ///
    /// # Errors
    /// What cannot be done.
    pub fn apply<B>(&self, request: &mut Request<B>) -> Result<bool, &'static str> {
        for edit in &self.request {
            edit.apply(request.headers_mut());
        }
        for name in &self.removed {
            remove(request.headers_mut(), name);
        }
        target::change(self, request)
    }

    /// Changes its response's headers.
    pub fn apply_to_response(&self, headers: &mut HeaderMap) {
        for edit in &self.response {
            edit.apply(headers);
        }
    }
}

/// The answer to a request that may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Its status.
    pub status: StatusCode,
    /// What its headers are set to.
    pub headers: Vec<Edit>,
    /// Its body.
    pub body: Bytes,
}

impl Denial {
    /// Makes an answer of the proxy's own the authorizer's.
    pub fn apply<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        if self.body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        for edit in &self.headers {
            edit.apply(headers);
        }
    }
}

/// The status of a denial; what is none, or is no answer yet, is 403.
pub(super) fn status(code: u32) -> StatusCode {
    let status = u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    status
        .filter(|status| (200..600).contains(&status.as_u16()))
        .unwrap_or(StatusCode::FORBIDDEN)
}

/// Headers of a message as edits of another one: the first of a name takes the place of what is there, and the others join.
pub(super) fn instead(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<Edit> {
    let mut edits = Vec::new();
    for name in headers.keys().filter(|name| wanted(name.as_str())) {
        let hows = std::iter::once(How::Overwrite).chain(std::iter::repeat(How::Append));
        edits.extend(headers.get_all(name).iter().zip(hows).map(|(value, how)| Edit {
            name: name.clone(),
            value: value.clone(),
            how,
        }));
    }
    edits
}
