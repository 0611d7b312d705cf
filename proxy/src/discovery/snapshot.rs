//! What the administration pages show of all that is known.

use std::collections::BTreeMap;
use std::time::SystemTime;

use mesh_core::destination::Destination;
use mesh_core::peer_authentication::Effective;
use mesh_wire::convert::{TrustBundle, Workload};
use serde_json::{Value, json};

use super::mesh::Mesh;
use super::name::is_host;
use super::table::{Known, Slot};

impl Mesh {
    /// Everything that was received, for `config_dump`. Times are seconds; what was not received is null.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let now = self.now();
        let [trust_version, workload_version, inbound_version] = self.own_versions();
        let mut asked = self.asked();
        asked.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let hosts = asked.iter().filter(|(name, _)| is_host(name)).count();
        let updated = self
            .last_update()
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        json!({
            "connected": self.connected(),
            "ready": self.is_ready(),
            "last_update": updated.map(|since| since.as_secs()),
            "hosts": hosts,
            "addresses": asked.len() - hosts,
            "workload": self.has_workload().then(|| workload(&self.workload(), &workload_version)),
            "inbound_policy": self.inbound_policy().map(|policy| inbound_policy(&policy, &inbound_version)),
            "trust_bundle": self.trust().borrow().as_deref().map(|bundle| trust_bundle(bundle, &trust_version)),
            "destinations": asked.iter().map(|(name, slot)| entry(name, slot, now)).collect::<Vec<_>>(),
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

fn trust_bundle(bundle: &TrustBundle, version: &str) -> Value {
    json!({
        "version": version,
        "trust_domain": bundle.trust_domain.as_str(),
        "aliases": bundle.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>(),
        "roots": bundle.roots.len(),
    })
}

fn entry(name: &str, slot: &Slot, now: u32) -> Value {
    let unused = now.saturating_sub(slot.used());
    match slot.known().as_deref() {
        None => json!({"name": name, "state": "unknown", "unused_seconds": unused}),
        Some(Known::Absent) => json!({"name": name, "state": "absent", "unused_seconds": unused}),
        Some(Known::Found {
            destination: found,
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
            "workload": &*endpoint.workload,
        })
    });
    json!({
        "cluster": destination.cluster_name(),
        "namespace": &*destination.namespace,
        "protocol": destination.protocol.as_str(),
        "resolution": format!("{:?}", destination.resolution),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "identities": destination.identities.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
