//! What the administration pages show of all that is known.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::client_tls::{ClientTls, ServerCheck, TlsRule};
use mesh_core::destination::Destination;
use mesh_core::peer_authentication::Effective;
use mesh_core::traffic::{Balancer, HttpLimits, TcpLimits, Traffic};
use mesh_wire::admin::{DiscoveryState, PAGE_ENTRIES, page};
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::convert::{TrustBundle, Workload};
use mesh_wire::request_authentication::RequestAuthentications;
use mesh_wire::resources::type_url;
use serde_json::{Value, json};

use crate::cluster::Cluster;

use super::mesh::{Mesh, OwnVersions};
use super::name::Kind;
use super::table::{Known, Slot};

/// What an endpoint takes of a page, about, in bytes.
const ENDPOINT_BYTES: usize = 200;

/// A destination that the application asked for and the operator knows.
#[derive(Debug, Clone)]
pub struct Found {
    /// The resource's name: `host/NAME:PORT` or `addr/ADDRESS:PORT`.
    pub resource: Arc<str>,
    /// What it is.
    pub cluster: Arc<Cluster>,
    /// The version under which it was sent.
    pub version: String,
    /// Seconds since it was last used.
    pub unused_seconds: u32,
}

impl Mesh {
    /// The destinations that are known, in the order of their resources' names.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        let now = self.now();
        let mut found: Vec<Found> = self
            .asked()
            .into_iter()
            .filter(|(resource, _)| matches!(Kind::of(resource), Kind::Host | Kind::Address))
            .filter_map(|(resource, slot)| match slot.known().as_deref() {
                Some(Known::Found { cluster, version }) => Some(Found {
                    resource,
                    cluster: cluster.clone(),
                    version: version.to_string(),
                    unused_seconds: now.saturating_sub(slot.used()),
                }),
                _ => None,
            })
            .collect();
        found.sort_unstable_by(|a, b| a.resource.cmp(&b.resource));
        found
    }

    /// How this proxy stands with the control plane.
    #[must_use]
    pub fn discovery_state(&self) -> DiscoveryState {
        let seconds = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        };
        let asked = self.asked();
        let count = |kind| asked.iter().filter(|(name, _)| Kind::of(name) == kind).count();
        let held = self.own_versions();
        let versions = [
            (type_url::TRUST_BUNDLE, held.trust),
            (type_url::WORKLOAD, held.workload),
            (type_url::INBOUND_POLICY, held.inbound),
            (type_url::AUTHORIZATION_POLICIES, held.authorization),
            (type_url::REQUEST_AUTHENTICATIONS, held.tokens),
            (type_url::CANDIDATE_SETS, held.candidates),
        ];
        let short = |url: &str| url.rsplit('.').next().unwrap_or(url).to_owned();
        DiscoveryState {
            connected: self.connected(),
            since: self.connection_changed().map(seconds),
            last_update: self.last_update().map(seconds),
            age_seconds: self.age().map(|age| age.as_secs()),
            ready: self.is_ready(),
            versions: versions.map(|(url, version)| (short(url), version)).into(),
            hosts: count(Kind::Host),
            addresses: count(Kind::Address),
        }
    }

    /// Everything that was received, for `config_dump`. Times are seconds; what was not received is null. Where it would be
    /// too much, `destinations` ends early; `/clusters` has all of them, page by page.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let now = self.now();
        let held = self.own_versions();
        let mut asked = self.asked();
        asked.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let count = |kind| asked.iter().filter(|(name, _)| Kind::of(name) == kind).count();
        let (listed, _) = page(&asked, |(name, _)| name, |(_, slot)| size(slot), None, PAGE_ENTRIES);
        let updated = self
            .last_update()
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        json!({
            "connected": self.connected(),
            "ready": self.is_ready(),
            "from_file": self.restored(),
            "age_seconds": self.age().map(|age| age.as_secs()),
            "last_update": updated.map(|since| since.as_secs()),
            "hosts": count(Kind::Host),
            "addresses": count(Kind::Address),
            "peers": count(Kind::Peer),
            "names": count(Kind::Dns),
            "workload": self.has_workload().then(|| workload(&self.workload(), &held.workload)),
            "inbound_policy": self.inbound_policy().map(|policy| inbound_policy(&policy, &held.inbound)),
            "authorization": self.authorization_resources().map(|(policies, tokens)| authorization(&policies, &tokens, &held)),
            "trust_bundle": self.trust().borrow().as_deref().map(|bundle| trust_bundle(bundle, &held.trust)),
            "destinations": listed.iter().map(|(name, slot)| entry(name, slot, now)).collect::<Vec<_>>(),
        })
    }
}

fn workload(workload: &Workload, version: &str) -> Value {
    let ports: BTreeMap<_, _> = workload
        .ports
        .iter()
        .map(|(port, speaks)| (port.to_string(), speaks.as_str()))
        .collect();
    json!({
        "version": version,
        "namespace": workload.namespace,
        "pod": workload.pod,
        "service_account": workload.service_account,
        "canonical_name": workload.canonical_name,
        "canonical_revision": workload.canonical_revision,
        "ports": ports,
        "locality": workload.locality.as_ref().map(ToString::to_string),
        "outbound_traffic_policy": if workload.allow_any { "ALLOW_ANY" } else { "REGISTRY_ONLY" },
    })
}

fn inbound_policy(policy: &Effective, version: &str) -> Value {
    let ports: BTreeMap<_, _> = policy
        .ports
        .iter()
        .map(|(port, mode)| (port.to_string(), mode.to_string()))
        .collect();
    json!({
        "version": version,
        "mode": policy.mode.to_string(),
        "ports": ports,
        "decided_by": policy.decided_by,
    })
}

fn authorization(policies: &AuthorizationPolicies, tokens: &RequestAuthentications, held: &OwnVersions) -> Value {
    let name = |namespace: &str, name: &str| format!("{namespace}/{name}");
    json!({
        "version": held.authorization,
        "tokens_version": held.tokens,
        "path_normalization": policies.paths.to_string(),
        "trusted_proxies": policies.trusted_proxies,
        "policies": policies.policies.iter().map(|it| name(&it.namespace, &it.name)).collect::<Vec<_>>(),
        "request_authentications": tokens.policies.iter().map(|it| name(&it.namespace, &it.name)).collect::<Vec<_>>(),
    })
}

fn trust_bundle(bundle: &TrustBundle, version: &str) -> Value {
    json!({
        "version": version,
        "trust_domain": bundle.trust_domain.as_str(),
        "aliases": bundle.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>(),
        "roots": bundle.roots.len(),
    })
}

/// About what a destination takes of a page, in bytes.
fn size(slot: &Slot) -> usize {
    match slot.known().as_deref() {
        Some(Known::Found { cluster, .. }) => destination_bytes(cluster),
        _ => 0,
    }
}

/// About what a destination takes of a page, in bytes.
#[must_use]
pub fn destination_bytes(destination: &Destination) -> usize {
    let own = destination.endpoints.len() + destination.identities.len() + destination.subsets.len();
    own * ENDPOINT_BYTES
}

fn entry(name: &str, slot: &Slot, now: u32) -> Value {
    let unused = now.saturating_sub(slot.used());
    match slot.known().as_deref() {
        None => json!({"name": name, "state": "unknown", "unused_seconds": unused}),
        Some(Known::Absent) => json!({"name": name, "state": "absent", "unused_seconds": unused}),
        Some(Known::Found {
            cluster: found,
            version,
        }) => json!({
            "name": name,
            "state": "found",
            "unused_seconds": unused,
            "version": &**version,
            "destination": destination(found),
        }),
    }
}

fn destination(destination: &Destination) -> Value {
    let endpoints = destination.endpoints.iter().map(|endpoint| {
        json!({
            "address": endpoint.address.to_string(),
            "mutual_tls": endpoint.mutual_tls,
            "identity": endpoint.identity.as_ref().map(ToString::to_string),
            "workload": &*endpoint.workload.canonical_name,
            "locality": endpoint.locality.as_ref().map(ToString::to_string),
        })
    });
    let subsets = destination.subsets.iter().map(|subset| {
        json!({
            "name": &*subset.name,
            "endpoints": subset.endpoints,
            "client_tls": subset.tls.as_ref().map(client_tls),
            "traffic": traffic(&subset.traffic),
        })
    });
    let routes = destination.routes.as_ref().map(|routes| {
        json!({
            "sources": routes.sources.iter().map(|it| &**it).collect::<Vec<_>>(),
            "http": routes.http.len(),
            "tls": routes.tls.len(),
            "tcp": routes.tcp.len(),
            "destinations": routes.destinations.iter().map(|it| it.cluster_name()).collect::<Vec<_>>(),
        })
    });
    json!({
        "cluster": destination.cluster_name(),
        "namespace": &*destination.namespace,
        "protocol": destination.protocol.as_str(),
        "resolution": format!("{:?}", destination.resolution),
        "client_tls": destination.tls.as_ref().map(client_tls),
        "traffic": traffic(&destination.traffic),
        "subsets": subsets.collect::<Vec<_>>(),
        "routes": routes,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "unready": destination.unready.len(),
        "identities": destination.identities.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What a DestinationRule says of traffic: the balancer, and of everything else what is not the default.
fn traffic(traffic: &Traffic) -> Value {
    let mut shown = json!({"lb_policy": traffic.balancer.lb_policy()});
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    };
    let unlike = |differs: bool, text: &dyn Debug| differs.then(|| format!("{text:?}"));
    let hash = match &traffic.balancer {
        Balancer::Hash(hash) => Some(format!("{hash:?}")),
        _ => None,
    };
    say("consistentHash", hash);
    say("locality", traffic.locality.as_ref().map(|it| format!("{it:?}")));
    say("warmup", traffic.warmup.as_ref().map(|it| format!("{it:?}")));
    say("tcp", unlike(traffic.tcp != TcpLimits::default(), &traffic.tcp));
    say("http", unlike(traffic.http != HttpLimits::default(), &traffic.http));
    say(
        "outlierDetection",
        traffic.outliers.as_ref().map(|it| format!("{it:?}")),
    );
    say("retryBudget", traffic.retry_budget.as_ref().map(|it| format!("{it:?}")));
    say("proxyProtocol", traffic.proxy_protocol.map(|it| format!("{it:?}")));
    shown
}

/// What a DestinationRule says of TLS, under Istio's names.
fn client_tls(rule: &TlsRule) -> Value {
    let mut shown = json!({"rule": &*rule.rule, "mode": rule.tls.mode()});
    let mut say = |name: &str, value: Value| {
        if !value.is_null() {
            shown[name] = value;
        }
    };
    let list = |names: &[Arc<str>]| -> Value {
        match names {
            [] => Value::Null,
            names => names.iter().map(|name| &**name).collect(),
        }
    };
    match &*rule.tls {
        ClientTls::Disable => {}
        ClientTls::IstioMutual(names) => {
            say("sni", json!(names.sni.as_deref()));
            say("subjectAltNames", list(&names.subject_alt_names));
        }
        ClientTls::Refused(reason) => say("reason", json!(&**reason)),
        ClientTls::Simple(origination) | ClientTls::Mutual(origination, _) => {
            say("sni", json!(origination.sni.as_deref()));
            match &origination.server {
                ServerCheck::Skipped => say("insecureSkipVerify", json!(true)),
                ServerCheck::Verified {
                    ca_certificates,
                    ca_crl,
                    subject_alt_names,
                } => {
                    say("caCertificates", json!(ca_certificates.as_deref()));
                    say("caCrl", json!(ca_crl.as_deref()));
                    say("subjectAltNames", list(subject_alt_names));
                }
            }
            if let ClientTls::Mutual(_, files) = &*rule.tls {
                say("clientCertificate", json!(&*files.certificate));
                say("privateKey", json!(&*files.key));
            }
        }
    }
    shown
}
