//! The pages that are read: a sidecar's administration (15000) and an operator's debug page (15013), whole even where they come
//! in parts.

use http::{Method, StatusCode};
use mesh_wire::admin::{Certificates, Clusters, Listeners, Policies, ServerInfo, Syncz};
use serde::de::DeserializeOwned;

use crate::cluster::{Answer, Cluster, OPERATOR_PORT, PodName, SIDECAR_PORT, fetch, fetch_from};
use crate::failure::Failure;

/// The parts of one list that are read: more than any replica or sidecar serves.
const MOST_PARTS: usize = 10_000;

/// Who is asked.
#[derive(Clone)]
pub(crate) enum Peer {
    /// A port of a pod.
    Pod { cluster: Cluster, pod: PodName, port: u16 },
    /// A port that is forwarded already.
    Address(String),
}

impl Peer {
    /// The sidecar of a pod.
    pub(crate) fn sidecar(cluster: &Cluster, pod: PodName) -> Self {
        Self::Pod {
            cluster: cluster.clone(),
            pod,
            port: SIDECAR_PORT,
        }
    }

    /// A replica of the operator.
    pub(crate) fn operator(cluster: &Cluster, pod: PodName) -> Self {
        Self::Pod {
            cluster: cluster.clone(),
            pod,
            port: OPERATOR_PORT,
        }
    }

    /// Its name, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Pod { pod, .. } => pod.to_string(),
            Self::Address(address) => address.clone(),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Answer, Failure> {
        match self {
            Self::Pod { cluster, pod, port } => fetch(cluster, pod, *port, method, path).await,
            Self::Address(address) => fetch_from(address, method, path).await,
        }
    }

    async fn page<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::GET, path).await?;
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body).map_err(|error| {
                Failure::silent(format!("{}: {path} is not what was expected: {error}", self.name()))
                    .advise("are this command and the mesh of very different versions? pinnace version")
            }),
            StatusCode::NOT_FOUND => Err(Failure::silent(format!("{} has no page {path}", self.name()))
                .advise("it is of an older version, or not of this mesh: pinnace version")),
            status => Err(Failure::silent(format!(
                "{}: {path}: {status}: {}",
                self.name(),
                said(&answer)
            ))),
        }
    }

    /// All clusters.
    pub(crate) async fn clusters(&self) -> Result<Clusters, Failure> {
        let mut all = Clusters::default();
        for _ in 0..MOST_PARTS {
            let part: Clusters = self.page(&part("/clusters", all.next.as_deref())).await?;
            all.clusters.extend(part.clusters);
            all.total = part.total;
            all.next = part.next;
            if all.next.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// What connections are taken for.
    pub(crate) async fn listeners(&self) -> Result<Listeners, Failure> {
        self.page("/listeners").await
    }

    /// The policies in force.
    pub(crate) async fn policies(&self) -> Result<Policies, Failure> {
        self.page("/policies").await
    }

    /// Certificates and roots.
    pub(crate) async fn certificates(&self) -> Result<Certificates, Failure> {
        self.page("/certs").await
    }

    /// What it is.
    pub(crate) async fn server_info(&self) -> Result<ServerInfo, Failure> {
        self.page("/server_info").await
    }

    /// All streams of a replica.
    pub(crate) async fn syncz(&self) -> Result<Syncz, Failure> {
        let mut all: Syncz = self.page("/debug/syncz").await?;
        for _ in 0..MOST_PARTS {
            let Some(after) = all.next.take() else { break };
            let next: Syncz = self.page(&part("/debug/syncz", Some(&after))).await?;
            all.proxies.extend(next.proxies);
            all.next = next.next;
        }
        Ok(all)
    }

    /// Changes the log level; `change` is `level=LEVEL` or `MODULE=LEVEL`.
    pub(crate) async fn set_level(&self, change: &str) -> Result<(), Failure> {
        let answer = self.ask(Method::POST, &format!("/logging?{change}")).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::BAD_REQUEST => Err(Failure::usage(format!("{}: {}", self.name(), said(&answer)))),
            status => Err(Failure::silent(format!(
                "{}: /logging: {status}: {}",
                self.name(),
                said(&answer)
            ))),
        }
    }
}

fn part(path: &str, after: Option<&str>) -> String {
    match after {
        Some(after) => format!("{path}?after={after}"),
        None => path.to_owned(),
    }
}

/// The beginning of what an answer says.
fn said(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    text.trim().chars().take(300).collect()
}
