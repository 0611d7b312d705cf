//! A request to a destination of the mesh: to one of its endpoints, and to another one where that fails.

use super::connect::{Carries, connect};
use super::secured::Secured;
use crate::cluster::{Asked, Cluster};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::upstream::{self, ConnectError, Connected, Failed, Manner, Server};
use crate::http::{exchange, headers};
use crate::refusals::Reason;
use crate::resolve::{Towards, concrete};
use crate::telemetry::Record;
use crate::worker::Worker;
use http::{Request, Response, StatusCode, Version};
use mesh_core::balance::Outcome;
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::identity::SpiffeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// Istio's default: two retries, on failures before the request was sent and on connections that were closing.
pub const ATTEMPTS: usize = 3;

/// Who sends a request, and how its server is called.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// For whom it is sent.
    pub peer: SocketAddr,
    /// The address that was dialled, where the client chooses the endpoint itself.
    pub dialled: SocketAddr,
    /// The server's name, where the request's own host does not say it.
    pub name: Option<&'a str>,
}

/// Sends a request to a destination, and says what came of it. Where nobody answers, the answer is the proxy's own.
pub async fn to_destination(
    worker: &Worker,
    call: Call<'_>,
    cluster: &Arc<Cluster>,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let mut tries = match Tries::prepare(worker, call, cluster, &request, record).await {
        Ok(tries) => tries,
        Err(refused) => return refused,
    };
    let mut manner = Manner::default();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tries.again();
        }
        if !tries.choose(true, false, record) {
            return tries.nowhere(record);
        }
        match tries.once(request, manner, record).await {
            Ok(response) => return response,
            Err(Failed::Connect { error, request: again }) => {
                tries.avoid();
                tries.failed(error.reason(), &error.to_string(), record);
                if error.is_lasting() && tries.were_all() {
                    return exchange::unreachable();
                }
                request = again;
            }
            Err(Failed::Exchange(failed)) => {
                // The next try does not trust another connection that may have closed with this one.
                manner.fresh = true;
                let Some(again) = failed.again else {
                    tries.failed(Reason::Unreachable, &failed.error.to_string(), record);
                    return exchange::unreachable();
                };
                request = again;
            }
        }
    }
    record.gave_up();
    exchange::unreachable()
}

/// One request's tries at a destination's endpoints.
pub struct Tries<'a> {
    worker: &'a Worker,
    call: Call<'a>,
    cluster: &'a Arc<Cluster>,
    /// The cluster with addresses, where its own endpoints are none.
    found: Option<Arc<Cluster>>,
    secured: Secured,
    generation: u64,
    carries: Carries,
    /// Which endpoints are to be avoided.
    tried: Vec<usize>,
    /// Which one is being tried.
    at: usize,
}

impl<'a> Tries<'a> {
    /// Prepares a request's tries.
    ///
    /// # Errors
    /// The answer where they cannot be secured as a rule says.
    pub async fn prepare(
        worker: &'a Worker,
        call: Call<'a>,
        cluster: &'a Arc<Cluster>,
        request: &Request<RequestBody>,
        record: &mut Record,
    ) -> Result<Self, Response<ResponseBody>> {
        let named = || headers::host(request.uri(), request.headers());
        let found = if cluster.is_concrete() {
            None
        } else {
            let towards = Towards {
                dialled: call.dialled,
                host: named().or(call.name),
            };
            // Boxed: few requests wait for names.
            Some(Box::pin(concrete(&worker.mesh, &worker.names, cluster, towards)).await)
        };
        let host = || named().unwrap_or(&cluster.host);
        match Secured::prepare(worker, cluster, call.name.unwrap_or_else(host)).await {
            Ok(secured) => Ok(Self {
                worker,
                call,
                cluster,
                found,
                secured,
                generation: worker.identity.generation(),
                carries: match request.version() {
                    Version::HTTP_2 => Carries::Http2,
                    _ => Carries::Http1,
                },
                tried: Vec::new(),
                at: 0,
            }),
            Err(error) => {
                let detail = format!("{}: {error}", cluster.cluster_name());
                record.failed(error.reason(), &detail);
                worker.refuse(error.reason(), call.peer, Some(call.dialled), detail);
                Err(exchange::own(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the TLS settings of a DestinationRule cannot be followed; the sidecar's log says why",
                ))
            }
        }
    }

    fn cluster(&self) -> &Arc<Cluster> {
        self.found.as_ref().unwrap_or(self.cluster)
    }

    /// Chooses the endpoint of the next try; `avoiding` those that were tried, and `elsewhere` than they are.
    pub fn choose(&mut self, avoiding: bool, elsewhere: bool, record: &mut Record) -> bool {
        let asked = Asked {
            hash: None,
            dialled: self.call.dialled,
            tried: if avoiding { &self.tried } else { &[] },
            elsewhere,
        };
        let chosen = self.cluster().choose(&asked);
        let Some(at) = chosen.filter(|at| *at < self.cluster().endpoints.len()) else {
            return false;
        };
        self.at = at;
        if let Some(endpoint) = self.cluster().endpoints.get(at) {
            record.to_endpoint(self.cluster(), endpoint);
        }
        true
    }

    /// Tries the endpoint that was chosen.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn once(
        &self,
        request: Request<RequestBody>,
        manner: Manner,
        record: &mut Record,
    ) -> Result<Response<ResponseBody>, Failed> {
        let Some(endpoint) = self.cluster().endpoints.get(self.at) else {
            let error = Arc::new(ConnectError::Tcp(std::io::ErrorKind::AddrNotAvailable.into()));
            return Err(Failed::Connect { error, request });
        };
        // A pooled connection made under an earlier certificate is not used again, nor one whose server is not this
        // destination's (two destinations may share an endpoint).
        let fits = |peer: Option<&SpiffeId>, made_under: u64| {
            peer.is_none_or(|peer| made_under == self.generation && self.cluster().accepts(peer))
        };
        let open = || open(self.worker, self.cluster(), &self.secured, endpoint, self.carries);
        let server = Server {
            pools: &self.worker.upstreams,
            key: self.secured.key(self.cluster(), endpoint),
            counted: self.cluster().begin(self.at),
        };
        let result = upstream::try_once(server, request, record, manner, fits, open).await;
        self.report(match &result {
            Ok(response) => Outcome::Answered(response.status().as_u16()),
            Err(Failed::Connect { .. }) => Outcome::NotConnected,
            Err(Failed::Exchange(_)) => Outcome::Reset,
        });
        result
    }

    /// Notes what became of the try under way.
    pub fn report(&self, outcome: Outcome) {
        self.cluster().report(self.at, outcome);
    }

    /// Has the endpoint be avoided from now on.
    pub fn avoid(&mut self) {
        if !self.tried.contains(&self.at) {
            self.tried.push(self.at);
        }
    }

    /// Whether there is no endpoint that was not tried.
    #[must_use]
    pub fn were_all(&self) -> bool {
        self.tried.len() >= self.cluster().endpoints.len()
    }

    /// Counts a further try.
    pub fn again(&self) {
        self.worker.metrics.retries.inc();
    }

    /// Notes why a try failed.
    pub fn failed(&self, reason: Reason, error: &str, record: &mut Record) {
        let address = self.cluster().endpoints.get(self.at).map(|endpoint| endpoint.address);
        let name = self.cluster().cluster_name();
        let detail = match address {
            Some(address) => format!("{name}: {address}: {error}"),
            None => format!("{name}: {error}"),
        };
        record.failed(reason, &detail);
        self.worker.refuse(reason, self.call.peer, address, detail);
    }

    /// The answer where there is no endpoint.
    pub fn nowhere(&self, record: &mut Record) -> Response<ResponseBody> {
        let detail = match self.cluster().resolution {
            Resolution::OriginalDestination => "is not one of the destination's pods",
            _ => "has no endpoint that is ready",
        };
        let detail = format!("{} {detail}", self.cluster().cluster_name());
        record.without_endpoint(self.cluster());
        self.worker
            .refuse(Reason::NoEndpoint, self.call.peer, Some(self.call.dialled), detail);
        exchange::own(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
    }
}

async fn open(
    worker: &Worker,
    destination: &Destination,
    secured: &Secured,
    endpoint: &Endpoint,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let connected = connect(worker, destination, secured, endpoint, carries).await?;
    count(worker, secured.label(destination, endpoint));
    Ok(connected)
}

/// Counts a connection.
pub fn count(worker: &Worker, security: &str) {
    worker
        .metrics
        .connections
        .with_label_values(&["outbound", security])
        .inc();
}
