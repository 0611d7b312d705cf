//! `corsPolicy`: what a browser's request gets, as Envoy decides it.

use super::http::Cors;
use ::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN,
};
use ::http::{HeaderValue, Method};

/// What becomes of a request under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrossOrigin {
    /// It goes on, and its response stays as it is.
    Pass,
    /// It goes on, and its response is marked for this origin ([`Cors::mark`]).
    Allowed(HeaderValue),
    /// A preflight: answered with status 200 and these headers.
    Answered(HeaderMap),
}

const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Cors {
    /// Decides about a request.
    #[must_use]
    pub fn decide(&self, method: &Method, headers: &HeaderMap) -> CrossOrigin {
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
            return CrossOrigin::Pass;
        };
        let allowed = self.allows(&String::from_utf8_lossy(origin.as_bytes()));
        let wanted = headers
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .filter(|value| !value.is_empty());
        match wanted {
            Some(wanted) if *method == Method::OPTIONS && (allowed || !self.forward_unmatched) => {
                CrossOrigin::Answered(self.answer(allowed.then_some(origin), wanted, headers))
            }
            _ if allowed => CrossOrigin::Allowed(origin.clone()),
            _ => CrossOrigin::Pass,
        }
    }

    fn allows(&self, origin: &str) -> bool {
        self.allow_origins
            .iter()
            .any(|allowed| allowed.matches("*") || allowed.matches(origin))
    }

    fn answer(&self, origin: Option<&HeaderValue>, wanted: &HeaderValue, headers: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        if let Some(origin) = origin {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if self.allow_credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        // An asterisk alone is whatever was asked for.
        if let Some(methods) = &self.allow_methods {
            let methods = if methods == "*" { wanted } else { methods };
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        }
        if let Some(allowed) = &self.allow_headers {
            let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            let allowed = if allowed == "*" { asked } else { Some(allowed) };
            if let Some(allowed) = allowed {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
        }
        if let Some(age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        answer
    }

    /// Marks a response for the origin that asked.
    pub fn mark(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.allow_credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(exposed) = &self.expose_headers {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}
