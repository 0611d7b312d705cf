//! The two containers, and where they go.

use serde_json::{Value, json};

use super::{Config, INIT_CONTAINER, PROXY_CONTAINER, PROXY_ID, merge, params::Params, pod, volumes};

/// Adds the containers in Istio's order.
///
/// Native: `istio-init`, `istio-proxy`, then the pod's init containers, which are in the mesh already. Classic: the pod's
/// init containers run before anything is redirected, since no proxy runs yet; the proxy comes last, so that `kubectl
/// exec` keeps meaning the application, or first when the application is to wait for it.
///
/// Each with the pod's own container of its name laid over it. `None` when the pod's lists are no lists.
pub(super) fn add(
    pod: &mut Value,
    params: &Params,
    config: &Config<'_>,
    environment: Vec<Value>,
    own: merge::Own,
) -> Option<()> {
    let mut proxy = proxy(params, config, environment);
    if let Some(own) = own.proxy {
        merge::lay(own, &mut proxy);
    }
    let init = params.capture.as_ref().map(|arguments| {
        let mut init = init(arguments, params, config);
        if let Some(own) = own.init {
            merge::lay(own, &mut init);
        }
        init
    });
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
    set_seccomp_profile(&mut container, params);
    set_pull_policy(&mut container, config);
    container
}

fn proxy(params: &Params, config: &Config<'_>, environment: Vec<Value>) -> Value {
    let values = config.values;
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": params.image,
        "args": ["sidecar"],
        "env": environment,
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "resources": params.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_ID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_ID,
        },
        "volumeMounts": volumes::mounts(params),
    });
    if params.native {
        container["restartPolicy"] = json!("Always");
    }
    if params.probed {
        let ready = json!({"path": "/healthz/ready", "port": 15021});
        if let Some(failures) = values.startup_failures {
            container["startupProbe"] = json!({
                "httpGet": ready,
                "failureThreshold": failures,
                "periodSeconds": 1,
                "timeoutSeconds": 3,
            });
        }
        container["readinessProbe"] = json!({
            "httpGet": ready,
            "initialDelaySeconds": params.readiness_initial_delay,
            "periodSeconds": params.readiness_period,
            "timeoutSeconds": 3,
            "failureThreshold": params.readiness_failure_threshold,
        });
    }
    set_seccomp_profile(&mut container, params);
    if let Some(lifecycle) = &values.lifecycle {
        container["lifecycle"] = lifecycle.clone();
    } else if params.hold {
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

fn set_pull_policy(container: &mut Value, config: &Config<'_>) {
    if !config.values.image_pull_policy.is_empty() {
        container["imagePullPolicy"] = json!(config.values.image_pull_policy);
    }
}

fn set_seccomp_profile(container: &mut Value, params: &Params) {
    if let Some(profile) = &params.seccomp_profile {
        container["securityContext"]["seccompProfile"] = profile.clone();
    }
}
