//! What fields look at: the values of a connection or request that each kind of field compares.

use super::facts::{Facts, Http};
use http::HeaderName;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

/// What a field of a rule compares with its values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Principal,
    RequestPrincipal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    SourceIp,
    RemoteIp,
    DestinationIp,
    Port,
    Host,
    Method,
    Path,
    Header(Header),
    Audiences,
    Presenter,
    Claim(Vec<String>),
    Sni,
}

/// The header of `request.headers[NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Header {
    /// One of the request's.
    Named(HeaderName),
    /// `:authority`, and `host`, which Envoy takes for the same.
    Authority,
    /// `:method`.
    Method,
    /// `:path`, of which policies see no query.
    Path,
    /// A name that no request can bring.
    Impossible,
}

impl Header {
    pub(super) fn new(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            ":authority" | "host" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            other => HeaderName::from_bytes(other.as_bytes()).map_or(Self::Impossible, Self::Named),
        }
    }
}

impl Subject {
    /// Whether only HTTP has it.
    pub(super) fn is_http(&self) -> bool {
        match self {
            Self::RequestPrincipal
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::Header(_)
            | Self::Audiences
            | Self::Presenter
            | Self::Claim(_) => true,
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::TrustDomain
            | Self::SourceIp
            | Self::RemoteIp
            | Self::DestinationIp
            | Self::Port
            | Self::Sni => false,
        }
    }

    /// Whether `*` asks only for its being there, be it empty: headers, and what Envoy keeps as such.
    pub(super) fn may_be_empty(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Host | Self::Method)
    }
}

/// Facts, with what is derived from them at most once.
pub(super) struct Seen<'a> {
    pub(super) facts: &'a Facts<'a>,
    principal: OnceCell<String>,
    service_account: OnceCell<String>,
    host: OnceCell<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        Self {
            facts,
            principal: OnceCell::new(),
            service_account: OnceCell::new(),
            host: OnceCell::new(),
        }
    }

    pub(super) fn is_http(&self) -> bool {
        self.facts.http.is_some()
    }

    /// The address that a subject is of.
    pub(super) fn address(&self, subject: &Subject) -> Option<IpAddr> {
        match subject {
            Subject::SourceIp => Some(self.facts.source),
            Subject::RemoteIp => Some(self.facts.remote),
            Subject::DestinationIp => Some(self.facts.destination.ip()),
            _ => None,
        }
    }

    /// Whether a test holds of any of the subject's texts.
    pub(super) fn any_text(&self, subject: &Subject, mut test: impl FnMut(&str) -> bool) -> bool {
        let identity = self.facts.identity;
        let http = self.facts.http.as_ref();
        let claims = http.and_then(|http| http.claims);
        match subject {
            Subject::Principal => {
                identity.is_some_and(|identity| test(self.principal.get_or_init(|| identity.principal())))
            }
            Subject::Namespace => identity.is_some_and(|identity| test(identity.namespace())),
            Subject::ServiceAccount => identity.is_some_and(|identity| {
                test(
                    self.service_account
                        .get_or_init(|| [identity.namespace(), "/", identity.service_account()].concat()),
                )
            }),
            Subject::TrustDomain => identity.is_some_and(|identity| test(identity.trust_domain().as_str())),
            Subject::Sni => self.facts.server_name.is_some_and(test),
            Subject::Host | Subject::Header(Header::Authority) => http.is_some_and(|http| match subject {
                Subject::Host => test(self.host.get_or_init(|| lower(http))),
                _ => test(http.host),
            }),
            Subject::Method | Subject::Header(Header::Method) => http.is_some_and(|http| test(http.method)),
            Subject::Path | Subject::Header(Header::Path) => http.is_some_and(|http| test(http.path)),
            Subject::Header(Header::Named(name)) => http.is_some_and(|http| {
                let mut values = http.headers.get_all(name).iter();
                values.any(|value| test(&String::from_utf8_lossy(value.as_bytes())))
            }),
            Subject::Header(Header::Impossible) => false,
            Subject::RequestPrincipal => claims.and_then(|claims| claims.principal()).is_some_and(test),
            Subject::Audiences => claims.is_some_and(|claims| claims.audiences().any(&mut test)),
            Subject::Presenter => claims.and_then(|claims| claims.presenter()).is_some_and(test),
            Subject::Claim(path) => claims.is_some_and(|claims| claims.claim(path).any(&mut test)),
            Subject::SourceIp | Subject::RemoteIp | Subject::DestinationIp | Subject::Port => false,
        }
    }
}

fn lower<'a>(http: &Http<'a>) -> Cow<'a, str> {
    if http.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(http.host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(http.host)
    }
}
