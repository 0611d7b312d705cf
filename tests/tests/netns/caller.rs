//! A pod that calls another one's sidecar directly, as whoever it likes and from several addresses: a call as it is sent, and the
//! scene in which it is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::direct::{self, Peer, Spoken, Told};
use super::http::application;
use super::http2;
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::secrets::Secret;
use super::world::{OTHER, SERVER, World, eventually};

pub(crate) const SOURCES: [&str; 3] = [OTHER, "10.77.0.31", "10.77.0.32"];
pub(crate) const IDENTITIES: [&str; 4] = [
    "cluster.local/ns/shop/sa/client",
    "cluster.local/ns/payments/sa/foreign",
    "cluster.local/ns/shop/sa/batch",
    "old.td/ns/shop/sa/client",
];
pub(crate) const SNI: [&str; 2] = ["outbound_.80_._.server.shop.svc.cluster.local", "server.example"];
/// A setting that every test has.
pub(crate) const ALIASES: &str = "trustDomainAliases: [old.td]";
/// The mesh, without its settings.
pub(crate) const WORKLOADS: &str = "
workloads:
- {name: shop/server-1, serviceAccount: server, addresses: [10.77.0.2], labels: {app: server}}
services:
- name: shop/server
  addresses: [10.96.0.2]
  ports:
  - {port: 80, name: http, targetPort: 8080}
  - {port: 82, name: grpc, targetPort: 8082}
  - {port: 9000, name: tcp}
  endpoints: [10.77.0.2]
";

/// A request, as it is sent and as `eval authz` is asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) protocol: &'static str,
    pub(crate) source: &'static str,
    pub(crate) identity: Option<&'static str>,
    pub(crate) server_name: Option<&'static str>,
    pub(crate) port: u16,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Values of Host, of which HTTP/1.1 may have more than one.
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The token of the header `authorization`.
    pub(crate) token: Option<String>,
}

impl Asked {
    /// As a line for `eval authz`.
    pub(crate) fn line(&self, id: usize) -> Value {
        let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &self.headers {
            headers.entry(name).or_default().push(value);
        }
        let mut line = json!({
            "id": id, "protocol": self.protocol,
            "source": {"principal": self.identity, "ip": self.source, "mtls": self.identity.is_some()},
            "destination": {"namespace": "shop", "labels": {"app": "server"}, "service_account": "server",
                            "ip": SERVER, "port": self.port},
            "sni": self.server_name,
        });
        if self.protocol != "tcp" {
            match self.hosts.as_slice() {
                [one] => line["host"] = json!(one),
                more => {
                    headers.insert("host", more.to_vec());
                }
            }
            line["method"] = json!(self.method);
            line["path"] = json!(self.path);
            line["headers"] = json!(headers);
            line["jwt"] = json!(self.token);
        }
        line
    }

    fn bearer(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.token
            .iter()
            .map(|token| ("authorization", format!("Bearer {token}")))
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for host in &self.hosts {
            head += &format!("host: {host}\r\n");
        }
        for (name, value) in self.headers.iter().cloned().chain(self.bearer()) {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://{}{}", self.hosts[0], self.path));
        for (name, value) in self.headers.iter().cloned().chain(self.bearer()) {
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }
}

/// One pod with a sidecar, and one that calls it.
pub(crate) struct Scene {
    pub(crate) world: World,
    runtime: Runtime,
    pub(crate) server: Pod,
    pub(crate) caller: Pod,
    identities: BTreeMap<&'static str, Secret>,
}

impl Scene {
    /// With more in the sidecar's environment.
    pub(crate) fn new(environment: &[(&str, &str)]) -> Option<Self> {
        let mut world = World::new()?;
        let server = world.pod("server", SERVER);
        let caller = world.pod("caller", SOURCES[0]);
        for more in &SOURCES[1..] {
            let added = caller
                .command("ip")
                .args(["address", "add", &format!("{more}/24"), "dev", "eth0"])
                .status();
            assert!(added.unwrap().success());
        }
        world.fixtures(&format!("mesh: {{{ALIASES}}}\n{WORKLOADS}"));
        world.discovery();
        world.sidecar(&server, environment);
        world.ready(&server);
        application(&server, 8080);
        serve(&server, 9000, echo);
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { http2::serve(&server, 8082, http2::echo) });
        let identities = IDENTITIES.map(|name| (name, world.issue(&format!("spiffe://{name}"))));
        Some(Self {
            runtime,
            server,
            caller,
            identities: identities.into(),
            world,
        })
    }

    fn versions(&self) -> Value {
        let (_, page) = self.server.page(15000, "/discovery").unwrap();
        let page: Value = serde_json::from_str(&page).unwrap();
        page["versions"].clone()
    }

    /// Puts a set in force; `kinds` are those of which something else is in force then.
    pub(crate) fn apply(&self, settings: &str, resources: &[Value], kinds: &[&str]) {
        let before = self.versions();
        let documents: Vec<String> = resources.iter().map(Value::to_string).collect();
        self.world
            .fixtures(&format!("{settings}{WORKLOADS}\n---\n{}\n", documents.join("\n---\n")));
        eventually("the set is in force", || {
            let now = self.versions();
            kinds.iter().all(|kind| now[kind] != before[kind])
        });
    }

    /// What has been denied: how often, and the last record.
    pub(crate) fn denials(&self) -> (u64, Value) {
        let (_, page) = self.server.page(15000, "/denials").unwrap();
        let page: Value = serde_json::from_str(&page).unwrap();
        let last = page["denials"].as_array().unwrap().last().cloned().unwrap_or_default();
        (page["total"].as_u64().unwrap(), last)
    }

    /// Asks the sidecar; the status of its answer, as HTTP has it, 0 for an opaque connection that bytes came back on.
    pub(crate) fn ask(&self, asked: &Asked, patience: Duration) -> Option<u16> {
        let told = self.tell(asked, patience)?;
        let grpc = told
            .headers
            .get("grpc-status")
            .map(|it| it.to_str().unwrap().to_owned());
        match grpc.as_deref() {
            Some("7") => Some(403),
            Some("16") => Some(401),
            Some("13") => Some(400),
            Some(other) => panic!("grpc-status {other}"),
            None => told.status,
        }
    }

    /// The whole answer; none where there was no connection.
    pub(crate) fn tell(&self, asked: &Asked, patience: Duration) -> Option<Told> {
        let spoken = match asked.protocol {
            "http" => Spoken::Http1,
            "tcp" => Spoken::Opaque,
            _ => Spoken::Http2,
        };
        let source: Ipv4Addr = asked.source.parse().unwrap();
        let to = SocketAddr::new(SERVER.parse().unwrap(), asked.port);
        self.runtime.block_on(async {
            let peer = asked.identity.map(|identity| Peer {
                secret: &self.identities[identity],
                server_name: asked.server_name,
            });
            let stream = match direct::connect((&self.caller, source), to, spoken, peer, patience).await {
                Ok(stream) => stream,
                Err(error) => {
                    println!("no connection: {asked:?}: {error}");
                    return None;
                }
            };
            Some(match spoken {
                Spoken::Http1 => direct::http1(stream, &asked.head()).await,
                Spoken::Http2 => direct::http2(stream, asked.request()).await,
                Spoken::Opaque => Told {
                    status: direct::echoed(stream).await.then_some(0),
                    headers: http::HeaderMap::new(),
                },
            })
        })
    }
}
