//! What becomes of a call that policies do not let pass.

use super::authorization::Caller;
use crate::ext_authz::verdict::Denial;
use crate::http::body::ResponseBody;
use crate::http::exchange;
use crate::telemetry::{Connection, Flags, Record};
use crate::worker::Worker;
use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use std::borrow::Cow;

/// The header that tells a caller of the mesh the id of its denial's record, where that is asked for.
const DENIAL_ID: HeaderName = HeaderName::from_static("x-pinnace-denial-id");

/// Envoy's words to whom a policy denies a request.
const ACCESS_DENIED: &str = "RBAC: access denied";

/// A denial, told of already.
#[derive(Debug)]
pub(super) struct Denied {
    /// In Envoy's words.
    detail: Cow<'static, str>,
    status: StatusCode,
    text: &'static str,
    flags: Flags,
    challenge: Option<HeaderValue>,
    /// What an external authorizer answers instead.
    said: Option<Box<Denial>>,
    /// The record's id.
    id: String,
}

impl Denied {
    /// By a policy.
    pub(super) fn by_policy(detail: String, id: String) -> Self {
        Self {
            detail: detail.into(),
            status: StatusCode::FORBIDDEN,
            text: ACCESS_DENIED,
            flags: Flags::NONE,
            challenge: None,
            said: None,
            id,
        }
    }

    /// For a token.
    pub(super) fn for_token(
        detail: String,
        status: StatusCode,
        text: &'static str,
        challenge: Option<HeaderValue>,
        id: String,
    ) -> Self {
        Self {
            status,
            text,
            challenge,
            ..Self::by_policy(detail, id)
        }
    }

    /// By an external authorizer.
    pub(super) fn by_authorizer(detail: &'static str, said: Denial, id: String) -> Self {
        Self {
            detail: detail.into(),
            status: said.status,
            text: "",
            flags: Flags::UAEX,
            challenge: None,
            said: Some(Box::new(said)),
            id,
        }
    }

    /// Tells of it as the end of an opaque connection.
    pub(super) fn end(self, record: &mut Connection) {
        record.denied(self.detail);
        record.flagged(self.flags);
    }

    /// The answer. The record's id is for callers of the mesh alone.
    pub(super) fn answer(self, worker: &Worker, caller: &Caller, record: &mut Record) -> Response<ResponseBody> {
        record.denied(self.detail);
        record.flagged(self.flags);
        let mut response = match &self.said {
            Some(said) => exchange::own(self.status, said.body.clone()),
            None => exchange::own(self.status, self.text),
        };
        if let Some(said) = &self.said {
            said.apply(&mut response);
        }
        let map = response.headers_mut();
        if let Some(challenge) = self.challenge {
            map.insert(WWW_AUTHENTICATE, challenge);
        }
        if worker.tells_denial_ids
            && !caller.in_the_clear()
            && let Ok(id) = HeaderValue::try_from(self.id)
        {
            map.insert(DENIAL_ID, id);
        }
        response
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

/// Why a request cannot be decided about.
#[derive(Debug)]
pub(super) enum Refused {
    /// A policy denies it.
    Denied(Box<Denied>),
    /// Its target is none that may be sent on.
    Target,
    /// Its body is longer than may be held for an external authorizer.
    TooLong,
    /// Its body broke off before it could be shown to an external authorizer.
    Broken,
    /// Nothing is known of policies.
    NoPolicy,
}
