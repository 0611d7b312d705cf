//! A proxy's discovery client against the operator's discovery server over loopback, with certificates of the operator's
//! authority and fixtures from a directory. Needs nothing but loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In a test's own functions too, a failure is a panic.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::destination::Resolution;
use mesh_core::identity::SpiffeId;
use mesh_core::peer_authentication::PortMode;
use mesh_core::protocol::Declared;
use mesh_wire::tls::material::{Material, root_store};
use mesh_wire::tls::verify::{PeerVerifier, TrustDomains};
use operator::ca::{Authority, Subject};
use proxy::discovery::{Answer, Backoff, Client, Limits, Lookup, Mesh};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::UnixTime;
use tests::fixtures::{Options, Server};
use tokio::sync::watch;

const OPERATOR: &str = "spiffe://cluster.local/ns/istio-system/sa/pinnace-operator";

const FIXTURES: &str = "
workloads:
- {name: shop/web-1, serviceAccount: web, addresses: [10.1.0.1], labels: {app: web}}
- {name: shop/reviews-1, serviceAccount: reviews, addresses: [10.1.0.2], labels: {app: reviews}}
- {name: shop/legacy-1, serviceAccount: legacy, addresses: [10.1.0.3], injected: false}
services:
- name: shop/web
  addresses: [10.96.0.1]
  ports: [{port: 80, name: http, targetPort: 8080}]
  endpoints: [10.1.0.1]
- name: shop/reviews
  addresses: [10.96.0.2]
  ports: [{port: 9080, name: http}, {port: 9070, name: tcp-stock}]
  endpoints: [10.1.0.2, 10.1.0.3]
- name: shop/db
  ports: [{port: 5432, name: tcp}]
  endpoints: [10.1.0.2]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
  portLevelMtls: {8081: {mode: DISABLE}}
";

/// A directory of this test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pinnace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn issue(authority: &Authority, id: &str) -> [(&'static str, String); 3] {
    let id: SpiffeId = id.parse().unwrap();
    let hour = Duration::from_secs(3600);
    let leaf = authority
        .issue(&Subject::Workload(id), hour, SystemTime::now())
        .unwrap();
    [
        ("tls.crt", leaf.certificate_pem),
        ("tls.key", leaf.key_pem),
        ("ca.crt", authority.roots_pem().to_owned()),
    ]
}

/// What a proxy under `id` dials with.
fn client_config(authority: &Authority, id: &str) -> Arc<ClientConfig> {
    let [crt, key, ca] = issue(authority, id).map(|(_, text)| text);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let material = Material::parse(
        crt.as_bytes(),
        key.as_bytes(),
        ca.as_bytes(),
        UnixTime::now(),
        &provider,
    )
    .unwrap();
    let domains = TrustDomains::new(material.identity.trust_domain().clone(), []);
    let verifier = PeerVerifier::new(root_store(&material.roots).unwrap(), domains, provider.clone());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(material.certified_key))))
}

/// A server and what ends it.
async fn serve(folder: &Path) -> (String, watch::Sender<bool>) {
    let address = "127.0.0.1:0".parse().unwrap();
    let options = Options {
        fixtures: folder.to_owned(),
        certificates: folder.to_owned(),
        address,
    };
    let server = Server::new(options).await.unwrap();
    // A name, so that the proxy resolves it.
    let address = format!("localhost:{}", server.address().unwrap().port());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(server.run(stopped));
    (address, stop)
}

/// A proxy of pod shop/web-1 under `id`.
fn proxy(address: &str, authority: &Authority, id: &str) -> (Mesh, watch::Sender<bool>) {
    let (mesh, requests) = Mesh::new(Limits::default());
    let client = Client {
        namespace: "shop".into(),
        pod_name: "web-1".into(),
        version: "test".into(),
        address: address.into(),
        operator: OPERATOR.parse().unwrap(),
        backoff: Backoff {
            least: Duration::from_millis(10),
            most: Duration::from_millis(100),
        },
        connection: watch::Sender::new(None),
    };
    let (_, tls) = watch::channel(Some(client_config(authority, id)));
    let (shutdown, stopped) = watch::channel(false);
    tokio::spawn(client.run(mesh.clone(), requests, tls, stopped));
    (mesh, shutdown)
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not in 5 s");
}

async fn found(mesh: &Mesh, host: &str, port: u16) -> Arc<proxy::cluster::Cluster> {
    match mesh.host(host, port).await {
        Answer::Found(destination) => destination,
        other => panic!("{host}:{port}: {other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_learns_of_itself_and_of_what_it_calls() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let folder = Folder::new("discovery");
    for (name, text) in issue(&authority, OPERATOR) {
        folder.write(name, &text);
    }
    folder.write("shop.yaml", FIXTURES);
    let (address, stop) = serve(&folder.0).await;
    let (mesh, _shutdown) = proxy(&address, &authority, "spiffe://cluster.local/ns/shop/sa/web");
    eventually("ready", || mesh.is_ready()).await;

    let workload = mesh.workload();
    assert_eq!(
        (workload.service_account.as_str(), workload.canonical_name.as_str()),
        ("web", "web")
    );
    assert_eq!(
        (workload.ports.get(&8080), workload.allow_any),
        (Some(&Declared::Http), true)
    );
    let inbound = mesh.inbound_policy().unwrap();
    assert_eq!(
        (inbound.on_port(8080), inbound.on_port(8081)),
        (PortMode::Strict, PortMode::Disable)
    );
    assert_eq!(inbound.decided_by, ["shop/web"]);

    // Every form of a Service's name, its address and its pods' means the same Service, seen from the client's namespace.
    let reviews = found(&mesh, "reviews", 9080).await;
    for host in ["reviews.shop", "reviews.shop.svc", "Reviews.shop.svc.cluster.local"] {
        assert!(Arc::ptr_eq(&reviews, &found(&mesh, host, 9080).await), "{host}");
    }
    let Answer::Found(by_address) = mesh.address("10.96.0.2:9080".parse().unwrap()).await else {
        panic!("known")
    };
    assert!(Arc::ptr_eq(&reviews, &by_address));
    assert_eq!(reviews.cluster_name(), "outbound|9080||reviews.shop.svc.cluster.local");
    let endpoints: Vec<_> = reviews
        .endpoints
        .iter()
        .map(|e| {
            (
                e.address.to_string(),
                e.mutual_tls,
                e.identity.as_ref().map(|id| id.service_account().to_owned()),
            )
        })
        .collect();
    assert_eq!(
        endpoints,
        [
            ("10.1.0.2:9080".to_owned(), true, Some("reviews".to_owned())),
            ("10.1.0.3:9080".to_owned(), false, None)
        ]
    );
    assert_eq!(found(&mesh, "reviews", 9070).await.protocol, Declared::Tcp);
    let db = found(&mesh, "db", 5432).await;
    assert_eq!(db.resolution, Resolution::OriginalDestination);
    let Answer::Found(pod) = mesh.address("10.1.0.2:5432".parse().unwrap()).await else {
        panic!("known")
    };
    assert_eq!(pod.resolution, Resolution::OriginalDestination);
    for absent in ["nobody", "reviews.other", "example.com"] {
        assert!(matches!(mesh.host(absent, 9080).await, Answer::Absent), "{absent}");
    }
    assert!(matches!(
        mesh.address("192.0.2.1:443".parse().unwrap()).await,
        Answer::Absent
    ));

    // A change reaches the proxy; a mistake leaves the last good state.
    folder.write("shop.yaml", "workloads: [nonsense");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let changed = FIXTURES
        .replace("endpoints: [10.1.0.2, 10.1.0.3]", "endpoints: [10.1.0.2]")
        .replace("STRICT", "PERMISSIVE");
    folder.write(
        "shop.yaml",
        &format!("{changed}\n---\nservices: [{{name: shop/nobody, addresses: [10.96.0.9], ports: [{{port: 9080}}]}}]"),
    );
    eventually(
        "the endpoint is gone",
        || matches!(mesh.lookup_host("reviews", 9080), Lookup::Found(now) if now.endpoints.len() == 1),
    )
    .await;
    eventually("the policy is another", || mesh.inbound().mode == PortMode::Permissive).await;
    eventually("what was absent is there", || {
        matches!(mesh.lookup_host("nobody", 9080), Lookup::Found(_))
    })
    .await;

    // Without an operator, what was received stays.
    stop.send_replace(true);
    eventually("disconnected", || !mesh.connected()).await;
    assert!(matches!(mesh.lookup_host("reviews", 9080), Lookup::Found(_)) && mesh.is_ready());
}

#[tokio::test]
async fn a_proxy_can_speak_only_for_a_pod_of_its_own_service_account() {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let folder = Folder::new("impersonation");
    for (name, text) in issue(&authority, OPERATOR) {
        folder.write(name, &text);
    }
    folder.write("shop.yaml", FIXTURES);
    let (address, _stop) = serve(&folder.0).await;
    let (mesh, _shutdown) = proxy(&address, &authority, "spiffe://cluster.local/ns/shop/sa/reviews");
    let stranger = Authority::generate(SystemTime::now()).unwrap();
    let (other, _shutdown) = proxy(&address, &stranger, "spiffe://cluster.local/ns/shop/sa/web");
    tokio::time::sleep(Duration::from_millis(500)).await;
    for mesh in [mesh, other] {
        assert!(!mesh.connected() && mesh.inbound_policy().is_none() && mesh.trust().borrow().is_none());
    }
}
