//! The gRPC service. A stream's first request says which pod it speaks for; it is served only when that pod runs under
//! the very service account that the connection proved.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use futures::Stream;
use mesh_core::identity::SpiffeId;
use mesh_wire::resources::{TAKES_CANDIDATE_SETS, TAKES_KEY_REFRESH, node_metadata};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::accept::Peer;
use super::stream::Session;
use super::streams::Streams;
use crate::index::changes::Named;
use crate::index::resolve::named;
use crate::index::{Index, Key};
use crate::jwks::Askings;
use crate::metrics::Metrics;

/// How long a stream may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a pod that is not known yet is waited for: the kubelet may start it before the watch tells of it.
const UNKNOWN_POD: Duration = Duration::from_secs(10);

/// Responses that wait for a slow proxy.
const QUEUED: usize = 4;

/// The most streams served at once.
const MOST_STREAMS: i64 = 20_000;

/// The discovery service.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// What there is to serve.
    pub index: Arc<Index>,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
    /// Where they are remembered for the debug pages.
    pub streams: Streams,
    /// Where proxies ask for keys to be fetched again.
    pub askings: Askings,
    /// Turns true when streams are to end.
    pub stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only DeltaAggregatedResources is served"))
    }

    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("the connection proved no identity"))?;
        if self.metrics.streams.get() >= MOST_STREAMS {
            self.metrics.streams_refused.with_label_values(&["too_many"]).inc();
            return Err(Status::resource_exhausted(
                "this replica serves as many streams as it can",
            ));
        }
        let (send, receive) = mpsc::channel(QUEUED);
        let this = self.clone();
        let requests = request.into_inner();
        // The response's headers go out at once; the proxy sends its first request after them.
        tokio::spawn(async move {
            if let Err(status) = this.serve(peer, requests, send.clone()).await {
                let _ = send.send(Err(status)).await;
            }
        });
        let mut response = Response::new(ReceiverStream::new(receive));
        for taken in [TAKES_KEY_REFRESH, TAKES_CANDIDATE_SETS] {
            response.metadata_mut().insert(taken, MetadataValue::from_static("1"));
        }
        Ok(response)
    }
}

impl Discovery {
    async fn serve(
        &self,
        peer: Peer,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        send: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST_REQUEST, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no first request came"))??;
        let Some(first) = first else { return Ok(()) };
        let pod = match claimed(first.node.as_ref()) {
            Ok(pod) => pod,
            Err(reason) => return Err(self.refuse("node", &peer, Status::invalid_argument(reason))),
        };
        match tokio::time::timeout(UNKNOWN_POD, authorized(&self.index, &pod, &peer.identity)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(self.refuse("not_its_pod", &peer, Status::permission_denied(reason))),
            Err(_) => {
                let reason = format!("there is no pod {}/{}", pod.0, pod.1);
                return Err(self.refuse("unknown_pod", &peer, Status::permission_denied(reason)));
            }
        }
        info!(namespace = &*pod.0, pod = &*pod.1, peer = %peer.identity, address = %peer.address, "a proxy is connected");
        let version = version(first.node.as_ref());
        let tracked = self.streams.open(&pod, &peer.identity, peer.address, version);
        let (index, metrics, askings) = (self.index.clone(), self.metrics.clone(), self.askings.clone());
        let session = Session::new(index, metrics, askings, pod, send, tracked);
        session.run(first, requests, self.stop.clone()).await
    }

    fn refuse(&self, label: &str, peer: &Peer, status: Status) -> Status {
        self.metrics.streams_refused.with_label_values(&[label]).inc();
        self.streams
            .rejected(peer.identity.to_string(), "stream", status.message());
        warn!(peer = %peer.identity, address = %peer.address, reason = status.message(), "a discovery stream is refused");
        status
    }
}

/// The version that a node says it is of; empty for one that does not, or not in a version's characters.
fn version(node: Option<&Node>) -> &str {
    let said = node
        .and_then(|node| node.metadata.as_ref())
        .and_then(|metadata| metadata.fields.get(node_metadata::VERSION));
    match said.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) if text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic()) => text,
        _ => "",
    }
}

/// The pod that a node says it is.
fn claimed(node: Option<&Node>) -> Result<Named, String> {
    let metadata = node.and_then(|node| node.metadata.as_ref());
    let text = |key: &str| match metadata
        .and_then(|metadata| metadata.fields.get(key))
        .and_then(|v| v.kind.as_ref())
    {
        Some(Kind::StringValue(text)) if !text.is_empty() && text.len() <= 253 => Ok(text.as_str()),
        _ => Err(format!("node.metadata.{key} must be a name")),
    };
    Ok(named(text(node_metadata::NAMESPACE)?, text(node_metadata::POD_NAME)?))
}

/// Waits until the pod is known, then says whether it runs under the peer's service account.
pub(crate) async fn authorized(index: &Index, pod: &Named, peer: &SpiffeId) -> Result<(), String> {
    let mut batches = index.batches();
    if *pod.0 != *peer.namespace() {
        return Err(format!("{peer} is of another namespace than pod {}/{}", pod.0, pod.1));
    }
    loop {
        let account = index.read(|world, _| world.pod_named(pod).map(|record| record.service_account.clone()));
        match account {
            Some(account) if *account == *peer.service_account() => return Ok(()),
            Some(_) => return Err(format!("pod {}/{} does not run as {peer}", pod.0, pod.1)),
            None => loop {
                match batches.recv().await {
                    Ok(batch) if !batch.touches(&Key::Pod(pod.clone())) => {}
                    _ => break,
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::{Struct, Value};

    #[test]
    fn a_node_names_its_pod() {
        let node = |entries: &[(&str, &str)]| Node {
            metadata: Some(Struct {
                fields: entries
                    .iter()
                    .map(|(k, v)| {
                        (
                            (*k).to_owned(),
                            Value {
                                kind: Some(Kind::StringValue((*v).to_owned())),
                            },
                        )
                    })
                    .collect(),
            }),
            ..Node::default()
        };
        assert_eq!(
            claimed(Some(&node(&[("NAMESPACE", "a"), ("POD_NAME", "b")]))),
            Ok(named("a", "b"))
        );
        for bad in [
            None,
            Some(node(&[("NAMESPACE", "a")])),
            Some(node(&[("NAMESPACE", ""), ("POD_NAME", "b")])),
        ] {
            assert!(claimed(bad.as_ref()).is_err());
        }
    }
}
