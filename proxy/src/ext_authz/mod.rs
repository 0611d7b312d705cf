//! Questions to external authorizers, which CUSTOM policies name: over the workload's own way to the provider's endpoints, so
//! that a provider inside the mesh is called under mutual TLS, and one outside in the clear or as a DestinationRule says.
//!
//! [`body`] holds what is shown of a request's body; [`grpc`] and [`http`] ask; [`verdict`] is what comes of it.

pub mod body;
mod grpc;
mod http;
mod response;
mod target;
pub mod verdict;

use crate::cluster::Cluster;
use crate::discovery::Answer;
use crate::http::body::{RequestBody, ResponseBody};
use crate::outbound::send::{self, Call};
use crate::telemetry::Record;
use crate::worker::Worker;
use ::http::{HeaderMap, Request, Response, Version};
use body::Shown;
use mesh_core::destination::Resolution;
use mesh_core::ext_authz::{Protocol, Provider};
use mesh_core::identity::SpiffeId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use verdict::Verdict;

/// The most questions that a worker has under way at once, and with them connections over HTTP/1.1; Envoy's default for a
/// cluster.
const MOST_CALLS: usize = 1024;

/// A connection or request that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The caller's address.
    pub source: SocketAddr,
    /// Whom the caller proved to be.
    pub identity: Option<&'a SpiffeId>,
    /// The address that it called.
    pub destination: SocketAddr,
    /// The server name that its TLS asked for.
    pub server_name: Option<&'a str>,
    /// The request. `None`: an opaque connection.
    pub request: Option<AskedRequest<'a>>,
}

/// A request that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct AskedRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path and query, normalised; empty for a tunnel.
    pub target: &'a str,
    /// Its authority, as written.
    pub host: &'a str,
    /// The version in which it came.
    pub version: Version,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The length of its body in bytes, where it is known.
    pub length: Option<u64>,
    /// What is shown of its body.
    pub shown: Option<&'a Shown>,
}

/// How many questions of a worker are under way.
#[derive(Debug, Default)]
pub struct Calls(AtomicUsize);

impl Calls {
    fn begin(&self) -> Option<Place<'_>> {
        let place = Place(&self.0);
        (self.0.fetch_add(1, Ordering::Relaxed) < MOST_CALLS).then_some(place)
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks a provider, and waits for its answer for as long as its timeout says.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(worker: &Worker, provider: &Provider, question: &Question<'_>) -> Result<Verdict, String> {
    let Some(_place) = worker.authorizers.begin() else {
        return Err(format!("{MOST_CALLS} questions are under way already"));
    };
    let asked = async {
        match &provider.settings.protocol {
            Protocol::Grpc => grpc::ask(worker, provider, question).await,
            Protocol::Http(settings) => http::ask(worker, provider, settings, question).await,
        }
    };
    let timeout = provider.settings.timeout;
    match tokio::time::timeout(timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

/// Where a provider's Service leads.
async fn destination(worker: &Worker, provider: &Provider) -> Result<Arc<Cluster>, String> {
    let Provider { host, port, .. } = provider;
    match worker.mesh.host(host, *port).await {
        Answer::Found(destination) => Ok(destination),
        Answer::Absent => Err(format!("there is no Service {host} with port {port}")),
        Answer::Unavailable => Err(format!("the operator cannot be asked about Service {host}")),
    }
}

/// Sends a request to a provider.
async fn send(
    worker: &Worker,
    destination: &Arc<Cluster>,
    question: &Question<'_>,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, String> {
    // Nobody has dialled one of a headless Service's pods: any will do.
    let any = || {
        let at = rand::random::<u32>() as usize % destination.endpoints.len().max(1);
        destination.endpoints.get(at).map(|endpoint| endpoint.address)
    };
    let dialled = match destination.resolution {
        Resolution::OriginalDestination => any(),
        _ => None,
    };
    let call = Call {
        peer: question.source,
        dialled: dialled.unwrap_or(question.destination),
        name: Some(&destination.host),
    };
    let response = send::to_destination(worker, call, destination, request, &mut Record::untold()).await;
    match response.body() {
        ResponseBody::Own(text) => {
            let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
            Err(format!("{}: {text}", destination.host))
        }
        ResponseBody::Upstream { .. } | ResponseBody::Stream { .. } | ResponseBody::Timed(_) => Ok(response),
    }
}
