//! HTTP/1.x requests to the application, with who called in `x-forwarded-client-cert`.

use super::connection::Facts;
use super::in_the_clear;
use super::tls::Peer;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::pool::{Connection, Key};
use crate::http::{exchange, headers, serve};
use crate::net::dial;
use crate::net::listen::Direction;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::peer_metadata::{PEER_METADATA, PEER_METADATA_ID};
use crate::telemetry::{Client, Record, Recorded, Way};
use crate::worker::Worker;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::fmt::Write;
use std::sync::Arc;

/// Istio retries an inbound request where the application closed the connection before it read the request.
const ATTEMPTS: usize = 2;

struct Context {
    worker: Arc<Worker>,
    facts: Facts,
    /// Whether the client came without mutual TLS.
    in_the_clear: bool,
    /// What `x-forwarded-client-cert` says of the client; made once per connection.
    client_cert: Option<HeaderValue>,
    /// Who calls, for metrics.
    client: Arc<Client>,
    /// The name that the client's TLS asked for.
    server_name: Option<Arc<str>>,
}

/// Serves a client's connection.
pub async fn serve(worker: Arc<Worker>, client: Stream, facts: Facts, peer: Option<Peer>) {
    let phase = worker.phase.clone();
    let client_cert = peer.as_ref().and_then(|peer| client_cert(&worker, peer));
    let identity = peer.as_ref().map(|peer| &peer.identity);
    let caller = Client::new(&worker.telemetry, facts.peer.ip(), identity, facts.address.port());
    let context = Arc::new(Context {
        worker,
        facts,
        in_the_clear: peer.is_none(),
        client_cert,
        client: caller,
        server_name: peer.and_then(|peer| peer.server_name),
    });
    let ended = serve::serve(client, phase, |request| recorded(context.clone(), request)).await;
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %context.facts.peer, "a client's connection ended early");
    }
}

/// Takes a request and tells of it.
async fn recorded(context: Arc<Context>, mut request: Request<Incoming>) -> Response<Recorded<ResponseBody>> {
    let Context { worker, facts, .. } = &*context;
    let mut record = Record::begin(&worker.telemetry, Way::In, &request, facts.peer, facts.address);
    // What Istio's proxies say of themselves is for proxies alone.
    let said = request.headers_mut().remove(PEER_METADATA);
    request.headers_mut().remove(PEER_METADATA_ID);
    record.from_client(&context.client, said.as_ref(), context.server_name.as_ref());
    let response = handle(context.clone(), request, &mut record).await;
    record.carry(response)
}

async fn handle(context: Arc<Context>, mut request: Request<Incoming>, record: &mut Record) -> Response<ResponseBody> {
    if let Some(refused) = exchange::unfit(&mut request, context.facts.address) {
        return refused;
    }
    if context.in_the_clear
        && let Some(detail) = in_the_clear::refused(&context.worker, &context.facts)
    {
        record.denied(Reason::Plaintext.as_str());
        in_the_clear::refuse(&context.worker, &context.facts, detail);
        let mut response = exchange::own(StatusCode::FORBIDDEN, "PeerAuthentication requires mutual TLS");
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let (mut request, on_upgrade) = exchange::take(request);
    let map = request.headers_mut();
    match &context.client_cert {
        // Istio's APPEND_FORWARD: a caller of the mesh may say for whom it calls.
        Some(own) => {
            let value = match map
                .get(headers::X_FORWARDED_CLIENT_CERT)
                .and_then(|before| joined(before, own))
            {
                Some(joined) => joined,
                None => own.clone(),
            };
            map.insert(headers::X_FORWARDED_CLIENT_CERT, value);
        }
        // Without mutual TLS nobody may claim to be somebody.
        None => {
            map.remove(headers::X_FORWARDED_CLIENT_CERT);
        }
    }
    headers::mark(map);
    record.headers(map);
    let response = to_application(&context, request, record).await;
    context.worker.metrics.request(Direction::Inbound, response.status());
    exchange::give(response, on_upgrade, async move {
        let Context { worker, facts, .. } = &*context;
        if context.in_the_clear {
            let detail = in_the_clear::turned_strict(worker, facts).await;
            in_the_clear::refuse(worker, facts, detail);
        } else {
            std::future::pending().await
        }
    })
}

async fn to_application(
    context: &Context,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let Context { worker, facts, .. } = context;
    let refuse = |record: &mut Record, detail: String| {
        record.failed(Reason::Unreachable, &detail);
        worker.refuse(Reason::Unreachable, facts.peer, Some(facts.address), detail);
    };
    let key = Key {
        address: facts.address,
        mutual_tls: false,
        originated: 0,
    };
    for attempt in 0..ATTEMPTS {
        let mut lease = worker.application.lease(key, |_| attempt == 0);
        let connection = match lease.connection.take() {
            Some(connection) => connection,
            None => match open(facts).await {
                Ok(connection) => connection,
                Err(error) => {
                    refuse(record, format!("the application: {error}"));
                    break;
                }
            },
        };
        record.attempt();
        match exchange::send(lease, connection, request).await {
            Ok(response) => return response,
            Err(exchange::Failed { again: Some(again), .. }) => {
                worker.metrics.retries.inc();
                request = again;
            }
            Err(exchange::Failed { error, again: None }) => {
                refuse(record, format!("the application: {error}"));
                break;
            }
        }
    }
    exchange::own(
        StatusCode::SERVICE_UNAVAILABLE,
        "upstream connect error or disconnect/reset before headers",
    )
}

async fn open(facts: &Facts) -> std::io::Result<Connection> {
    let stream = dial::application(facts.address).await?;
    exchange::open(Stream::Plain(stream), None, 0)
        .await
        .map_err(std::io::Error::other)
}

/// `By=<own identity>;Hash=<SHA-256 of the client's leaf>;Subject="";URI=<client's identity>`, as Envoy writes it.
fn client_cert(worker: &Worker, peer: &Peer) -> Option<HeaderValue> {
    let tls = worker.identity.tls()?;
    let digest = sha256(&peer.certificate);
    let mut hash = String::with_capacity(64);
    for byte in digest.as_ref() {
        write!(hash, "{byte:02x}").ok()?;
    }
    let value = format!(
        "By={};Hash={hash};Subject=\"\";URI={}",
        tls.material.identity, peer.identity
    );
    HeaderValue::try_from(value).ok()
}

fn sha256(bytes: &[u8]) -> impl AsRef<[u8]> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
}

fn joined(before: &HeaderValue, own: &HeaderValue) -> Option<HeaderValue> {
    let mut both = before.as_bytes().to_vec();
    both.push(b',');
    both.extend_from_slice(own.as_bytes());
    HeaderValue::from_bytes(&both).ok()
}
