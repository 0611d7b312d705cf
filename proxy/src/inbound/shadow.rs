//! What candidate sets would deny of the calls that pass: each set decides as if it was in force, and what it would deny is
//! told. No call is changed or waits for it, and where there is no set a look is all that it costs.

use super::authorization::{Caller, Opener, Passed, denial, http_of, tokens_of};
use crate::discovery::{Authorization, CandidateSet, Why};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::reports::{Policy, Source};
use crate::worker::Worker;
use http::{HeaderMap, Request, StatusCode};
use mesh_core::authorization::Outcome;
use mesh_core::authorization::facts::{Facts, Http};
use mesh_core::jwt::{Authenticator, Claims};
use mesh_core::peer_authentication::PortMode;
use std::sync::Arc;
use std::time::Duration;

/// How often an open connection is told of that would be denied.
const AGAIN: Duration = Duration::from_secs(30);

/// A request that is tried, as it came: before the rules in force take its tokens out.
#[derive(Debug)]
pub(super) struct Trial {
    authorization: Arc<Authorization>,
    /// In the order of the sets.
    tokens: Vec<Tokens>,
}

/// What a set makes of a request's tokens.
#[derive(Debug)]
enum Tokens {
    /// It has no rules of its own: what the rules in force make of them.
    AsInForce,
    /// They would pass, and the application would see these headers.
    Taken(Option<Arc<Claims>>, HeaderMap),
    /// They would be refused, with this detail.
    Refused(String),
}

/// Looks at a request before it is decided about; `None` where nothing is tried.
pub(super) fn begin(worker: &Worker, request: &Request<RequestBody>) -> Option<Box<Trial>> {
    let authorization = worker.mesh.trying()?;
    let tokens = authorization.candidate_sets().map(|set| match &set.tokens {
        None => Tokens::AsInForce,
        Some(rules) => Tokens::of(rules, request),
    });
    let tokens = tokens.collect();
    Some(Box::new(Trial { authorization, tokens }))
}

impl Tokens {
    fn of(rules: &Authenticator, request: &Request<RequestBody>) -> Self {
        let authenticated = match tokens_of(request, rules) {
            Ok(authenticated) => authenticated,
            Err(refusal) => return Self::Refused(refusal.detail()),
        };
        let mut headers = request.headers().clone();
        authenticated.edits.apply(&mut headers);
        Self::Taken(authenticated.claims, headers)
    }
}

impl Trial {
    /// Tells what the sets would do to the request, which passes as it is now.
    pub(super) fn end(&self, worker: &Worker, caller: &Caller, passed: &Passed, request: &Request<RequestBody>) {
        for (set, tokens) in self.authorization.candidate_sets().zip(&self.tokens) {
            let (claims, map, refused) = match tokens {
                Tokens::AsInForce => (passed.claims(), request.headers(), None),
                Tokens::Taken(claims, headers) => (claims.as_deref(), headers, None),
                Tokens::Refused(detail) => (None, request.headers(), Some(detail.as_str())),
            };
            let http = Http {
                headers: map,
                ..http_of(request, claims)
            };
            let remote = headers::remote(map, self.authorization.trusted_proxies);
            let facts = caller.facts(remote, Some(http));
            let decider = Decider {
                worker,
                caller,
                authorization: &self.authorization,
                set,
            };
            decider.decide(facts, refused);
        }
    }
}

/// Tells, if it is to `tell` now, what the sets would do to a connection that is open; when to ask again, `None` where nothing
/// is tried. `opener` is the request that made it what it is.
pub(super) fn open(worker: &Worker, caller: &Caller, opener: Option<&Opener>, tell: bool) -> Option<Duration> {
    let authorization = worker.mesh.trying()?;
    if !tell {
        return Some(AGAIN);
    }
    for set in authorization.candidate_sets() {
        let facts = match opener {
            None => caller.facts(None, None),
            Some(opener) => opener.facts(caller),
        };
        let decider = Decider {
            worker,
            caller,
            authorization: &authorization,
            set,
        };
        // What other rules made of the opener's tokens is not known any more.
        if opener.is_none() || set.tokens.is_none() || decider.refuses_plaintext() {
            decider.decide(facts, None);
        }
    }
    Some(AGAIN)
}

/// A set that decides about a caller's call.
struct Decider<'a> {
    worker: &'a Worker,
    caller: &'a Caller,
    authorization: &'a Authorization,
    set: &'a CandidateSet,
}

impl Decider<'_> {
    fn mode(&self) -> Option<PortMode> {
        let peers = self.set.peers.as_ref()?;
        Some(peers.on_port(self.caller.port()))
    }

    fn refuses_plaintext(&self) -> bool {
        self.caller.in_the_clear() && self.mode() == Some(PortMode::Strict)
    }

    /// Decides in the order in which calls are decided about: mutual TLS, tokens, policies. A CUSTOM policy's provider is not
    /// asked.
    fn decide(&self, mut facts: Facts<'_>, refused: Option<&str>) {
        let set = self.set;
        if self.refuses_plaintext() {
            let by = set
                .peers
                .as_ref()
                .map(|peers| peers.decided_by.join(", "))
                .unwrap_or_default();
            let detail = format!("plaintext where PeerAuthentication {by} would say STRICT");
            return self.tell(Why::Plaintext, &facts, detail);
        }
        let disabled = self.mode() == Some(PortMode::Disable);
        if disabled {
            // Callers of the mesh would come in the clear.
            facts.identity = None;
            facts.server_name = None;
        }
        if let Some(detail) = refused {
            return self.tell(Why::Token, &facts, detail.to_owned());
        }
        if set.policies.is_none() && set.tokens.is_none() && !disabled {
            return;
        }
        let policies = set.policies.as_ref().unwrap_or(&self.authorization.policies);
        if policies.is_empty() {
            return;
        }
        let outcome = policies.decide(&facts).outcome;
        if let Outcome::Denied { by } = outcome {
            let why = by.map_or(Why::NoRule, Why::Rule);
            self.tell(why, &facts, outcome.detail().unwrap_or_default());
        }
    }

    fn tell(&self, why: Why<'_>, facts: &Facts<'_>, detail: String) {
        let blamed = self.set.blamed(why);
        for member in blamed {
            let policy = Policy::named(member.kind.as_str(), &member.namespace, &member.name);
            let (source, port) = (Source::from(facts), self.caller.port());
            self.worker.reports.would_deny(&self.set.name, policy, source, port);
        }
        self.worker.tried.note(&self.set.name, why, blamed, facts, || {
            let status = match why {
                Why::Token => StatusCode::UNAUTHORIZED,
                _ => StatusCode::FORBIDDEN,
            };
            denial(self.caller, facts, detail, status)
        });
    }
}
