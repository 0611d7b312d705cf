//! What CUSTOM policies say: their provider is asked, and what it says is done. Without its answer a call is denied, unless
//! the provider's `failOpen` lets it pass.

use super::authorization::{Caller, denial, http_of, tunnel};
use super::denied::{Denied, Refused};
use crate::denials::{Deed, cut};
use crate::discovery::Authorization;
use crate::ext_authz::body::{self, Shown, Unshown};
use crate::ext_authz::verdict::{Changes, Denial, Verdict};
use crate::ext_authz::{self, AskedRequest};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::worker::Worker;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use hyper::body::Body as _;
use mesh_core::authorization::facts::Facts;
use mesh_core::authorization::{Custom, RuleRef};
use mesh_core::ext_authz::Provider;
use mesh_core::jwt::Claims;

/// Envoy's details where an external authorizer denies, and where it cannot be asked.
const DENIED: &str = "ext_authz_denied";
const FAILED: &str = "ext_authz_error";

/// The provider that has let a connection, or a request that opened one, pass. It is not asked about it again.
#[derive(Debug, Clone, Default)]
pub(super) struct Consent(Option<Box<str>>);

impl Consent {
    /// What passed because of a rule's provider.
    pub(super) fn of(custom: Custom<'_>) -> Self {
        Self(Some(custom.provider.into()))
    }

    /// Whether it is the rule's provider that let it pass.
    pub(super) fn covers(&self, custom: Custom<'_>) -> bool {
        self.0.as_deref() == Some(custom.provider)
    }
}

/// The CUSTOM rule that matches, if its provider has not been asked already.
pub(super) fn to_ask<'a>(authorization: &'a Authorization, facts: &Facts<'_>, consent: &Consent) -> Option<Custom<'a>> {
    let authorizers = &authorization.authorizers;
    let custom = authorization
        .policies
        .custom(facts, |provider| authorizers.knows_connections(provider));
    custom.filter(|custom| !consent.covers(*custom))
}

/// Asks about a request; the changes that the answer makes to it.
///
/// # Errors
/// [`Refused`].
pub(super) async fn request(
    worker: &Worker,
    authorization: &Authorization,
    caller: &Caller,
    custom: Custom<'_>,
    claims: Option<&Claims>,
    request: &mut Request<RequestBody>,
) -> Result<Box<Changes>, Refused> {
    let found = authorization.authorizers.get(custom.provider);
    let shown = match found {
        Ok(provider) => show(provider, request).await?,
        Err(_) => None,
    };
    let http = http_of(request, claims);
    let facts = caller.facts(headers::remote(http.headers, authorization.trusted_proxies), Some(http));
    let asked = AskedRequest {
        method: http.method,
        target: request.uri().path_and_query().map_or("", PathAndQuery::as_str),
        host: http.host,
        version: request.version(),
        headers: http.headers,
        length: request.body().size_hint().exact(),
        shown: shown.as_ref(),
    };
    Ok(ask(worker, found, caller, custom, &facts, Some(asked)).await?)
}

/// Asks about what is no request any more, or never was.
///
/// # Errors
/// The denial.
pub(super) async fn connection(
    worker: &Worker,
    authorization: &Authorization,
    caller: &Caller,
    custom: Custom<'_>,
    facts: &Facts<'_>,
) -> Result<(), Denied> {
    let found = authorization.authorizers.get(custom.provider);
    let asked = facts.http.as_ref().map(tunnel);
    ask(worker, found, caller, custom, facts, asked).await.map(drop)
}

async fn ask(
    worker: &Worker,
    found: Result<&Provider, &str>,
    caller: &Caller,
    custom: Custom<'_>,
    facts: &Facts<'_>,
    request: Option<AskedRequest<'_>>,
) -> Result<Box<Changes>, Denied> {
    let Custom { provider: name, rule } = custom;
    let result = match found {
        Ok(provider) => ext_authz::ask(worker, provider, &caller.question(request)).await,
        Err(problem) => Err(problem.to_owned()),
    };
    let count = |result: &str| worker.metrics.ext_authz.with_label_values(&[name, result]).inc();
    let (detail, said, problem) = match result {
        Ok(Verdict::Allowed(changes)) => {
            count("allowed");
            return Ok(changes);
        }
        Ok(Verdict::Denied(said)) => {
            count("denied");
            (DENIED, *said, None)
        }
        Err(problem) if found.is_ok_and(|provider| provider.settings.fail_open) => {
            count("failed_open");
            tracing::debug!(provider = name, %rule, problem, "passed without the external authorizer's answer");
            return Ok(Box::default());
        }
        Err(problem) => {
            count("error");
            (FAILED, failed(found.ok()), Some(format!("provider {name}: {problem}")))
        }
    };
    let id = note(worker, caller, facts, rule, detail, &said, problem);
    Err(Denied::by_authorizer(detail, said, id))
}

/// The answer where nobody could be asked.
fn failed(provider: Option<&Provider>) -> Denial {
    let status = provider.and_then(|provider| StatusCode::from_u16(provider.settings.status_on_error).ok());
    Denial {
        status: status.unwrap_or(StatusCode::FORBIDDEN),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

fn note(
    worker: &Worker,
    caller: &Caller,
    facts: &Facts<'_>,
    rule: &RuleRef,
    detail: &str,
    said: &Denial,
    problem: Option<String>,
) -> String {
    let mut denial = denial(caller, facts, detail.to_owned(), said.status);
    denial.problem = problem.as_deref().map(cut);
    worker.denials.note(Deed::Custom, Some(rule), None, facts, denial)
}

/// Holds what is shown of a request's body. One that opens another protocol has none.
async fn show(provider: &Provider, request: &mut Request<RequestBody>) -> Result<Option<Shown>, Refused> {
    let Some(settings) = provider.settings.body else {
        return Ok(None);
    };
    if request.body().is_end_stream() || headers::is_upgrade(request.headers()) {
        return Ok(None);
    }
    let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
    match body::show(settings, body).await {
        Ok((shown, whole)) => {
            *request.body_mut() = whole;
            // Whoever was to be asked for the body has been.
            request.headers_mut().remove(http::header::EXPECT);
            Ok(Some(shown))
        }
        Err(Unshown::TooLong) => Err(Refused::TooLong),
        Err(Unshown::Broken(error)) => {
            tracing::debug!(%error, "a request's body broke off");
            Err(Refused::Broken)
        }
    }
}
