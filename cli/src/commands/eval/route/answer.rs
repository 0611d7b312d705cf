//! What is told of a request.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use mesh_core::routing::{AbortWith, Fault, HttpRoute, Mirror, Percent, Retries, RetryOn, Routes, Target, Weighted};
use serde::Serialize;
use serde_json::{Value, json};

use super::Named;
use super::asked::Request;
use crate::output::{Cell, Table};

/// A line of the answer. What does not apply is null.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    id: Value,
    /// What the client gets where its own sidecar answers.
    pub(super) status: Option<u16>,
    /// The host to which it goes; of several the one with the greatest weight, the first of equals.
    pub(super) destination: Option<String>,
    subset: Option<String>,
    port: Option<u16>,
    weights: Vec<Weight>,
    /// As the destination gets it.
    pub(super) path: Option<String>,
    host: Option<String>,
    headers_added: BTreeMap<String, Value>,
    headers_removed: Vec<String>,
    pub(super) timeout: Option<String>,
    retries: Option<Value>,
    fault: Option<Value>,
    mirrors: Vec<Weight>,
    /// Where the answer sends the client.
    pub(super) redirect: Option<String>,
    /// The name of the route.
    route: Option<String>,
    /// The VirtualServices that speak, `namespace/name`.
    virtual_services: Vec<String>,
}

/// One of several destinations, or a mirror.
#[derive(Debug, Serialize)]
struct Weight {
    destination: String,
    subset: Option<String>,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
}

impl Weight {
    fn new(named: &Named) -> Self {
        Self {
            destination: named.host.clone(),
            subset: named.subset.clone(),
            port: named.port,
            weight: None,
            percent: None,
        }
    }
}

impl Answer {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            id: request.id.clone(),
            ..Self::default()
        }
    }

    /// One that the sidecar gives itself.
    pub(super) fn of_mesh(request: &Request, status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::new(request)
        }
    }

    /// Of a request that goes on as it is.
    pub(super) fn forwarded(request: &Request) -> Self {
        Self {
            path: Some(request.target.clone()),
            host: Some(request.host.clone()),
            ..Self::new(request)
        }
    }

    /// Who took it.
    pub(super) fn took(&mut self, routes: &Routes, route: Option<&HttpRoute>) {
        self.virtual_services = routes.sources.iter().map(ToString::to_string).collect();
        let name = route.map(|route| route.name.to_string());
        self.route = name.filter(|name| !name.is_empty());
    }

    /// It goes to the one destination that was called.
    pub(super) fn only(&mut self, named: Named, http: bool) {
        let mut weight = Weight::new(&named);
        weight.weight = Some(100);
        self.weights = vec![weight];
        self.status = (http && !named.answers).then_some(503);
        (self.destination, self.subset, self.port) = (Some(named.host), named.subset, Some(named.port));
    }

    /// It goes to one of several.
    pub(super) fn leads<'a>(&mut self, to: &[Weighted], named: impl Fn(&Weighted) -> Option<&'a Named>) {
        let only = to.len() == 1;
        for one in to {
            let Some(named) = named(one) else { continue };
            let mut weight = Weight::new(named);
            weight.weight = Some(if only { 100 } else { one.weight });
            self.weights.push(weight);
        }
        let heaviest = to.iter().rev().max_by_key(|to| to.weight);
        if let Some(named) = heaviest.and_then(named) {
            (self.destination, self.subset, self.port) =
                (Some(named.host.clone()), named.subset.clone(), Some(named.port));
            self.status = (!named.answers).then_some(503);
        }
    }

    /// What the request is for one of the route's destinations.
    pub(super) fn goes(&mut self, request: &Request, route: &HttpRoute, to: &Weighted) {
        let mut headers = request.headers.clone();
        route.edit_request(to, &mut headers);
        if let Some(authority) = route.authority(to) {
            self.host = Some(String::from_utf8_lossy(authority.as_bytes()).into_owned());
        }
        let values = |map: &HeaderMap, name: &HeaderName| -> Vec<String> {
            let values = map.get_all(name).iter();
            values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect()
        };
        for name in headers.keys() {
            let now = values(&headers, name);
            if now != values(&request.headers, name) {
                let told = match &now[..] {
                    [only] => json!(only),
                    several => json!(several),
                };
                self.headers_added.insert(name.to_string(), told);
            }
        }
        let gone = request.headers.keys().filter(|name| !headers.contains_key(*name));
        self.headers_removed = gone.map(ToString::to_string).collect();
        self.headers_removed.sort();
    }

    /// `None`: those of the mesh.
    pub(super) fn set_retries(&mut self, retries: Option<&Retries>) {
        let retries = retries.unwrap_or(Retries::of_the_mesh());
        self.retries = (retries.attempts > 0).then(|| {
            json!({
                "attempts": retries.attempts,
                "retry_on": retry_on(&retries.on),
                "per_try_timeout": duration(retries.per_try_timeout),
            })
        });
    }

    pub(super) fn set_mirrors<'a>(&mut self, mirrors: &[Mirror], named: impl Fn(Target) -> Option<&'a Named>) {
        for mirror in mirrors {
            let Some(named) = named(mirror.target) else { continue };
            let mut copy = Weight::new(named);
            copy.percent = Some(percent(mirror.percent));
            self.mirrors.push(copy);
        }
    }

    /// What is done to a share of requests. Where that is every one, the answer is the fault's.
    pub(super) fn set_fault(&mut self, fault: &Fault) {
        let delay = fault
            .delay
            .as_ref()
            .map(|delay| json!({"delay": duration(Some(delay.fixed)), "percent": percent(delay.percent)}));
        let abort = fault.abort.as_ref().map(|abort| {
            if abort.percent == Percent::ALL {
                self.status = Some(match abort.with {
                    AbortWith::Status(status) => status,
                    AbortWith::Grpc(_) => 200,
                });
            }
            match abort.with {
                AbortWith::Status(status) => json!({"status": status, "percent": percent(abort.percent)}),
                AbortWith::Grpc(status) => json!({"grpc_status": status, "percent": percent(abort.percent)}),
            }
        });
        self.fault = (delay.is_some() || abort.is_some()).then(|| json!({"delay": delay, "abort": abort}));
    }
}

fn percent(percent: Percent) -> f64 {
    f64::from(percent.0) / 10_000.0
}

/// Seconds, as resources write them.
pub(super) fn duration(duration: Option<Duration>) -> Option<String> {
    duration.map(|duration| format!("{}s", duration.as_secs_f64()))
}

/// `retryOn`, in Envoy's words.
fn retry_on(on: &RetryOn) -> String {
    let words = [
        (on.server_errors, "5xx"),
        (on.gateway_errors, "gateway-error"),
        (on.reset, "reset"),
        (on.reset_before_request, "reset-before-request"),
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.conflict, "retriable-4xx"),
        (on.rate_limited, "envoy-ratelimited"),
    ];
    let grpc = [
        (1, "cancelled"),
        (4, "deadline-exceeded"),
        (8, "resource-exhausted"),
        (13, "internal"),
        (14, "unavailable"),
    ];
    let words = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
    let grpc = grpc.into_iter().filter(|(code, _)| on.grpc.contains(code));
    let statuses = on.statuses.iter().map(ToString::to_string);
    let all = words.chain(grpc.map(|(_, word)| word.to_owned())).chain(statuses);
    all.collect::<Vec<_>>().join(",")
}

pub(super) fn table(answers: &[Answer]) -> Table {
    let mut table = Table::new(&["ID", "STATUS", "DESTINATION", "PATH", "ROUTE", "VIRTUAL SERVICE"]);
    for answer in answers {
        let id = answer.id.as_str().map_or_else(|| answer.id.to_string(), str::to_owned);
        let to = |to: &Weight| {
            let subset = to
                .subset
                .as_ref()
                .map(|subset| format!(" {subset}"))
                .unwrap_or_default();
            let weight = to.weight.filter(|_| answer.weights.len() > 1);
            let weight = weight.map(|weight| format!(" ({weight})")).unwrap_or_default();
            format!("{}:{}{subset}{weight}", to.destination, to.port)
        };
        let destination = match (&answer.redirect, &answer.weights[..]) {
            (Some(location), _) => location.clone(),
            (None, []) => answer.destination.clone().unwrap_or_default(),
            (None, several) => several.iter().map(to).collect::<Vec<_>>().join(", "),
        };
        table.row([
            Cell::from(id),
            answer
                .status
                .map(|status| status.to_string())
                .unwrap_or_default()
                .into(),
            destination.into(),
            answer.path.clone().unwrap_or_default().into(),
            answer.route.clone().unwrap_or_default().into(),
            answer.virtual_services.join(", ").into(),
        ]);
    }
    table
}
