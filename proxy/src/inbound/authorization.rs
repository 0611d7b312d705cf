//! What AuthorizationPolicies and RequestAuthentications say of a connection or request, and what is told of it. Nothing is
//! waited for, and where there are no policies nothing is looked at.

use super::connection::Facts;
use super::tls::Peer;
use crate::denials::{Deed, cut};
use crate::discovery::Authorization;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::{exchange, headers};
use crate::telemetry::{Flags, Record};
use crate::worker::Worker;
use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use mesh_core::authorization::Outcome;
use mesh_core::authorization::facts::{self, Http};
use mesh_core::identity::SpiffeId;
use mesh_core::jwt::{Claims, Refusal, is_cors_preflight};
use mesh_wire::admin::{Denial, DeniedRequest};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

/// The header that tells a caller of the mesh the id of its denial's record, where that is asked for.
const DENIAL_ID: HeaderName = HeaderName::from_static("x-pinnace-denial-id");

/// Envoy's words to whom a policy denies a request.
const ACCESS_DENIED: &str = "RBAC: access denied";

/// Envoy's detail where an external authorizer cannot be asked.
const NO_AUTHORIZER: &str = "ext_authz_error";

/// Who calls what, on one connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    identity: Option<SpiffeId>,
    server_name: Option<Arc<str>>,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Caller {
    /// The caller of a connection; without a `peer` it came in the clear.
    pub(super) fn new(facts: &Facts, peer: Option<&Peer>) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            identity: peer.map(|peer| peer.identity.clone()),
            server_name: peer.and_then(|peer| peer.server_name.clone()),
            source: canonical(facts.peer),
            destination: canonical(facts.address),
        }
    }

    /// Whether it came without mutual TLS.
    pub(super) fn in_the_clear(&self) -> bool {
        self.identity.is_none()
    }

    /// The port that was called.
    pub(super) fn port(&self) -> u16 {
        self.destination.port()
    }

    /// What policies see of a call; `remote` is the client that trusted proxies name.
    pub(super) fn facts<'a>(&'a self, remote: Option<IpAddr>, http: Option<Http<'a>>) -> facts::Facts<'a> {
        facts::Facts {
            identity: self.identity.as_ref(),
            source: self.source.ip(),
            remote: remote.unwrap_or(self.source.ip()),
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            http,
        }
    }
}

/// A request as it was decided about, kept for as long as the connection is what it opened: a tunnel or another protocol.
#[derive(Debug)]
pub(super) struct Opener {
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
    claims: Option<Arc<Claims>>,
    remote: Option<IpAddr>,
}

/// A request that passes.
#[derive(Debug)]
pub(super) struct Passed {
    claims: Option<Arc<Claims>>,
    /// As many proxies were believed about its client.
    trusted_proxies: u32,
}

/// A denial, told of already.
#[derive(Debug)]
pub(super) struct Denied {
    /// In Envoy's words.
    pub(super) detail: Cow<'static, str>,
    status: StatusCode,
    text: &'static str,
    flags: Flags,
    challenge: Option<HeaderValue>,
    /// The record's id.
    id: String,
}

impl Denied {
    fn by_policy(detail: Cow<'static, str>, flags: Flags, id: String) -> Self {
        Self {
            detail,
            status: StatusCode::FORBIDDEN,
            text: ACCESS_DENIED,
            flags,
            challenge: None,
            id,
        }
    }

    /// The answer. The record's id is for callers of the mesh alone.
    pub(super) fn answer(self, worker: &Worker, caller: &Caller, record: &mut Record) -> Response<ResponseBody> {
        record.denied(self.detail);
        record.flagged(self.flags);
        let mut response = exchange::own(self.status, self.text);
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

/// Why a request cannot be decided about.
#[derive(Debug)]
pub(super) enum Refused {
    /// A policy denies it.
    Denied(Box<Denied>),
    /// Its target is none that may be sent on.
    Target,
    /// Nothing is known of policies.
    NoPolicy,
}

/// Whether an opaque connection may pass. `first`: what AUDIT and dry-run policies say of it is told too.
pub(super) fn connection(worker: &Worker, caller: &Caller, first: bool) -> Option<Denied> {
    let authorization = worker.mesh.authorization()?;
    if authorization.policies.is_empty() {
        return None;
    }
    decide(worker, &authorization, caller, &caller.facts(None, None), first)
}

/// Whether an opaque connection would be denied, without a word of it.
pub(super) fn denies_connection(worker: &Worker, caller: &Caller) -> bool {
    worker.mesh.authorization().is_some_and(|authorization| {
        let facts = caller.facts(None, None);
        let policies = &authorization.policies;
        !policies.is_empty() && (policies.custom(&facts).is_some() || !policies.decide(&facts).outcome.is_allowed())
    })
}

/// Whether what a request has opened may go on.
pub(super) fn still(worker: &Worker, caller: &Caller, opener: &Opener) -> Option<Denied> {
    let authorization = worker.mesh.authorization()?;
    if authorization.policies.is_empty() {
        return None;
    }
    decide(worker, &authorization, caller, &opener.facts(caller), false)
}

/// Normalises a request's path, verifies its token, and decides about it as it will be sent on.
///
/// # Errors
/// [`Refused`].
pub(super) fn request(worker: &Worker, caller: &Caller, request: &mut Request<RequestBody>) -> Result<Passed, Refused> {
    let authorization = worker.mesh.authorization().ok_or(Refused::NoPolicy)?;
    normalise(&authorization, request)?;
    let mut passed = Passed {
        claims: None,
        trusted_proxies: authorization.trusted_proxies,
    };
    if !authorization.tokens.is_empty() {
        passed.claims = authenticate(worker, &authorization, caller, request)?;
    }
    if authorization.policies.is_empty() {
        return Ok(passed);
    }
    let (method, headers) = (request.method().as_str(), request.headers());
    let http = Http {
        method,
        path: request.uri().path(),
        host: host(request),
        headers,
        claims: passed.claims.as_deref(),
    };
    let facts = caller.facts(headers::remote(headers, passed.trusted_proxies), Some(http));
    match decide(worker, &authorization, caller, &facts, true) {
        None => Ok(passed),
        Some(denied) => Err(Refused::Denied(Box::new(denied))),
    }
}

impl Opener {
    /// What policies see of it.
    pub(super) fn facts<'a>(&'a self, caller: &'a Caller) -> facts::Facts<'a> {
        let http = Http {
            method: self.method.as_str(),
            path: &self.path,
            host: &self.host,
            headers: &self.headers,
            claims: self.claims.as_deref(),
        };
        caller.facts(self.remote, Some(http))
    }
}

impl Passed {
    /// What its token says, where it has one.
    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// What is kept of the request for the time after it.
    pub(super) fn opener(self, request: &Request<RequestBody>) -> Opener {
        Opener {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            host: host(request).to_owned(),
            headers: request.headers().clone(),
            claims: self.claims,
            remote: headers::remote(request.headers(), self.trusted_proxies),
        }
    }
}

/// The authority as it was written.
pub(super) fn host(request: &Request<RequestBody>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers()
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default(),
    }
}

/// Makes a request's path what policies see and the application gets. `*` and a tunnel's target have none.
fn normalise(authorization: &Authorization, request: &mut Request<RequestBody>) -> Result<(), Refused> {
    let Some(target) = request
        .uri()
        .path_and_query()
        .filter(|target| target.as_str().starts_with('/'))
    else {
        return Ok(());
    };
    match authorization.paths.normalize(target.as_str()) {
        Ok(Cow::Borrowed(same)) if same.len() == target.as_str().len() => Ok(()),
        Ok(normal) => {
            let normal = PathAndQuery::try_from(&*normal).map_err(|_| Refused::Target)?;
            set_target(request.uri_mut(), normal).ok_or(Refused::Target)
        }
        Err(_) => Err(Refused::Target),
    }
}

fn set_target(uri: &mut Uri, target: PathAndQuery) -> Option<()> {
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).ok()?;
    Some(())
}

/// Verifies a request's tokens, and takes out or adds what the rules say.
fn authenticate(
    worker: &Worker,
    authorization: &Authorization,
    caller: &Caller,
    request: &mut Request<RequestBody>,
) -> Result<Option<Arc<Claims>>, Refused> {
    let tokens = &authorization.tokens;
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let authenticated = if is_cors_preflight(request.method(), request.headers()) {
        tokens.pass_by()
    } else {
        let result = tokens.authenticate(request.headers(), target, SystemTime::now());
        result.map_err(|refusal| Refused::Denied(Box::new(unauthenticated(worker, caller, request, &refusal))))?
    };
    authenticated.edits.apply(request.headers_mut());
    if let Some(target) = authenticated.edits.path_and_query() {
        let target = PathAndQuery::try_from(target).map_err(|_| Refused::Target)?;
        set_target(request.uri_mut(), target).ok_or(Refused::Target)?;
    }
    Ok(authenticated.claims)
}

fn unauthenticated(worker: &Worker, caller: &Caller, request: &Request<RequestBody>, refusal: &Refusal) -> Denied {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let http = Http {
        method: request.method().as_str(),
        path: request.uri().path(),
        host: host(request),
        headers: request.headers(),
        claims: None,
    };
    let facts = caller.facts(None, Some(http));
    let denial = denial(caller, &facts, refusal.detail(), status);
    let challenge = refusal.www_authenticate("http", http.host, http.path);
    Denied {
        detail: denial.detail.clone().into(),
        status,
        text: refusal.message(),
        flags: Flags::NONE,
        challenge: HeaderValue::try_from(challenge).ok(),
        id: worker.denials.note(Deed::Token, None, None, &facts, denial),
    }
}

/// Decides, and tells of what is not simply let through.
fn decide(
    worker: &Worker,
    authorization: &Authorization,
    caller: &Caller,
    facts: &facts::Facts<'_>,
    first: bool,
) -> Option<Denied> {
    let policies = &authorization.policies;
    let status = StatusCode::FORBIDDEN;
    if let Some(custom) = policies.custom(facts) {
        let denial = denial(caller, facts, NO_AUTHORIZER.into(), status);
        let id = worker
            .denials
            .note(Deed::Custom, Some(custom.rule), None, facts, denial);
        return Some(Denied::by_policy(NO_AUTHORIZER.into(), Flags::UAEX, id));
    }
    let decision = policies.decide(facts);
    if first {
        for rule in &decision.audits {
            worker.denials.audited(rule, || call(facts));
        }
        if let Some(shadow) = decision.shadow {
            worker.denials.shadowed(shadow, facts, || call(facts));
        }
    }
    let Outcome::Denied { by } = decision.outcome else {
        return None;
    };
    let detail = decision.outcome.detail().unwrap_or_default();
    let nearest = match by {
        None if worker.denials.may_explain() => policies.explain(facts),
        _ => None,
    };
    let deed = if by.is_some() { Deed::Deny } else { Deed::AllowMiss };
    let denial = denial(caller, facts, detail.clone(), status);
    let id = worker.denials.note(deed, by, nearest.as_ref(), facts, denial);
    Some(Denied::by_policy(detail.into(), Flags::NONE, id))
}

/// What a record says of the call.
pub(super) fn denial(caller: &Caller, facts: &facts::Facts<'_>, detail: String, status: StatusCode) -> Denial {
    let request = facts.http.map(|http| DeniedRequest {
        method: cut(http.method),
        host: cut(http.host),
        path: cut(http.path),
        id: http
            .headers
            .get(headers::X_REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .map(cut)
            .unwrap_or_default(),
        principal: http.claims.and_then(|claims| claims.principal()).map(cut),
    });
    Denial {
        detail,
        status: request.as_ref().map_or(0, |_| status.as_u16()),
        identity: facts.identity.map(ToString::to_string),
        source: caller.source.to_string(),
        remote: (facts.remote != facts.source).then(|| facts.remote.to_string()),
        destination: caller.destination.to_string(),
        port: caller.destination.port(),
        request,
        ..Denial::default()
    }
}

/// A call in one line, without its query.
fn call(facts: &facts::Facts<'_>) -> String {
    let who = facts
        .identity
        .map_or_else(|| facts.source.to_string(), ToString::to_string);
    match facts.http {
        Some(http) => format!("{who}: {} {}{}", cut(http.method), cut(http.host), cut(http.path)),
        None => format!("{who}: {}", facts.destination),
    }
}
