//! One request to a page that a pod serves on loopback, through the API server: a WebSocket to `pods/portforward`, and HTTP/1.1
//! in it. No local port is opened. Or to an address, where a port is forwarded already.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Cluster, PodName};
use crate::failure::{Failure, chain};

/// For the whole of a request.
const LIMIT: Duration = Duration::from_secs(20);

/// The most that is taken of an answer, in bytes: several times what a page holds.
const MOST_BYTES: usize = 64 << 20;

/// What answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Asks a pod's port.
pub(crate) async fn fetch(
    cluster: &Cluster,
    pod: &PodName,
    port: u16,
    method: Method,
    path: &str,
) -> Result<Answer, Failure> {
    let what = format!("port {port} of pod {pod}");
    let asked = async {
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), &pod.namespace);
        let mut forwarder = pods
            .portforward(&pod.name, &[port])
            .await
            .map_err(|error| Failure::of_kube(&what, &error))?;
        let (Some(stream), Some(error)) = (forwarder.take_stream(port), forwarder.take_error(port)) else {
            return Err(Failure::other(format!("{what}: no stream to it")));
        };
        let answer = tokio::select! {
            // The kubelet's own words say more than a stream that ends.
            biased;
            Some(said) = error => Err(refused(&what, &said)),
            answer = exchange(&what, stream, method, path) => answer,
        };
        forwarder.abort();
        answer
    };
    within(&what, asked).await
}

/// Asks an address.
pub(crate) async fn fetch_from(address: &str, method: Method, path: &str) -> Result<Answer, Failure> {
    let asked = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| Failure::silent(format!("{address}: {error}")).advise("is the port forwarded to it?"))?;
        exchange(address, stream, method, path).await
    };
    within(address, asked).await
}

async fn within(what: &str, asked: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| {
        Err(Failure::silent(format!(
            "{what}: no answer within {} s",
            LIMIT.as_secs()
        )))
    })
}

fn refused(what: &str, said: &str) -> Failure {
    let failure = Failure::silent(format!("{what}: {}", said.trim()));
    if said.contains("refused") {
        failure.advise("nothing listens there: is the container running, and of a version that serves this page?")
    } else {
        failure
    }
}

async fn exchange(
    what: &str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
) -> Result<Answer, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::silent(format!("{what}: {}", chain(error)));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // It ends with the answer; its errors show there.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MOST_BYTES)
        .collect()
        .await
        .map_err(|error| broken(&*error))?
        .to_bytes();
    Ok(Answer {
        status: head.status,
        body,
    })
}
