//! The two containers, and where they go.

use serde_json::{Value, json};

use super::{CERTIFICATE_VOLUME, Config, DATA_VOLUME, INIT_CONTAINER, PROXY_CONTAINER, PROXY_ID, params::Params, pod};

/// Where the sidecar finds its certificate.
const CERTIFICATE_FOLDER: &str = "/etc/certs";
/// Where it keeps its last good configuration.
const DATA_FOLDER: &str = "/var/lib/istio/data";

/// Adds the containers in Istio's order.
///
/// Native: `istio-init`, `istio-proxy`, then the pod's init containers, which are in the mesh already. Classic: the pod's
/// init containers run before anything is redirected, since no proxy runs yet; the proxy comes last, so that `kubectl
/// exec` keeps meaning the application, or first when the application is to wait for it.
///
/// `None` when the pod's lists are no lists.
pub(super) fn add(pod: &mut Value, params: &Params, config: &Config<'_>, probers: Option<&str>) -> Option<()> {
    let proxy = proxy(params, config, probers);
    let init = params.capture.as_ref().map(|arguments| init(arguments, params, config));
    if params.native {
        let containers = pod::spec_list_mut(pod, "initContainers")?;
        containers.splice(0..0, init.into_iter().chain([proxy]));
        return Some(());
    }
    if let Some(init) = init {
        pod::spec_list_mut(pod, "initContainers")?.push(init);
    }
    let containers = pod::spec_list_mut(pod, "containers")?;
    let at = if params.hold { 0 } else { containers.len() };
    containers.insert(at, proxy);
    Some(())
}

fn init(arguments: &[String], params: &Params, config: &Config<'_>) -> Value {
    let mut container = json!({
        "name": INIT_CONTAINER,
        "image": params.init_image,
        "args": arguments,
        "resources": config.values.init_resources,
        // A process that is not root would get no effective capability.
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    });
    set_pull_policy(&mut container, config);
    container
}

fn proxy(params: &Params, config: &Config<'_>, probers: Option<&str>) -> Value {
    let ready = json!({"path": "/healthz/ready", "port": 15021});
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": params.image,
        "args": ["sidecar"],
        "env": environment(params, config, probers),
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "resources": params.resources,
        "startupProbe": {
            "httpGet": ready,
            "failureThreshold": 600,
            "periodSeconds": 1,
            "timeoutSeconds": 3,
        },
        "readinessProbe": {
            "httpGet": ready,
            "initialDelaySeconds": params.readiness_initial_delay,
            "periodSeconds": params.readiness_period,
            "timeoutSeconds": 3,
            "failureThreshold": params.readiness_failure_threshold,
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_ID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_ID,
        },
        "volumeMounts": [
            {"name": CERTIFICATE_VOLUME, "mountPath": CERTIFICATE_FOLDER, "readOnly": true},
            {"name": DATA_VOLUME, "mountPath": DATA_FOLDER},
        ],
    });
    if params.native {
        container["restartPolicy"] = json!("Always");
    }
    if params.hold {
        // The kubelet starts containers in order and waits for each one's hook.
        let command = [
            "/proxy",
            "wait",
            "--url",
            "http://127.0.0.1:15021/healthz/ready",
            "--timeout",
            "60",
        ];
        container["lifecycle"] = json!({"postStart": {"exec": {"command": command}}});
    }
    set_pull_policy(&mut container, config);
    container
}

fn environment(params: &Params, config: &Config<'_>, probers: Option<&str>) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let values = config.values;
    let trust_domain = config.mesh.trust_domain.as_str();
    let operator = format!(
        "spiffe://{trust_domain}/ns/{}/sa/{}",
        values.istio_namespace,
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
        value("DISCOVERY_ADDRESS", &values.discovery_address),
        value("DISCOVERY_SPIFFE_ID", &operator),
        value("PROXY_CONCURRENCY", &params.concurrency.to_string()),
        value("PROXY_LOG_LEVEL", &params.log_level),
        value(
            "TERMINATION_DRAIN_DURATION_SECONDS",
            &params.termination_drain.to_string(),
        ),
        value("CERT_DIR", CERTIFICATE_FOLDER),
        value("SNAPSHOT_DIR", DATA_FOLDER),
    ];
    if let Some(probers) = probers {
        environment.push(value("ISTIO_KUBE_APP_PROBERS", probers));
    }
    environment
}

fn set_pull_policy(container: &mut Value, config: &Config<'_>) {
    if !config.values.image_pull_policy.is_empty() {
        container["imagePullPolicy"] = json!(config.values.image_pull_policy);
    }
}
