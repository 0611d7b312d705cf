//! One discovery stream: subscriptions out, responses in, each acknowledged when it is in force.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use mesh_wire::resources::{SELF_NAME, TAKES_CANDIDATE_SETS, TAKES_KEY_REFRESH, type_url};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::apply::Applier;
use super::connect::ConnectError;
use super::mesh::{Mesh, Requests};
use super::table::Known;

/// The largest response that is taken: what a reconnecting proxy with thousands of destinations may be sent at once.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// How long the operator may take to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Names in one request; far below the 4 MB that a server takes.
const NAMES_PER_REQUEST: usize = 1000;

/// Requests handed to the transport ahead of its sending them.
const AHEAD: usize = 4;

/// Requests that wait, above which no more names are taken up.
const WAITING: usize = 16;

/// Requests that wait, above which the operator is not reading: a stream that only talks is worth nothing.
const MOST_WAITING: usize = 1024;

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// Why a stream ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The operator refused or ended the stream.
    #[error("{}: {}", .0.code(), .0.message())]
    Call(Box<tonic::Status>),
    /// The operator did not open the stream in time.
    #[error("the operator did not open the stream within {OPEN_TIMEOUT:?}")]
    NotOpened,
    /// The operator ended the stream in order, as it does when it shuts down.
    #[error("the operator ended the stream")]
    Ended,
    /// The operator sends but does not read.
    #[error("the operator does not read its requests")]
    NotRead,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}

/// Runs a stream until it ends.
///
/// # Errors
/// [`StreamError`]: a stream never ends otherwise.
pub(super) async fn run(
    node: Node,
    channel: Channel,
    mesh: &Mesh,
    requests: &mut Requests,
    applier: &mut Applier,
) -> Result<Infallible, StreamError> {
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let mut waiting: VecDeque<DeltaDiscoveryRequest> = first(mesh).into();
    if let Some(mut request) = waiting.pop_front() {
        // The operator may look at it before it answers at all. The channel is new and has room.
        request.node = Some(node);
        let _ = sender.try_send(request);
    }
    let open = client.delta_aggregated_resources(ReceiverStream::new(receiver));
    let responses = tokio::time::timeout(OPEN_TIMEOUT, open)
        .await
        .map_err(|_| StreamError::NotOpened)??;
    let takes = |what: &str| responses.metadata().contains_key(what);
    mesh.keys().set_taken(takes(TAKES_KEY_REFRESH));
    if takes(TAKES_CANDIDATE_SETS) {
        let traffic = |request: &DeltaDiscoveryRequest| request.type_url == type_url::DESTINATION;
        let before = waiting.iter().position(traffic).unwrap_or(waiting.len());
        waiting.insert(before, own(type_url::CANDIDATE_SETS, mesh.own_versions().candidates));
    } else {
        // Nobody tells when they end.
        mesh.set_candidates(None, "");
    }
    waiting.extend(mesh.keys().under_way().iter().map(|origin| refresh(origin)));
    let mut responses = responses.into_inner();
    // An operator opens every stream before it looks whose it is; only one that answers serves us.
    let mut connected = None;

    let mut names = Vec::new();
    loop {
        tokio::select! {
            permit = sender.reserve(), if !waiting.is_empty() => match (permit, waiting.pop_front()) {
                (Ok(permit), Some(request)) => permit.send(request),
                // The transport let go of the requests; the responses say why.
                _ => waiting.clear(),
            },
            response = responses.message() => {
                let response = response?.ok_or(StreamError::Ended)?;
                connected.get_or_insert_with(|| Connected::new(mesh));
                if waiting.len() >= MOST_WAITING {
                    return Err(StreamError::NotRead);
                }
                waiting.push_back(acknowledge(mesh, applier, response));
            }
            count = requests.names.recv_many(&mut names, NAMES_PER_REQUEST), if waiting.len() < WAITING => {
                if count > 0 {
                    waiting.push_back(subscriptions(mesh, &names));
                    names.clear();
                }
            }
            Some(origin) = requests.keys.recv(), if waiting.len() < WAITING => {
                if mesh.keys().are_taken() {
                    waiting.push_back(refresh(&origin));
                }
            }
        }
    }
}

/// What every operator is subscribed to, with the versions held so that only changes come; trust before policy before traffic.
fn first(mesh: &Mesh) -> Vec<DeltaDiscoveryRequest> {
    let held = mesh.own_versions();
    // What the pod is comes anew every time, so that an operator that serves us always says something.
    let own_ones = [
        (type_url::TRUST_BUNDLE, held.trust),
        (type_url::WORKLOAD, String::new()),
        (type_url::INBOUND_POLICY, held.inbound),
        (type_url::AUTHORIZATION_POLICIES, held.authorization),
        (type_url::REQUEST_AUTHENTICATIONS, held.tokens),
    ];
    let own_ones = own_ones.map(|(type_url, version)| own(type_url, version));
    let asked = mesh.asked();
    let destinations = asked.chunks(NAMES_PER_REQUEST).map(|chunk| {
        let held: HashMap<String, String> = chunk
            .iter()
            .filter_map(|(name, slot)| match slot.known().as_deref() {
                Some(Known::Found { version, .. }) => Some((name.to_string(), version.to_string())),
                _ => None,
            })
            .collect();
        DeltaDiscoveryRequest {
            type_url: type_url::DESTINATION.to_owned(),
            resource_names_subscribe: chunk.iter().map(|(name, _)| name.to_string()).collect(),
            initial_resource_versions: held,
            ..Default::default()
        }
    });
    own_ones.into_iter().chain(destinations).collect()
}

/// Subscribes to the one resource of a type, of which this version is held.
fn own(type_url: &str, version: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec![SELF_NAME.to_owned()],
        initial_resource_versions: (!version.is_empty())
            .then(|| (SELF_NAME.to_owned(), version))
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

/// Subscribes to those of the names that are in the table and gives up the others, whichever was asked last.
fn subscriptions(mesh: &Mesh, names: &[Arc<str>]) -> DeltaDiscoveryRequest {
    let mut request = DeltaDiscoveryRequest {
        type_url: type_url::DESTINATION.to_owned(),
        ..Default::default()
    };
    for name in names {
        if mesh.slot_named(name).is_some() {
            request.resource_names_subscribe.push(name.to_string());
        } else {
            request.resource_names_unsubscribe.push(name.to_string());
        }
    }
    request
}

/// Asks for the keys of an origin to be fetched again.
fn refresh(origin: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url::KEY_REFRESH.to_owned(),
        resource_names_subscribe: vec![origin.to_owned()],
        ..Default::default()
    }
}

/// Puts a response into force and says what came of it.
fn acknowledge(mesh: &Mesh, applier: &mut Applier, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    let outcome = applier.apply(mesh, &response);
    DeltaDiscoveryRequest {
        type_url: response.type_url,
        response_nonce: response.nonce,
        resource_names_unsubscribe: outcome.unwanted,
        error_detail: outcome.refused.map(|message| RpcStatus {
            code: INVALID_ARGUMENT,
            message,
            details: Vec::new(),
        }),
        ..Default::default()
    }
}

/// The mesh counts as connected while this lives.
struct Connected<'a>(&'a Mesh);

impl<'a> Connected<'a> {
    fn new(mesh: &'a Mesh) -> Self {
        mesh.set_connected(true);
        Self(mesh)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.set_connected(false);
    }
}
