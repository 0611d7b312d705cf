//! The webhook as the API server meets it: over TLS, on loopback, with reviews good, bad and too large.

#![allow(clippy::unwrap_used, reason = "a test ends where its expectation does")]

use std::sync::{Arc, atomic::Ordering};

use axum::http::{Request, StatusCode};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use mesh_api::MeshConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use webhook::{
    certificate::Serving,
    config::Values,
    metrics::Metrics,
    server::{self, Context},
    state::State,
    version::Version,
};

const NAME: &str = "pinnace-webhook.istio-system.svc";

struct Webhook {
    context: Context,
    reviews: std::net::SocketAddr,
    health: std::net::SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    roots: rustls::RootCertStore,
}

fn issue() -> (Secret, rustls::RootCertStore) {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let data = [
        ("tls.crt", issued.cert.pem()),
        ("tls.key", issued.signing_key.serialize_pem()),
    ];
    let data = data
        .into_iter()
        .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
        .collect();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    (
        Secret {
            data: Some(data),
            ..Secret::default()
        },
        roots,
    )
}

impl Webhook {
    async fn start() -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (secret, roots) = issue();
        let state = Arc::new(State::default());
        state
            .certificate
            .store(Some(Arc::new(Serving::from_secret(&secret).unwrap())));
        let context = Context::new(state, Metrics::new().unwrap(), "istio-system");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (reviews, health) = (listener.local_addr().unwrap(), health_listener.local_addr().unwrap());
        tokio::spawn(server::serve_metrics(
            health_listener,
            context.clone(),
            until(stopped.clone()),
        ));
        let served = tokio::spawn(server::serve_reviews(listener, context.clone(), until(stopped)));
        Self {
            context,
            reviews,
            health,
            stop,
            served,
            roots,
        }
    }

    fn configure(&self) {
        self.context.state.mesh.store(Some(Arc::new(MeshConfig::default())));
        self.context
            .state
            .values
            .store(Some(Arc::new(Values::parse("").unwrap())));
        self.context
            .state
            .version
            .store(Some(Arc::new(Version { major: 1, minor: 33 })));
    }

    async fn connect(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(self.reviews).await?;
        let name = rustls_pki_types::ServerName::try_from(NAME).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        exchange(self.connect().await.unwrap(), "POST", path, body.into()).await
    }

    async fn review(&self, path: &str, request: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK);
        let review: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["uid"], request["uid"]);
        review["response"].clone()
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.health).await.unwrap();
        let (status, body) = exchange(stream, "GET", path, Bytes::new()).await;
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

async fn exchange<S>(stream: S, method: &str, path: &str, body: Bytes) -> (StatusCode, Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", NAME)
        .body(Full::new(body))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    (
        response.status(),
        response.into_body().collect().await.unwrap().to_bytes(),
    )
}

fn pod_review(pod: Value) -> Value {
    json!({
        "uid": "7", "operation": "CREATE", "namespace": "shop",
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": pod
    })
}

fn policy_review(operation: &str, mode: &str) -> Value {
    json!({
        "uid": "8", "operation": operation, "namespace": "shop",
        "kind": {"group": "security.istio.io", "version": "v1", "kind": "PeerAuthentication"},
        "object": {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"mtls": {"mode": mode}}}
    })
}

fn pod() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

#[tokio::test]
async fn a_pod_gets_its_patch_and_a_bad_one_its_reason() {
    let webhook = Webhook::start().await;
    webhook.configure();
    let response = webhook.review("/inject", pod_review(pod())).await;
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut injected = pod();
    json_patch::patch(&mut injected, &patch).unwrap();
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "istio-proxy");

    let again = webhook.review("/inject", pod_review(injected)).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));

    let mut bad = pod();
    bad["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyCPU": "lots"});
    let refused = webhook.review("/inject", pod_review(bad)).await;
    assert_eq!(refused["allowed"], false);
    assert_eq!(
        refused["status"]["message"],
        "sidecar injection: sidecar.istio.io/proxyCPU: \"lots\" is not accepted, expected a Kubernetes quantity such as \
         100m, 0.5, 128Mi or 1Gi"
    );
    let (_, page) = webhook.get("/metrics").await;
    for line in [
        "admission_requests_total{outcome=\"patched\",path=\"/inject\"} 1",
        "admission_requests_total{outcome=\"refused\",path=\"/inject\"} 1",
        "sidecar_injection_success_total 1",
        "sidecar_injection_skip_total{reason=\"already_injected\"} 1",
        "sidecar_injection_failure_total{reason=\"annotations\"} 1",
        "webhook_ready 1",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn resources_are_validated() {
    let webhook = Webhook::start().await;
    webhook.configure();
    assert_eq!(
        webhook.review("/validate", policy_review("CREATE", "STRICT")).await["allowed"],
        true
    );
    let refused = webhook.review("/validate", policy_review("UPDATE", "ON")).await;
    assert_eq!(refused["allowed"], false);
    assert!(
        refused["status"]["message"]
            .as_str()
            .unwrap()
            .starts_with("spec.mtls.mode: \"ON\"")
    );
    let mut unchanged = policy_review("UPDATE", "ON");
    unchanged["oldObject"] = unchanged["object"].clone();
    assert_eq!(
        webhook.review("/validate", unchanged).await["allowed"],
        true,
        "finalizers must be removable"
    );
    assert_eq!(
        webhook.review("/validate", policy_review("DELETE", "ON")).await["allowed"],
        true
    );
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    let webhook = Webhook::start().await;
    webhook.configure();
    for body in [
        "",
        "{",
        "[]",
        "{\"kind\": \"AdmissionReview\", \"apiVersion\": \"admission.k8s.io/v1beta1\"}",
    ] {
        for path in ["/inject", "/validate"] {
            assert_eq!(
                webhook.post(path, body).await.0,
                StatusCode::BAD_REQUEST,
                "{path} {body:?}"
            );
        }
    }
    assert_eq!(
        webhook.post("/inject", vec![b' '; 9 << 20]).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(webhook.post("/other", "{}").await.0, StatusCode::NOT_FOUND);
    let nothing = webhook
        .review("/inject", json!({"uid": "9", "operation": "CREATE", "object": null}))
        .await;
    assert_eq!(nothing["allowed"], true, "not a pod");
    let empty = webhook.review("/inject", pod_review(json!({}))).await;
    assert_eq!(empty["allowed"], false, "a pod without containers");
}

#[tokio::test]
async fn it_is_ready_when_all_was_read_and_says_what_is_missing() {
    let webhook = Webhook::start().await;
    assert_eq!(webhook.get("/healthz").await.0, StatusCode::OK);
    let (status, body) = webhook.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body,
        "not read yet: the mesh configuration, the values for injection, the API server's version\n"
    );
    let refused = webhook.review("/inject", pod_review(pod())).await;
    assert_eq!(
        (&refused["allowed"], &refused["status"]["code"]),
        (&json!(false), &json!(503))
    );
    webhook.configure();
    assert_eq!(webhook.get("/readyz").await.0, StatusCode::OK);
    webhook.context.ending.store(true, Ordering::Relaxed);
    assert_eq!(webhook.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_new_certificate_serves_the_next_connection_and_a_damaged_one_is_refused() {
    let mut webhook = Webhook::start().await;
    webhook.configure();
    let (secret, roots) = issue();
    webhook
        .context
        .state
        .certificate
        .store(Some(Arc::new(Serving::from_secret(&secret).unwrap())));
    assert!(
        webhook.connect().await.is_err(),
        "the old root does not know the new certificate"
    );
    webhook.roots = roots;
    assert!(webhook.connect().await.is_ok());

    let (other, _) = issue();
    let mixed = |key: &str, from: &Secret| (key.to_owned(), from.data.as_ref().unwrap()[key].clone());
    for (data, expected) in [
        (
            vec![mixed("tls.crt", &secret), mixed("tls.key", &other)],
            "do not belong together",
        ),
        (vec![mixed("tls.crt", &secret)], "has no tls.key"),
        (
            vec![("tls.crt".into(), ByteString(b"x".into())), mixed("tls.key", &secret)],
            "holds no certificate",
        ),
        (
            vec![mixed("tls.crt", &secret), ("tls.key".into(), ByteString(b"x".into()))],
            "no private key",
        ),
    ] {
        let secret = Secret {
            data: Some(data.into_iter().collect()),
            ..Secret::default()
        };
        let error = format!("{:#}", Serving::from_secret(&secret).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn it_ends_when_told_to() {
    let webhook = Webhook::start().await;
    webhook.configure();
    webhook.review("/inject", pod_review(pod())).await;
    webhook.stop.send_replace(true);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), webhook.served).await;
    assert!(ended.unwrap().unwrap().is_ok());
}
