//! What the pages answer, by server. Reading is GET or HEAD; what changes something is POST, and only from within the
//! pod.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use mesh_wire::admin::PAGE_ENTRIES;
use prometheus::TextEncoder;
use serde::Serialize;
use serde_json::json;

use super::application::Application;
use super::handles::{Handles, Phase};
use super::listen::Reply;
use super::probes::Prober;
use crate::kernel_tls;
use crate::telemetry::merge::{self, Answer};

/// Which of the four servers was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// 127.0.0.1:15000.
    Admin,
    /// 15020.
    Agent,
    /// 15021.
    Health,
    /// 15090.
    Metrics,
}

/// Answers for all servers.
pub(super) struct Pages {
    pub(super) handles: Handles,
    pub(super) prober: Prober,
    pub(super) application: Application,
    pub(super) name: String,
    pub(super) kernel_tls: kernel_tls::Found,
    pub(super) started: Instant,
}

const HELP: &str = "admin commands are:
  /: this page
  /certs: certificates in use, with serial numbers and expiry
  /clusters: where connections may go; ?after=NAME&limit=N for the next page
  /config_dump: the configuration in force
  /denials: what policies denied lately, and which rule
  /discovery: how this proxy stands with the control plane
  /drain (POST): stop taking connections and end the open ones in order
  /help: this page
  /listeners: what connections are taken for
  /logging: the log level; POST ?level=LEVEL or ?MODULE=LEVEL changes it
  /policies: the policies in force and what decided them
  /quitquitquit (POST): drain, then exit
  /ready: LIVE once the proxy may take traffic
  /server_info: version, state and uptime
  /stats: metrics, one per line
  /stats/prometheus: metrics in Prometheus' format
";

impl Pages {
    /// Answers one request from `peer`.
    pub(super) async fn answer(
        &self,
        server: Server,
        peer: SocketAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Reply {
        let path = uri.path();
        if let Some(phase) = trigger(server, path) {
            return self.advance(phase, peer, method);
        }
        if (server, path) == (Server::Admin, "/logging") {
            return self.logging(peer, method, uri.query().unwrap_or_default());
        }
        let read = matches!(*method, Method::GET | Method::HEAD);
        let reply = match (server, path) {
            (Server::Agent | Server::Health, "/healthz/ready") => self.ready("ready"),
            (Server::Admin, "/ready") => self.ready("LIVE"),
            (Server::Admin | Server::Metrics, "/stats/prometheus") => self.prometheus(&[]),
            (Server::Agent, "/stats/prometheus" | "/metrics") if read => {
                self.prometheus(&self.application.answers(headers).await)
            }
            (Server::Admin, "/" | "/help") => text(StatusCode::OK, HELP),
            (Server::Admin, "/stats") => self.stats(),
            (Server::Admin, "/certs") => self.certificates(),
            (Server::Admin, "/config_dump") => reply_json(&self.handles.view.config_dump()),
            (Server::Admin, "/server_info") => self.server_info(),
            (Server::Admin, "/clusters") => {
                let query = uri.query().unwrap_or_default();
                let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok());
                let view = &self.handles.view;
                reply_page(&view.clusters(parameter(query, "after"), limit.unwrap_or(PAGE_ENTRIES)))
            }
            (Server::Admin, "/listeners") => reply_page(&self.handles.view.listeners()),
            (Server::Admin, "/policies") => reply_page(&self.handles.view.policies()),
            (Server::Admin, "/denials") => reply_page(&self.handles.view.denials()),
            (Server::Admin, "/discovery") => reply_page(&self.handles.view.discovery()),
            (Server::Agent, path)
                if read && (path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/")) =>
            {
                match self.prober.run(path, headers).await {
                    Some(outcome) => text(outcome.status, outcome.reason),
                    None => text(StatusCode::NOT_FOUND, format!("no probe is known under {path}")),
                }
            }
            _ => return text(StatusCode::NOT_FOUND, format!("no page {path}")),
        };
        if read { reply } else { not_allowed("GET, HEAD") }
    }

    fn ready(&self, good: &'static str) -> Reply {
        let mut missing = self.handles.view.readiness().missing();
        if *self.handles.phase.borrow() != Phase::Serving {
            missing.push("the proxy is draining");
        }
        if missing.is_empty() {
            text(StatusCode::OK, good)
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, missing.join("; "))
        }
    }

    fn advance(&self, to: Phase, peer: SocketAddr, method: &Method) -> Reply {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        if !from_within(peer.ip()) {
            return text(StatusCode::FORBIDDEN, "only accepted from within the pod");
        }
        if self.handles.advance(to) {
            tracing::info!(?to, %peer, "asked by an administration request");
        }
        text(StatusCode::OK, "OK")
    }

    fn logging(&self, peer: SocketAddr, method: &Method, query: &str) -> Reply {
        let shown = |level: &str| text(StatusCode::OK, format!("active log level: {level}\n"));
        if matches!(*method, Method::GET | Method::HEAD) {
            return shown(&self.handles.log.level());
        }
        if *method != Method::POST {
            return not_allowed("GET, HEAD, POST");
        }
        if !from_within(peer.ip()) {
            return text(StatusCode::FORBIDDEN, "only accepted from within the pod");
        }
        // `level=debug` sets all; `proxy::inbound=debug` sets one module on top of what is in force.
        let log = &self.handles.log;
        let changed = match query.split_once('=') {
            Some(("level", level)) => log.set(level),
            Some((module, level)) => log.set_module(module, level),
            None if query.is_empty() => return shown(&log.level()),
            None => return text(StatusCode::BAD_REQUEST, "accepted are ?level=LEVEL and ?MODULE=LEVEL\n"),
        };
        match changed {
            Ok(()) => shown(&self.handles.log.level()),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    /// The proxy's own metrics, and with them those of the application.
    fn prometheus(&self, application: &[Answer]) -> Reply {
        let own = match self.metrics() {
            Ok(page) => page,
            Err(error) => {
                return text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the metrics cannot be shown: {error}"),
                );
            }
        };
        let (page, left_out) = merge::join(&own, application);
        self.application.left_out(left_out);
        let mut reply = Response::new(Full::new(Bytes::from(page.text)));
        let content_type = HeaderValue::try_from(page.content_type);
        reply.headers_mut().insert(
            header::CONTENT_TYPE,
            content_type.unwrap_or(HeaderValue::from_static(merge::TEXT)),
        );
        reply
    }

    /// The proxy's own metrics in Prometheus' text format.
    fn metrics(&self) -> prometheus::Result<String> {
        let mut page = TextEncoder::new().encode_to_string(&self.handles.registry.gather())?;
        self.handles.view.metrics(&mut page);
        Ok(page)
    }

    /// The samples of the Prometheus page alone, as `NAME: VALUE`.
    fn stats(&self) -> Reply {
        let samples = match self.metrics() {
            Ok(samples) => samples,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let mut body = String::with_capacity(samples.len());
        for (name, value) in samples
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.rsplit_once(' '))
        {
            let _ = writeln!(body, "{name}: {value}");
        }
        text(StatusCode::OK, body)
    }

    fn certificates(&self) -> Reply {
        let now = SystemTime::now();
        let shown: Vec<_> = self
            .handles
            .view
            .certificates()
            .into_iter()
            .map(|certificate| {
                let left = certificate.not_after.duration_since(now).map_or(0, |d| d.as_secs());
                let mut shown = json!(certificate);
                shown["seconds_until_expiration"] = json!(left);
                shown
            })
            .collect();
        let mut domains = self.handles.view.trust_domains().into_iter();
        reply_json(&json!({
            "certificates": shown,
            "trust_domain": domains.next().unwrap_or_default(),
            "trust_domain_aliases": domains.collect::<Vec<_>>(),
        }))
    }

    fn server_info(&self) -> Reply {
        let phase = *self.handles.phase.borrow();
        let readiness = self.handles.view.readiness();
        let state = match phase {
            Phase::Draining | Phase::Quitting => "DRAINING",
            Phase::Serving if readiness.missing().is_empty() => "LIVE",
            Phase::Serving => "INITIALIZING",
        };
        reply_json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": state,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "node": { "id": self.name },
            "readiness": readiness,
            "log_level": self.handles.log.level(),
            "kernel_tls": self.kernel_tls.shown(),
        }))
    }
}

fn trigger(server: Server, path: &str) -> Option<Phase> {
    match (server, path) {
        (Server::Admin | Server::Agent, "/quitquitquit") => Some(Phase::Quitting),
        (Server::Admin | Server::Agent, "/drain") => Some(Phase::Draining),
        _ => None,
    }
}

/// Whether the peer is a process of this pod: on the loopback interface, and not the sidecar's inbound side, which
/// carries requests from elsewhere and calls from 127.0.0.6.
fn from_within(peer: IpAddr) -> bool {
    peer.is_loopback() && peer != Ipv4Addr::new(127, 0, 0, 6)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// The value of a query's parameter, as it is written: no value that is asked for here has a character to be escaped.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn reply_page(page: &impl Serialize) -> Reply {
    reply_json(&json!(page))
}

fn reply_json(value: &serde_json::Value) -> Reply {
    let mut reply = text(StatusCode::OK, format!("{value:#}\n"));
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("accepted is {allowed}\n"));
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    reply
}
