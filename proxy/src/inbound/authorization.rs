//! What AuthorizationPolicies and RequestAuthentications say of a connection or request, and what is told of it. Nothing is
//! waited for but what a CUSTOM policy's provider answers and a token's key that is not known yet, and where there are no
//! policies nothing is looked at.

use super::connection::Facts;
use super::custom::{self, Consent};
use super::denied::{Denied, Refused};
use super::tls::Peer;
use super::unknown_keys;
use crate::denials::{Deed, cut};
use crate::discovery::Authorization;
use crate::ext_authz::verdict::Changes;
use crate::ext_authz::{AskedRequest, Question};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::worker::Worker;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use mesh_core::authorization::facts::{self, Http};
use mesh_core::authorization::{Custom, Outcome};
use mesh_core::identity::SpiffeId;
use mesh_core::jwt::{Authenticated, Authenticator, Claims, Refusal};
use mesh_wire::admin::{Denial, DeniedRequest};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

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

    /// What a CUSTOM policy's provider is asked.
    pub(super) fn question<'a>(&'a self, request: Option<AskedRequest<'a>>) -> Question<'a> {
        Question {
            source: self.source,
            identity: self.identity.as_ref(),
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            request,
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
    consent: Consent,
}

/// A request that passes.
#[derive(Debug)]
pub(super) struct Passed {
    claims: Option<Arc<Claims>>,
    /// As many proxies were believed about its client.
    trusted_proxies: u32,
    consent: Consent,
    /// What the provider that was asked adds to the response.
    changes: Option<Box<Changes>>,
}

/// Whether an opaque connection may pass, and by whose consent. `first`: what AUDIT and dry-run policies say of it is told too.
///
/// # Errors
/// The denial.
pub(super) async fn connection(
    worker: &Worker,
    caller: &Caller,
    consent: &mut Consent,
    first: bool,
) -> Result<(), Denied> {
    opaque(worker, caller, caller.facts(None, None), consent, first).await
}

/// Whether what a request has opened may go on.
///
/// # Errors
/// The denial.
pub(super) async fn still(
    worker: &Worker,
    caller: &Caller,
    opener: &Opener,
    consent: &mut Consent,
) -> Result<(), Denied> {
    opaque(worker, caller, opener.facts(caller), consent, false).await
}

async fn opaque(
    worker: &Worker,
    caller: &Caller,
    facts: facts::Facts<'_>,
    consent: &mut Consent,
    first: bool,
) -> Result<(), Denied> {
    let Some(authorization) = worker.mesh.authorization() else {
        return Ok(());
    };
    if authorization.policies.is_empty() {
        return Ok(());
    }
    if let Some(custom) = custom::to_ask(&authorization, &facts, consent) {
        // Boxed, so that a connection does not carry the question's state for its life.
        Box::pin(custom::connection(worker, &authorization, caller, custom, &facts)).await?;
        *consent = Consent::of(custom);
    }
    decide(worker, &authorization, caller, &facts, first)
}

/// Whether an opaque connection would be denied without asking anybody, without a word of it.
pub(super) fn denies_connection(worker: &Worker, caller: &Caller) -> bool {
    worker.mesh.authorization().is_some_and(|authorization| {
        let facts = caller.facts(None, None);
        let policies = &authorization.policies;
        let unasked = |custom: Custom<'_>| match authorization.authorizers.get(custom.provider) {
            Ok(provider) => !provider.settings.knows_connections(),
            Err(_) => true,
        };
        !policies.is_empty()
            && (custom::to_ask(&authorization, &facts, &Consent::default()).is_some_and(unasked)
                || !policies.decide(&facts).outcome.is_allowed())
    })
}

/// Normalises a request's path, verifies its token, asks the provider of a CUSTOM policy that matches, and decides about it as
/// it will be sent on.
///
/// # Errors
/// [`Refused`].
pub(super) async fn request(
    worker: &Worker,
    caller: &Caller,
    request: &mut Request<RequestBody>,
) -> Result<Passed, Refused> {
    let mut authorization = worker.mesh.authorization().ok_or(Refused::NoPolicy)?;
    normalise(&authorization, request)?;
    let mut passed = Passed {
        claims: None,
        trusted_proxies: authorization.trusted_proxies,
        consent: Consent::default(),
        changes: None,
    };
    if !authorization.tokens.is_empty() {
        passed.claims = authenticate(worker, &mut authorization, caller, request).await?;
        passed.trusted_proxies = authorization.trusted_proxies;
    }
    if authorization.policies.is_empty() {
        return Ok(passed);
    }
    let remote = |headers: &HeaderMap| headers::remote(headers, authorization.trusted_proxies);
    let claims = passed.claims.as_deref();
    let http = http_of(request, claims);
    let facts = caller.facts(remote(http.headers), Some(http));
    let Some(custom) = custom::to_ask(&authorization, &facts, &passed.consent) else {
        decide(worker, &authorization, caller, &facts, true)?;
        return Ok(passed);
    };
    // Boxed, so that a request about which nobody is asked does not carry this path's state.
    let asked = Box::pin(custom::request(worker, &authorization, caller, custom, claims, request));
    let changes = asked.await?;
    if changes.apply(request).map_err(|_| Refused::Target)? {
        normalise(&authorization, request)?;
    }
    passed.consent = Consent::of(custom);
    passed.changes = Some(changes);
    // What the answer has changed is decided about as it is now.
    let http = http_of(request, passed.claims.as_deref());
    let facts = caller.facts(remote(http.headers), Some(http));
    decide(worker, &authorization, caller, &facts, true)?;
    Ok(passed)
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

    /// Who has been asked about the request.
    pub(super) fn consent(&self) -> Consent {
        self.consent.clone()
    }
}

impl Passed {
    /// What its token says, where it has one.
    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// Gives the response what the provider that was asked adds to it.
    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        if let Some(changes) = &self.changes {
            changes.apply_to_response(headers);
        }
    }

    /// What is kept of the request for the time after it.
    pub(super) fn opener(&self, request: &Request<RequestBody>) -> Opener {
        Opener {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            host: host(request).to_owned(),
            headers: request.headers().clone(),
            claims: self.claims.clone(),
            remote: headers::remote(request.headers(), self.trusted_proxies),
            consent: self.consent.clone(),
        }
    }
}

/// A request, as policies see it.
pub(super) fn http_of<'a>(request: &'a Request<RequestBody>, claims: Option<&'a Claims>) -> Http<'a> {
    Http {
        method: request.method().as_str(),
        path: request.uri().path(),
        host: host(request),
        headers: request.headers(),
        claims,
    }
}

/// A request that has opened another protocol, as a provider is asked about it afterwards.
pub(super) fn tunnel<'a>(http: &Http<'a>) -> AskedRequest<'a> {
    AskedRequest {
        method: http.method,
        target: http.path,
        host: http.host,
        version: Version::HTTP_11,
        headers: http.headers,
        length: Some(0),
        shown: None,
    }
}

/// The authority as it was written.
fn host(request: &Request<RequestBody>) -> &str {
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

/// Verifies a request's tokens, and takes out or adds what the rules say. Where it had to wait for a key, `authorization` is
/// what is in force then.
async fn authenticate(
    worker: &Worker,
    authorization: &mut Arc<Authorization>,
    caller: &Caller,
    request: &mut Request<RequestBody>,
) -> Result<Option<Arc<Claims>>, Refused> {
    let mut result = tokens_of(request, &authorization.tokens);
    if let Err(refusal) = &result
        && !refusal.unknown_keys().is_empty()
    {
        let refusal = refusal.clone();
        // Apart, so that requests whose keys are known carry nothing of it.
        result = Box::pin(unknown_keys::wait(worker, authorization, request, refusal)).await;
    }
    let authenticated = result.map_err(|refusal| unauthenticated(worker, caller, request, &refusal))?;
    authenticated.edits.apply(request.headers_mut());
    if let Some(target) = authenticated.edits.path_and_query() {
        let target = PathAndQuery::try_from(target).map_err(|_| Refused::Target)?;
        set_target(request.uri_mut(), target).ok_or(Refused::Target)?;
    }
    Ok(authenticated.claims)
}

/// What rules say of a request's tokens now.
///
/// # Errors
/// When they refuse them.
pub(super) fn tokens_of(request: &Request<RequestBody>, rules: &Authenticator) -> Result<Authenticated, Refusal> {
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    rules.authenticate(request.method(), request.headers(), target, SystemTime::now())
}

fn unauthenticated(worker: &Worker, caller: &Caller, request: &Request<RequestBody>, refusal: &Refusal) -> Denied {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let http = http_of(request, None);
    let facts = caller.facts(None, Some(http));
    let denial = denial(caller, &facts, refusal.detail(), status);
    let challenge = refusal.www_authenticate("http", http.host, http.path);
    let detail = denial.detail.clone();
    let id = worker.denials.note(Deed::Token, None, None, &facts, denial);
    Denied::for_token(
        detail,
        status,
        refusal.message(),
        HeaderValue::try_from(challenge).ok(),
        id,
    )
}

/// Decides by the policies that ask nobody, and tells of what is not simply let through.
///
/// # Errors
/// The denial.
fn decide(
    worker: &Worker,
    authorization: &Authorization,
    caller: &Caller,
    facts: &facts::Facts<'_>,
    first: bool,
) -> Result<(), Denied> {
    let policies = &authorization.policies;
    let status = StatusCode::FORBIDDEN;
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
        return Ok(());
    };
    let detail = decision.outcome.detail().unwrap_or_default();
    let nearest = match by {
        None if worker.denials.may_explain() => policies.explain(facts),
        _ => None,
    };
    let deed = if by.is_some() { Deed::Deny } else { Deed::AllowMiss };
    let denial = denial(caller, facts, detail.clone(), status);
    let id = worker.denials.note(deed, by, nearest.as_ref(), facts, denial);
    Err(Denied::by_policy(detail, id))
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
