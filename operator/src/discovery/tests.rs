//! The discovery server, with a real client over loopback: mutual TLS, HTTP/2, gRPC.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use hyper_util::rt::TokioIo;
use mesh_api::MeshConfig;
use mesh_core::authorization::policy::{Action, Policy, Rule, Target};
use mesh_core::identity::TrustDomain;
use mesh_core::labels::Selector;
use mesh_wire::admin::Sync;
use mesh_wire::reports::{Report, SEND, Seen, SeenKind, Taken};
use mesh_wire::resources::{self as wire, SELF_NAME, type_url};
use mesh_wire::tls::material::root_store;
use mesh_wire::tls::verify::{PeerVerifier, TrustDomains};
use prost::Message as _;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::credentials::{Current, Holder, configure};
use super::service::Discovery;
use super::streams::Streams;
use crate::ca::{Authority, Subject, pem};
use crate::index::records::{PodRecord, ServiceRecord};
use crate::index::resolve::named;
use crate::index::{Changed, Index};
use crate::jwks::tests::{JWKS, OTHER_JWKS, client as key_client, ok, serve};
use crate::jwks::{self, Askings, Times};
use crate::kubernetes::leader::Leadership;
use crate::mesh_config::facts;
use crate::metrics::Metrics;
use crate::reports::service::Shared;
use crate::reports::{Forward, Ledger, Outgoing, Reports};

const HOUR: Duration = Duration::from_secs(3600);

struct Server {
    address: SocketAddr,
    authority: Authority,
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    streams: Streams,
    leadership: Leadership,
    ledger: Ledger,
    outgoing: Outgoing,
    askings: Askings,
    stop: watch::Sender<bool>,
}

async fn start() -> Server {
    let authority = Authority::generate(SystemTime::now()).unwrap();
    let mesh = facts(
        &MeshConfig::default(),
        "istio-system",
        "cluster.local",
        Some(&authority),
    );
    let metrics = Arc::new(Metrics::new());
    let index = Arc::new(Index::new(mesh.clone(), metrics.clone()));
    let publishing = index.clone();
    tokio::spawn(async move { publishing.publish().await });
    let holder = Holder {
        namespace: "istio-system".into(),
        service_account: "pinnace-operator".into(),
        ttl: HOUR,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configured = configure(&authority, &mesh, &holder, &provider, SystemTime::now()).unwrap();
    assert!(configured.renewal > SystemTime::now() + HOUR / 3);
    let current = Current::default();
    current.store(Some(Arc::new(configured.server)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let listening = Arc::new(AtomicBool::new(false));
    let (streams, askings) = (Streams::default(), Askings::default());
    let leadership = Leadership::default();
    let ledger = Ledger::default();
    let replicas = ("istio-system".to_owned(), "pinnace-operator".to_owned());
    let outgoing = Outgoing::default();
    outgoing.store(Some(Arc::new(configured.client)));
    let reports = Reports::from(Shared {
        index: index.clone(),
        ledger: ledger.clone(),
        leadership: leadership.clone(),
        forward: Forward {
            leadership: leadership.clone(),
            index: index.clone(),
            outgoing: outgoing.clone(),
            replicas: replicas.clone(),
            port: address.port(),
            connection: tokio::sync::Mutex::default(),
        },
        replicas,
        metrics: metrics.clone(),
    });
    tokio::spawn(super::serve(
        listener,
        current,
        Discovery {
            index: index.clone(),
            metrics: metrics.clone(),
            streams: streams.clone(),
            askings: askings.clone(),
            stop: stopping,
        },
        reports,
        listening,
    ));
    let server = Server {
        address,
        authority,
        index,
        metrics,
        streams,
        leadership,
        ledger,
        outgoing,
        askings,
        stop,
    };
    server.pod("web", "10.0.0.1");
    server
}

impl Server {
    fn pod(&self, account: &str, address: &str) {
        let record = PodRecord {
            addresses: vec![address.parse().unwrap()],
            host_addresses: Vec::new(),
            service_account: account.into(),
            labels: [("app".to_owned(), account.to_owned())].into(),
            workload: account.into(),
            injected: true,
            uses_certificate: true,
            told_serial: None,
            created: 0,
            node: None,
            ready: true,
        };
        self.index
            .apply(|world, _| world.pod(&named("shop", account), Some(record)));
    }

    fn service(&self, name: &str, there: bool) {
        let record = ServiceRecord {
            addresses: Vec::new(),
            headless: false,
            ports: vec![crate::index::records::ServicePort {
                port: 80,
                name: "http".into(),
                app_protocol: None,
            }],
            distribution: mesh_core::traffic::Distribution::Any,
        };
        self.index
            .apply(|world, _| world.service(&named("shop", name), there.then_some(record)));
    }

    async fn connect(&self, authority: &Authority, id: &str) -> Result<Channel, tonic::transport::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let leaf = authority
            .issue(&Subject::Workload(id.parse().unwrap()), HOUR, SystemTime::now())
            .unwrap();
        let domains = TrustDomains::new(TrustDomain::new("cluster.local").unwrap(), []);
        let verifier = PeerVerifier::new(root_store(self.authority.roots()).unwrap(), domains, provider.clone());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(leaf.chain, pem::private_key(leaf.key_pem.as_bytes()).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let address = self.address;
        Endpoint::from_static("http://discovery")
            .connect_with_connector(tower::service_fn(move |_| {
                let connector = connector.clone();
                async move {
                    let socket = TcpStream::connect(address).await?;
                    let name = ServerName::try_from("discovery").unwrap();
                    Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, socket).await?))
                }
            }))
            .await
    }

    async fn open(&self, first: DeltaDiscoveryRequest) -> Result<Client, Status> {
        let channel = self
            .connect(&self.authority, "spiffe://cluster.local/ns/shop/sa/web")
            .await
            .unwrap();
        let (send, receive) = mpsc::channel(8);
        send.send(first).await.unwrap();
        let stream = AggregatedDiscoveryServiceClient::new(channel)
            .delta_aggregated_resources(ReceiverStream::new(receive))
            .await?
            .into_inner();
        Ok(Client { send, stream })
    }
}

struct Client {
    send: mpsc::Sender<DeltaDiscoveryRequest>,
    stream: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        tokio::time::timeout(Duration::from_secs(5), self.stream.message())
            .await
            .expect("an answer in time")
    }

    async fn told(&mut self) -> (Vec<String>, Vec<String>) {
        let response = self.next().await.unwrap().unwrap();
        (
            response.resources.into_iter().map(|resource| resource.name).collect(),
            response.removed_resources,
        )
    }

    async fn silent(&mut self) {
        let quiet = tokio::time::timeout(Duration::from_millis(300), self.stream.message()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}

fn subscribe(kind: &str, names: &[&str], pod: Option<(&str, &str)>) -> DeltaDiscoveryRequest {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    DeltaDiscoveryRequest {
        type_url: kind.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        node: pod.map(|(namespace, name)| Node {
            metadata: Some(Struct {
                fields: [
                    ("NAMESPACE".to_owned(), text(namespace)),
                    ("POD_NAME".to_owned(), text(name)),
                ]
                .into(),
            }),
            ..Node::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_proxy_is_told_of_itself_and_of_what_it_asks_for_and_of_changes() {
    let server = start().await;
    server.service("reviews", true);
    let mut client = server
        .open(subscribe(type_url::TRUST_BUNDLE, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    assert_eq!(client.told().await, (vec![SELF_NAME.to_owned()], vec![]));
    let own = [
        type_url::WORKLOAD,
        type_url::INBOUND_POLICY,
        type_url::AUTHORIZATION_POLICIES,
        type_url::REQUEST_AUTHENTICATIONS,
    ];
    for kind in own {
        client.send.send(subscribe(kind, &[SELF_NAME], None)).await.unwrap();
        assert_eq!(client.told().await, (vec![SELF_NAME.to_owned()], vec![]), "{kind}");
    }
    let names = ["host/reviews:80", "host/ratings:80"];
    client
        .send
        .send(subscribe(type_url::DESTINATION, &names, None))
        .await
        .unwrap();
    let first = client.next().await.unwrap().unwrap();
    assert_eq!(first.resources.len(), 1);
    assert_eq!(first.removed_resources, ["host/ratings:80"]);

    server.service("ratings", true);
    assert_eq!(
        client.told().await,
        (vec!["host/ratings:80".to_owned()], vec![]),
        "told when it appears"
    );
    server.service("reviews", false);
    assert_eq!(
        client.told().await,
        (vec![], vec!["host/reviews:80".to_owned()]),
        "told when it goes"
    );
    server.service("unrelated", true);
    client.silent().await;
    assert_eq!(server.metrics.streams.get(), 1);
}

#[tokio::test]
async fn a_policy_is_told_to_whom_it_is_for() {
    let server = start().await;
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    client.told().await;
    for kind in [type_url::AUTHORIZATION_POLICIES, type_url::REQUEST_AUTHENTICATIONS] {
        client.send.send(subscribe(kind, &[SELF_NAME], None)).await.unwrap();
        assert_eq!(client.told().await.0, [SELF_NAME], "an empty set is said too");
    }
    let put = |app: &str, action| {
        let target = Target {
            selector: Selector([("app".to_owned(), app.to_owned())].into()),
            refs: false,
        };
        let policy = Policy {
            namespace: "shop".into(),
            name: "p".into(),
            action,
            rules: vec![Rule::default()],
            dry_run: false,
        };
        let name = named("shop", "p");
        let policy = Some((target, policy));
        let index = &server.index;
        index.apply(|world, mesh| world.authorization_policy(&name, policy, &mesh.root_namespace));
    };
    put("other", Action::Deny);
    client.silent().await;
    put("web", Action::Deny);
    let response = client.next().await.unwrap().unwrap();
    assert_eq!(response.type_url, type_url::AUTHORIZATION_POLICIES);
    let any = response.resources[0].resource.as_ref().unwrap();
    let message = wire::AuthorizationPolicies::decode(&any.value[..]).unwrap();
    assert_eq!(message.policies[0].name, "p");
    put("other", Action::Deny);
    let response = client.next().await.unwrap().unwrap();
    assert_eq!(
        response.type_url,
        type_url::AUTHORIZATION_POLICIES,
        "told that it is for others now"
    );
    client.silent().await;
}

/// The key sets of a response of RequestAuthentications.
fn key_sets(response: &DeltaDiscoveryResponse) -> Vec<Option<String>> {
    assert_eq!(response.type_url, type_url::REQUEST_AUTHENTICATIONS);
    let any = response.resources[0].resource.as_ref().unwrap();
    let message = wire::RequestAuthentications::decode(&any.value[..]).unwrap();
    let rules = message.policies.into_iter().flat_map(|policy| policy.rules);
    rules.map(|rule| rule.jwks).collect()
}

#[tokio::test]
async fn a_proxy_may_ask_for_the_keys_of_its_own_rules() {
    let server = start().await;
    let stage = Arc::new(AtomicUsize::new(0));
    let now = stage.clone();
    let keys = serve(Ipv4Addr::LOCALHOST, None, move |_| match now.load(Ordering::SeqCst) {
        0 => ok(JWKS),
        1 => ok(OTHER_JWKS),
        _ => ok("none"),
    })
    .await;
    let uri = format!("{}/keys", keys.address);
    let rule = |app: &str, uri: &str| {
        let object = serde_json::json!({
            "metadata": {"namespace": "shop", "name": app},
            "spec": {"selector": {"matchLabels": {"app": app}}, "jwtRules": [{"issuer": "a", "jwksUri": uri}]},
        });
        let resource = mesh_api::request_authentication::read(object).unwrap();
        crate::feeds::take_request_authentication(&server.index, &named("shop", app), Some(&resource));
    };
    rule("web", &uri);
    rule("other", &format!("{}/others", keys.address));
    let times = Times {
        refresh: HOUR,
        keep: HOUR,
        asked: Duration::from_millis(50),
    };
    let index = server.index.clone();
    let (askings, metrics) = (server.askings.clone(), server.metrics.clone());
    tokio::spawn(jwks::run(
        index,
        Arc::new(key_client(&[], None)),
        times,
        askings,
        metrics,
    ));

    let own = subscribe(type_url::REQUEST_AUTHENTICATIONS, &[SELF_NAME], Some(("shop", "web")));
    let mut client = server.open(own).await.unwrap();
    while key_sets(&client.next().await.unwrap().unwrap()) != [Some(JWKS.to_owned())] {}
    let name = format!("shop/uri/{uri}");
    let ask = subscribe(type_url::KEY_REFRESH, &[&name], None);
    let answer = |response: DeltaDiscoveryResponse| {
        assert_eq!(response.type_url, type_url::KEY_REFRESH);
        assert_eq!(response.resources[0].name, name);
        let any = response.resources[0].resource.as_ref().unwrap();
        wire::KeyRefresh::decode(&any.value[..]).unwrap().fetched
    };
    // New keys come before the answer, and an answer comes without new keys.
    stage.store(1, Ordering::SeqCst);
    client.send.send(ask.clone()).await.unwrap();
    assert_eq!(
        key_sets(&client.next().await.unwrap().unwrap()),
        [Some(OTHER_JWKS.to_owned())]
    );
    assert!(answer(client.next().await.unwrap().unwrap()));
    client.send.send(ask.clone()).await.unwrap();
    client.send.send(ask.clone()).await.unwrap();
    assert!(answer(client.next().await.unwrap().unwrap()));
    // The same name asked for twice is fetched once; the second request may have come after the answer.
    stage.store(2, Ordering::SeqCst);
    client.send.send(ask).await.unwrap();
    while answer(client.next().await.unwrap().unwrap()) {}
    // What no rule of its pod names is not fetched.
    let others = [
        format!("shop/uri/{}/others", keys.address),
        format!("shop/uri/{}/made-up", keys.address),
        "x".to_owned(),
    ];
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    client
        .send
        .send(subscribe(type_url::KEY_REFRESH, &names, None))
        .await
        .unwrap();
    let (found, mut refused) = client.told().await;
    refused.sort();
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!((found, refused), (vec![], expected));
    let counted = |result| server.metrics.jwks_askings.with_label_values(&[result]).get();
    assert_eq!(counted("refused"), 3);
    assert!(counted("fetched") >= 2 && counted("failed") >= 1);
}

#[tokio::test]
async fn a_reconnecting_proxy_is_told_only_what_changed_meanwhile() {
    let server = start().await;
    server.service("reviews", true);
    let first = subscribe(type_url::DESTINATION, &["host/reviews:80"], Some(("shop", "web")));
    let mut client = server.open(first.clone()).await.unwrap();
    let version = client.next().await.unwrap().unwrap().resources[0].version.clone();
    drop(client);
    let mut again = first.clone();
    again.initial_resource_versions = [("host/reviews:80".to_owned(), version)].into();
    let mut client = server.open(again.clone()).await.unwrap();
    client.silent().await;
    drop(client);
    server.service("reviews", false);
    again.resource_names_subscribe.clear();
    let mut client = server.open(again).await.unwrap();
    assert_eq!(client.told().await, (vec![], vec!["host/reviews:80".to_owned()]));
}

#[tokio::test]
async fn a_rejection_is_counted_and_shown() {
    let server = start().await;
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    let nonce = client.next().await.unwrap().unwrap().nonce;
    let mut rejection = subscribe(type_url::WORKLOAD, &[], None);
    rejection.response_nonce = nonce;
    rejection.error_detail = Some(RpcStatus {
        message: "bad".to_owned(),
        ..RpcStatus::default()
    });
    client.send.send(rejection).await.unwrap();
    client.silent().await;
    assert_eq!(server.metrics.rejections.with_label_values(&["Workload"]).get(), 1);
    let (total, shown, _) = server.streams.page(None, 10);
    assert_eq!((total, shown[0].name.as_str()), (1, "web.shop"));
    assert_eq!(shown[0].identity, "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(shown[0].types["Workload"].sync(), Sync::Rejected);
    assert_eq!(server.streams.rejections()[0].reason, "bad");
}

#[tokio::test]
async fn what_a_proxy_acknowledged_is_shown_for_as_long_as_it_is_connected() {
    let server = start().await;
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    let response = client.next().await.unwrap().unwrap();
    let shown = || server.streams.page(None, 10).1.pop().unwrap().types["Workload"].clone();
    assert_eq!(
        (shown().sync(), shown().version),
        (Sync::Stale, response.resources[0].version.clone())
    );
    let mut verdict = subscribe(type_url::WORKLOAD, &[], None);
    verdict.response_nonce = response.nonce;
    client.send.send(verdict).await.unwrap();
    client.silent().await;
    assert_eq!(shown().sync(), Sync::Synced);
    drop(client);
    for _ in 0..250 {
        if server.streams.page(None, 10).0 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the stream is shown although it has ended");
}

#[tokio::test]
async fn only_a_pod_of_the_callers_own_account_is_served() {
    let server = start().await;
    server.pod("other", "10.0.0.2");
    for (pod, want) in [
        (Some(("shop", "other")), Code::PermissionDenied),
        (Some(("elsewhere", "web")), Code::PermissionDenied),
        (None, Code::InvalidArgument),
    ] {
        let mut client = server
            .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], pod))
            .await
            .unwrap();
        assert_eq!(client.next().await.unwrap_err().code(), want, "{pod:?}");
    }
    let mut client = server
        .open(subscribe("type.googleapis.com/x", &[], Some(("shop", "web"))))
        .await
        .unwrap();
    assert_eq!(client.next().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_pod_that_is_not_known_yet_is_waited_for() {
    let server = start().await;
    server.index.apply(|world, _| world.pod(&named("shop", "web"), None));
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    client.silent().await;
    server.pod("web", "10.0.0.1");
    assert_eq!(client.told().await.0, [SELF_NAME]);
}

#[tokio::test]
async fn strangers_do_not_get_through_the_handshake() {
    let server = start().await;
    let stranger = Authority::generate(SystemTime::now()).unwrap();
    for (authority, id) in [
        (&stranger, "spiffe://cluster.local/ns/shop/sa/web"),
        (&server.authority, "spiffe://elsewhere/ns/shop/sa/web"),
    ] {
        let served = match server.connect(authority, id).await {
            // In TLS 1.3 the client learns of the refusal with its first read.
            Ok(channel) => {
                let requests = tokio_stream::iter([subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web")))]);
                let mut client = AggregatedDiscoveryServiceClient::new(channel);
                client.delta_aggregated_resources(requests).await.is_ok()
            }
            Err(_) => false,
        };
        assert!(!served, "{id}");
    }
    assert_eq!(
        server.metrics.streams_refused.with_label_values(&["handshake"]).get(),
        2
    );
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let server = start().await;
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    client.told().await;
    server.stop.send_replace(true);
    assert_eq!(client.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_batch_that_changes_everything_repeats_only_what_is_new() {
    let server = start().await;
    let mut client = server
        .open(subscribe(type_url::WORKLOAD, &[SELF_NAME], Some(("shop", "web"))))
        .await
        .unwrap();
    client.told().await;
    server.index.apply(|_, _| Changed {
        all: true,
        ..Changed::default()
    });
    client.silent().await;
}

/// What a pod's sidecar might report.
fn report(pod: &str, id: u64) -> Report {
    Report {
        namespace: "shop".into(),
        pod: pod.into(),
        id,
        seconds: 10,
        seen: vec![Seen {
            kind: SeenKind::Plaintext.into(),
            address: "10.9.9.9".into(),
            port: 80,
            count: 3,
            last: 1,
            ..Seen::default()
        }],
        ..Report::default()
    }
}

async fn send(server: &Server, id: &str, report: Report) -> Result<(), Status> {
    let channel = server.connect(&server.authority, id).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Report, Taken>::default();
    let path = http::uri::PathAndQuery::from_static(SEND);
    grpc.unary(tonic::Request::new(report), path, codec).await?;
    Ok(())
}

#[tokio::test]
async fn a_report_is_entered_where_the_lease_is_held_and_only_of_the_peers_own_pod() {
    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    const REPLICA: &str = "spiffe://cluster.local/ns/istio-system/sa/pinnace-operator";
    let server = start().await;
    let rows = || {
        let rows = server.ledger.plaintext(0, "shop");
        rows.iter().map(|row| row.count).collect::<Vec<_>>()
    };
    // Nobody is known to hold the lease, so the sidecar is to send it again.
    let status = send(&server, WEB, report("web", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let soon = Instant::now() + HOUR;
    server.leadership.set(Some(soon), &server.metrics);
    send(&server, WEB, report("web", 1)).await.unwrap();
    send(&server, WEB, report("web", 1)).await.unwrap();
    assert_eq!(rows(), [3], "what was sent twice counts once");
    send(&server, REPLICA, report("web", 2)).await.unwrap();
    assert_eq!(rows(), [6], "another replica passes on what it was told");

    server.pod("db", "10.0.0.2");
    let status = send(&server, WEB, report("db", 3)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut much = report("web", 4);
    much.seen = vec![Seen::default(); 2000];
    let status = send(&server, WEB, much).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(rows(), [6]);
}

#[tokio::test]
async fn a_replica_passes_reports_on_to_the_holder_of_the_lease() {
    let holder = start().await;
    let soon = Instant::now() + HOUR;
    holder.leadership.set(Some(soon), &holder.metrics);
    // Its pod, as another replica knows it.
    let record = PodRecord {
        addresses: vec![holder.address.ip()],
        host_addresses: Vec::new(),
        service_account: "pinnace-operator".into(),
        labels: mesh_core::labels::Labels::new(),
        workload: "pinnace-operator".into(),
        injected: false,
        uses_certificate: false,
        told_serial: None,
        created: 0,
        node: None,
        ready: true,
    };
    let pod = named("istio-system", "operator-1");
    holder.index.apply(|world, _| world.pod(&pod, Some(record)));
    let leadership = Leadership::default();
    let forward = |service_account: &str| Forward {
        leadership: leadership.clone(),
        index: holder.index.clone(),
        outgoing: holder.outgoing.clone(),
        replicas: ("istio-system".to_owned(), service_account.to_owned()),
        port: holder.address.port(),
        connection: tokio::sync::Mutex::default(),
    };
    let status = forward("pinnace-operator").send(report("web", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    leadership.saw(Some("operator-1".to_owned()));
    forward("pinnace-operator").send(report("web", 1)).await.unwrap();
    assert_eq!(holder.ledger.plaintext(0, "shop").len(), 1);
    let status = forward("other").send(report("web", 2)).await.unwrap_err();
    assert!(status.message().contains("expected service account"), "{status}");
}
