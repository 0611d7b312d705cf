//! The sidecar's environment: what it is told at its start.

use serde_json::{Value, json};

use super::{
    CERTIFICATE_FOLDER, Config, DATA_FOLDER,
    params::{Params, USUAL_STATUS_PORT},
};

/// What is only known once the pod has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'a> {
    /// The application's probes, as JSON.
    pub(super) probers: Option<&'a str>,
    /// The application's pages of metrics, as JSON.
    pub(super) scrapes: Option<&'a str>,
}

/// The variables, in an order that does not change; those of `proxyMetadata` last. One of these that has the name of
/// another is left out, and told in `warnings`.
pub(super) fn variables(
    params: &Params,
    config: &Config<'_>,
    found: Found<'_>,
    warnings: &mut Vec<String>,
) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let values = config.values;
    let trust_domain = config.mesh.trust_domain.as_str();
    let operator = format!(
        "spiffe://{trust_domain}/ns/{}/sa/{}",
        values.rules.istio_namespace,
        values.operator_account()
    );
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("INSTANCE_IP", "status.podIP"),
        field("INSTANCE_IPS", "status.podIPs"),
        field("HOST_IP", "status.hostIP"),
        field("NODE_NAME", "spec.nodeName"),
        value("TRUST_DOMAIN", trust_domain),
        value("CLUSTER_DOMAIN", &values.cluster_domain),
        value("ISTIO_META_CLUSTER_ID", &values.cluster_name),
        value("DISCOVERY_ADDRESS", &values.discovery_address),
        value("DISCOVERY_SPIFFE_ID", &operator),
        value("PROXY_CONCURRENCY", &params.concurrency.to_string()),
        value("PROXY_LOG_LEVEL", &params.log_level),
        value("DRAIN_DURATION_SECONDS", &params.drain.to_string()),
        value(
            "TERMINATION_DRAIN_DURATION_SECONDS",
            &params.termination_drain.to_string(),
        ),
        value("CERT_DIR", CERTIFICATE_FOLDER),
        value("SNAPSHOT_DIR", DATA_FOLDER),
    ];
    if params.status_port != USUAL_STATUS_PORT {
        environment.push(value("STATUS_PORT", &params.status_port.to_string()));
    }
    if !values.network.is_empty() {
        environment.push(value("ISTIO_META_NETWORK", &values.network));
    }
    // A pod's own word goes before the mesh's.
    if values.kernel_tls != "off" && !params.metadata.contains_key("KERNEL_TLS") {
        environment.push(value("KERNEL_TLS", &values.kernel_tls));
    }
    if let Some(probers) = found.probers {
        environment.push(value("ISTIO_KUBE_APP_PROBERS", probers));
    }
    if let Some(scrapes) = found.scrapes {
        environment.push(value("ISTIO_PROMETHEUS_ANNOTATIONS", scrapes));
    }
    for (name, text) in &params.metadata {
        if environment.iter().any(|there| there["name"] == **name) {
            warnings.push(format!(
                "proxyMetadata.{name} has no effect: injection sets this variable itself"
            ));
            continue;
        }
        if WITHOUT_EFFECT.contains(&name.as_str()) {
            warnings.push(format!(
                "proxyMetadata.{name} has no effect: the sidecar has nothing that it would switch"
            ));
        }
        environment.push(value(name, text));
    }
    environment
}

/// Variables by which Istio's users switch on what is not here. Others that the sidecar does not read are the pod's own
/// affair.
const WITHOUT_EFFECT: [&str; 5] = [
    "BOOTSTRAP_XDS_AGENT",
    "ISTIO_META_DNS_AUTO_ALLOCATE",
    "ISTIO_META_ENABLE_HBONE",
    "ISTIO_META_IDLE_TIMEOUT",
    "IPTABLES_TRACE_LOGGING",
];
