//! HTTP requests to the application, with who called in `x-forwarded-client-cert`.

use super::authorization::{self, Caller, Opener};
use super::connection::Facts;
use super::denied::Refused;
use super::in_the_clear;
use super::shadow;
use super::standing::{self, Ended};
use super::tls::Peer;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::pool::Key;
use crate::http::upstream::{self, Connected};
use crate::http::{exchange, grpc, headers, http2_serve, serve};
use crate::net::dial;
use crate::net::listen::Direction;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::peer_metadata::{PEER_METADATA, PEER_METADATA_ID};
use crate::telemetry::{Client, Record, Recorded, Way};
use crate::worker::Worker;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::fmt::Write;
use std::sync::Arc;

/// Istio retries an inbound request where the application closed the connection before it read the request.
const ATTEMPTS: usize = 2;

struct Context {
    worker: Arc<Worker>,
    facts: Facts,
    /// Who calls, for policies.
    caller: Caller,
    /// What `x-forwarded-client-cert` says of the client; made once per connection.
    client_cert: Option<HeaderValue>,
    /// Who calls, for metrics.
    client: Arc<Client>,
    /// The name that the client's TLS asked for.
    server_name: Option<Arc<str>>,
}

impl Context {
    fn new(worker: Arc<Worker>, facts: Facts, peer: Option<Peer>) -> Arc<Self> {
        let client_cert = peer.as_ref().and_then(|peer| client_cert(&worker, peer));
        let identity = peer.as_ref().map(|peer| &peer.identity);
        let client = Client::new(&worker.telemetry, facts.peer.ip(), identity, facts.address.port());
        let caller = Caller::new(&facts, peer.as_ref());
        Arc::new(Self {
            worker,
            facts,
            caller,
            client_cert,
            client,
            server_name: peer.and_then(|peer| peer.server_name),
        })
    }
}

/// Serves a client's connection in HTTP/1.x.
pub async fn serve(worker: Arc<Worker>, client: Stream, facts: Facts, peer: Option<Peer>) {
    let drains = worker.drains_inbound.clone();
    let context = Context::new(worker, facts, peer);
    match serve::serve(client, drains, |request| recorded(context.clone(), request)).await {
        Ok(()) => {}
        Err(serve::Ended::Malformed(detail)) => {
            let Context { worker, facts, .. } = &*context;
            worker.refuse(Reason::Malformed, facts.peer, Some(facts.address), detail);
        }
        Err(serve::Ended::Early(error)) => {
            tracing::debug!(%error, peer = %context.facts.peer, "a client's connection ended early");
        }
    }
}

/// The same in HTTP/2.
pub async fn serve_http2(worker: Arc<Worker>, client: Stream, facts: Facts, peer: Option<Peer>) {
    let drains = worker.drains_inbound.clone();
    let context = Context::new(worker, facts, peer);
    let ended = http2_serve::serve(client, drains, |request| recorded(context.clone(), request)).await;
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
    let call = grpc::is_call(request.method(), request.headers());
    let refused = exchange::unfit(&mut request, context.facts.address)
        .or_else(|| refused_in_the_clear(&context, request.version(), record));
    if let Some(refused) = refused {
        return if call { grpc::refusal(refused) } else { refused };
    }
    let (mut request, switch) = exchange::take(request);
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
    if context.caller.in_the_clear() {
        headers::strip_mesh_only(map);
    }
    headers::mark(map);
    record.headers(map);
    let trial = shadow::begin(&context.worker, &request);
    let passed = match authorization::request(&context.worker, &context.caller, &mut request).await {
        Ok(passed) => passed,
        Err(refused) => {
            let response = refuse(&context, refused, record);
            context.worker.metrics.request(Direction::Inbound, response.status());
            return if call { grpc::refusal(response) } else { response };
        }
    };
    if let Some(trial) = trial {
        trial.end(&context.worker, &context.caller, &passed, &request);
    }
    let opener = switch.is_some().then(|| passed.opener(&request));
    let request = record.count(request);
    let mut response = to_application(&context, request, record).await;
    passed.complete(response.headers_mut());
    context.worker.metrics.request(Direction::Inbound, response.status());
    let response = if call { grpc::refusal(response) } else { response };
    exchange::give(response, switch, async move {
        let Context {
            worker, facts, caller, ..
        } = &*context;
        let consent = opener.as_ref().map(Opener::consent).unwrap_or_default();
        match standing::ended(worker, facts, caller, consent, opener.as_ref()).await {
            Ended::Plaintext(detail) => in_the_clear::refuse(worker, facts, detail),
            // It is told of already.
            Ended::Denied(_) => {}
        }
    })
}

/// The answer to a request that policies do not let pass.
fn refuse(context: &Context, refused: Refused, record: &mut Record) -> Response<ResponseBody> {
    let Context {
        worker, caller, facts, ..
    } = context;
    match refused {
        Refused::Denied(denied) => denied.answer(worker, caller, record),
        Refused::Target => {
            record.denied("path_normalization_failed");
            exchange::own(StatusCode::BAD_REQUEST, "the path cannot be normalised")
        }
        Refused::TooLong => {
            record.denied("request_payload_too_large");
            exchange::own(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large")
        }
        Refused::Broken => {
            record.denied("downstream_remote_disconnect");
            exchange::own(StatusCode::BAD_REQUEST, "the body broke off")
        }
        Refused::NoPolicy => {
            let detail = "nothing was received from the operator yet";
            record.denied(Reason::NoPolicy.as_str());
            worker.refuse(Reason::NoPolicy, facts.peer, Some(facts.address), detail);
            exchange::own(StatusCode::FORBIDDEN, detail)
        }
    }
}

/// The refusal of a request that came without mutual TLS, where the port takes that no more.
fn refused_in_the_clear(context: &Context, version: Version, record: &mut Record) -> Option<Response<ResponseBody>> {
    let Context { worker, facts, .. } = context;
    if !context.caller.in_the_clear() {
        return None;
    }
    let detail = in_the_clear::refused(worker, facts)?;
    record.denied(Reason::Plaintext.as_str());
    in_the_clear::refuse(worker, facts, detail);
    let mut response = exchange::own(StatusCode::FORBIDDEN, "PeerAuthentication requires mutual TLS");
    if version != Version::HTTP_2 {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Some(response)
}

async fn to_application(
    context: &Context,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let Context { worker, facts, .. } = context;
    let key = Key {
        address: facts.address,
        mutual_tls: false,
        originated: 0,
    };
    let open = || async {
        let stream = dial::application(facts.address).await?;
        Ok(Connected::in_the_clear(Stream::Plain(stream)))
    };
    let retries = &worker.metrics.retries;
    match upstream::to_address(&worker.application, key, ATTEMPTS, request, record, retries, open).await {
        Ok(response) => response,
        Err(error) => {
            let detail = format!("the application: {error}");
            record.failed(Reason::Unreachable, &detail);
            worker.refuse(Reason::Unreachable, facts.peer, Some(facts.address), detail);
            exchange::unreachable()
        }
    }
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
