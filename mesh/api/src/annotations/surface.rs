//! The whole surface of a pod's annotations and labels under Istio's names, and what becomes of each. The table in
//! docs/injection.md is written from it, and the warnings at admission are.

use std::fmt::Write as _;

/// What becomes of an annotation or label of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It acts; a value that is not understood refuses the pod.
    Honoured,
    /// It is accepted and does nothing, with a warning at admission.
    Ignored,
    /// It is written, whatever was there before.
    Written,
}

/// One annotation or label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub treatment: Treatment,
    /// The values and what they do, or why it does nothing; what is refused is said here too.
    pub says: &'static str,
}

const fn honoured(name: &'static str, says: &'static str) -> Entry {
    Entry {
        name,
        treatment: Treatment::Honoured,
        says,
    }
}

const fn ignored(name: &'static str, says: &'static str) -> Entry {
    Entry {
        name,
        treatment: Treatment::Ignored,
        says,
    }
}

const fn written(name: &'static str, says: &'static str) -> Entry {
    Entry {
        name,
        treatment: Treatment::Written,
        says,
    }
}

const SERIES: &str = "the sidecar's metrics are Istio's standard ones, always the same series";
const NOT_A_PODS: &str = "it is read on other objects than pods";

/// A pod's annotations.
pub const ANNOTATIONS: &[Entry] = &[
    honoured(
        super::INCLUDE_OUTBOUND_IP_RANGES,
        "CIDRs separated by commas, or `*` (the default); empty includes none",
    ),
    honoured(super::EXCLUDE_OUTBOUND_IP_RANGES, "CIDRs separated by commas"),
    honoured(
        super::INCLUDE_OUTBOUND_PORTS,
        "ports separated by commas, captured whatever the address",
    ),
    honoured(super::EXCLUDE_OUTBOUND_PORTS, "ports separated by commas"),
    honoured(
        super::INCLUDE_INBOUND_PORTS,
        "ports separated by commas, or `*` (the default); empty includes none",
    ),
    honoured(
        super::EXCLUDE_INBOUND_PORTS,
        "ports separated by commas; counts only where all are included. The status port is always among them",
    ),
    honoured(
        super::EXCLUDE_INTERFACES,
        "names of interfaces separated by commas, `veth+` for all that begin so: left alone in both directions",
    ),
    honoured(
        super::REROUTE_VIRTUAL_INTERFACES,
        "names of interfaces of virtual machines in the pod, whose inbound traffic counts as outbound",
    ),
    honoured(
        super::KUBEVIRT_INTERFACES,
        "the deprecated name of `istio.io/reroute-virtual-interfaces`, which wins",
    ),
    honoured(
        super::INTERCEPTION_MODE,
        "`REDIRECT`, or `NONE`: nothing is redirected. Refused: `TPROXY`, which would need the sidecar to run as root with \
         NET_ADMIN",
    ),
    honoured(
        super::INJECT,
        "`true`, `false`; deprecated, the label of this name wins",
    ),
    honoured(
        super::NATIVE_SIDECAR,
        "`true`, `false`: an init container that restarts, or a classic container",
    ),
    written(super::STATUS, "JSON: what was added"),
    honoured(
        super::PROXY_CPU,
        "a quantity. As in Istio: with any of these four, only what annotations say is set",
    ),
    honoured(super::PROXY_CPU_LIMIT, "a quantity"),
    honoured(super::PROXY_MEMORY, "a quantity"),
    honoured(super::PROXY_MEMORY_LIMIT, "a quantity"),
    honoured(
        super::PROXY_IMAGE,
        "a name under the chart's `hub` and `tag`, or a whole reference if it has a slash; of both containers",
    ),
    honoured(
        super::PROXY_IMAGE_TYPE,
        "a type listed in the chart's `proxy.imageTypes` is put behind the tag, `TAG-debug`. `default` and `distroless` are \
         the image that there is; another type has no effect and a warning",
    ),
    honoured(
        super::LOG_LEVEL,
        "`trace`, `debug`, `info`, `warning`, `error`, `critical`, `off`",
    ),
    honoured(
        super::AGENT_LOG_LEVEL,
        "`LEVEL` or `SCOPE:LEVEL,…`: the level of the modules that do what Istio's agent does; a scope without counterpart \
         has a warning",
    ),
    honoured(
        super::COMPONENT_LOG_LEVEL,
        "`COMPONENT:LEVEL,…`: the level of the modules that do what Envoy's component does; a component without counterpart \
         has a warning",
    ),
    ignored(
        "sidecar.istio.io/bootstrapOverride",
        "there is no Envoy, which it would configure",
    ),
    honoured(
        super::USER_VOLUME,
        "JSON from a volume's name to its source: volumes for the sidecar. Refused: Secrets `istio.*`, the names of the \
         mesh's own volumes, and a name that the pod has for another volume",
    ),
    honoured(
        super::USER_VOLUME_MOUNT,
        "JSON from a volume's name to its mount in the sidecar, with `mountPath`. Refused: volumes that are not there, the \
         mesh's own, and paths within the sidecar's own folders",
    ),
    honoured(
        super::REWRITE_APP_HTTP_PROBERS,
        "`true` (the chart's default), `false`: see [probes](#probes-and-hooks)",
    ),
    ignored("sidecar.istio.io/statsInclusionPrefixes", SERIES),
    ignored("sidecar.istio.io/statsInclusionSuffixes", SERIES),
    ignored("sidecar.istio.io/statsInclusionRegexps", SERIES),
    ignored("sidecar.istio.io/extraStatTags", SERIES),
    ignored("sidecar.istio.io/statsHistogramBuckets", SERIES),
    ignored("sidecar.istio.io/statsHistogramBins", SERIES),
    ignored("sidecar.istio.io/statsCompression", SERIES),
    ignored("sidecar.istio.io/statsEvictionInterval", SERIES),
    ignored(
        "sidecar.istio.io/statsFlushInterval",
        "metrics are counted when they are asked for",
    ),
    ignored(
        "sidecar.istio.io/discoveryAddress",
        "the sidecar knows the control plane that injected it, by its identity",
    ),
    ignored(
        super::CAP_NET_BIND_SERVICE,
        "the sidecar listens on no port below 1024 and needs no capability; `false` has no warning",
    ),
    honoured(
        super::STATUS_PORT,
        "the port of the sidecar's pages and of the application's probes, 15020 by default; `0`: the sidecar has no probes. \
         Refused: the sidecar's other ports",
    ),
    ignored(
        "readiness.status.sidecar.istio.io/applicationPorts",
        "the sidecar is ready with a certificate and a policy; the application has its own readiness",
    ),
    honoured(
        super::READINESS_INITIAL_DELAY,
        "seconds before the first readiness probe of the sidecar; 0 by default",
    ),
    honoured(
        super::READINESS_PERIOD,
        "seconds between readiness probes of the sidecar, at least 1; 15 by default",
    ),
    honoured(
        super::READINESS_FAILURE_THRESHOLD,
        "failed readiness probes until the sidecar is unready, at least 1; 4 by default",
    ),
    honoured(
        super::PROXY_CONFIG,
        "YAML of Istio's ProxyConfig over the mesh's `defaultConfig`, see [MeshConfig](resources/mesh-config.md#proxyconfig): \
         fields without effect have a warning each",
    ),
    ignored(
        "proxy.istio.io/overrides",
        "a pod that has its sidecar is left as it is, so nothing is merged twice",
    ),
    honoured(
        super::TEMPLATES,
        "`sidecar`, which is what is injected anyway. Refused: all others (`gateway`, `grpc-agent`, `grpc-simple`, templates \
         of one's own): there is one template, and a gateway or a proxyless application with a sidecar would not be what was \
         asked for",
    ),
    written(super::REVISION, "the revision that injected the pod"),
    honoured(
        super::MERGE_METRICS,
        "`true` (the mesh's `enablePrometheusMerge`), `false`: see [metrics](#metrics-of-the-application)",
    ),
    honoured(
        super::SCRAPE_TARGETS,
        "`PORT:PATH,…`: the application's pages to merge, at most 32. Refused, where metrics are merged: ports of the sidecar",
    ),
    ignored(
        "prometheus.istio.io/secure-port",
        "the merged metrics are in the clear, on the status port",
    ),
    ignored("networking.istio.io/exportTo", NOT_A_PODS),
    ignored("networking.istio.io/traffic-distribution", NOT_A_PODS),
    ignored("galley.istio.io/analyze-suppress", NOT_A_PODS),
    ignored("istio.io/dry-run", NOT_A_PODS),
    ignored("kubernetes.io/ingress.class", NOT_A_PODS),
    ignored("topology.istio.io/controlPlaneClusters", NOT_A_PODS),
    ignored("traffic.istio.io/nodeSelector", NOT_A_PODS),
    honoured(
        super::PRE_STOP_SLEEP,
        "a duration such as `5s`, see [rollouts](#rollouts). Refused: as long as `terminationGracePeriodSeconds`, or longer",
    ),
];

/// A pod's labels.
pub const LABELS: &[Entry] = &[
    honoured(crate::labels::INJECT, "`true`, `false`; any other value counts as none"),
    honoured(
        crate::labels::REVISION,
        "the revision, or a tag of it, whose control plane injects the pod",
    ),
    honoured(
        crate::labels::TLS_MODE,
        "`istio` is added. A pod that says something else is called in the clear: nothing promises that it takes mutual TLS",
    ),
    ignored(
        "networking.istio.io/tunnel",
        "there is no HBONE; clients use mutual TLS",
    ),
    honoured(
        crate::labels::CANONICAL_NAME,
        "added from `app.kubernetes.io/name`, `app`, or the workload's name; 63 characters",
    ),
    honoured(
        crate::labels::CANONICAL_REVISION,
        "added from `app.kubernetes.io/version`, `version`, or `latest`",
    ),
    honoured(
        crate::labels::NETWORK,
        "added from the chart's `network` where that is set; endpoints of all networks are called directly",
    ),
    ignored(
        crate::labels::CLUSTER,
        "the cluster's name is the chart's `clusterName`",
    ),
];

/// Whose names the mesh answers for: an annotation under these that is not in [`ANNOTATIONS`] is a mistake.
const OWN: [&str; 8] = [
    "inject.istio.io/",
    "policy.pinnace.dev/",
    "prometheus.istio.io/",
    "proxy.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
];

/// What the owner of a pod with this annotation should hear, when it does nothing.
pub(super) fn warning(name: &str) -> Option<String> {
    match ANNOTATIONS.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.treatment == Treatment::Ignored)
            .then(|| format!("annotation {name} has no effect: {}", entry.says.replace('`', "\""))),
        None => OWN
            .iter()
            .any(|prefix| name.starts_with(prefix))
            .then(|| format!("annotation {name} is not known and has no effect")),
    }
}

/// What the owner of a pod with this label should hear, when it does nothing.
#[must_use]
pub fn label_warning(name: &str) -> Option<String> {
    let entry = LABELS.iter().find(|entry| entry.name == name)?;
    (entry.treatment == Treatment::Ignored)
        .then(|| format!("label {name} has no effect: {}", entry.says.replace('`', "\"")))
}

/// The tables of docs/injection.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for (head, entries) in [("annotation", ANNOTATIONS), ("label", LABELS)] {
        // Writing to text does not fail.
        let _ = writeln!(text, "| {head} | | |\n|---|---|---|");
        for Entry { name, treatment, says } in entries {
            let treatment = match treatment {
                Treatment::Honoured => "honoured",
                Treatment::Ignored => "ignored, with a warning",
                Treatment::Written => "written",
            };
            let _ = writeln!(text, "| `{name}` | {treatment} | {says} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::annotations::{self as names, Sidecar};

    /// A value that acts, and one that is refused with what is accepted, for each annotation that is honoured.
    const SAMPLES: &[(&str, &str, &str, &str)] = &[
        (
            names::INCLUDE_OUTBOUND_IP_RANGES,
            "10.0.0.0/8",
            "10.0.0.1",
            "* or CIDR ranges",
        ),
        (names::EXCLUDE_OUTBOUND_IP_RANGES, "10.0.0.0/8", "*", "CIDR ranges"),
        (names::INCLUDE_OUTBOUND_PORTS, "443", "http", "ports 1 to 65535"),
        (names::EXCLUDE_OUTBOUND_PORTS, "443", "70000", "ports 1 to 65535"),
        (names::INCLUDE_INBOUND_PORTS, "80", "80;81", "* or ports 1 to 65535"),
        (names::EXCLUDE_INBOUND_PORTS, "80", "0", "ports 1 to 65535"),
        (names::EXCLUDE_INTERFACES, "net+", "a b", "names of network interfaces"),
        (
            names::REROUTE_VIRTUAL_INTERFACES,
            "net1",
            "a/b",
            "names of network interfaces",
        ),
        (names::KUBEVIRT_INTERFACES, "net1", "a/b", "names of network interfaces"),
        (
            names::INTERCEPTION_MODE,
            "NONE",
            "TPROXY",
            "REDIRECT or NONE: TPROXY would need",
        ),
        (names::NATIVE_SIDECAR, "false", "yes", "true or false"),
        (names::PROXY_CPU, "1", "many", "a Kubernetes quantity"),
        (names::PROXY_CPU_LIMIT, "1", "many", "a Kubernetes quantity"),
        (names::PROXY_MEMORY, "1Gi", "1GB", "a Kubernetes quantity"),
        (names::PROXY_MEMORY_LIMIT, "1Gi", "1GB", "a Kubernetes quantity"),
        (names::PROXY_IMAGE, "proxy2", "", "an image reference"),
        (names::PROXY_IMAGE_TYPE, "debug", "a b", "default, distroless or"),
        (names::LOG_LEVEL, "debug", "loud", "one of trace"),
        (names::AGENT_LOG_LEVEL, "default:debug", "default:loud", "SCOPE:LEVEL"),
        (names::COMPONENT_LOG_LEVEL, "http:debug", "debug", "COMPONENT:LEVEL"),
        (
            names::USER_VOLUME,
            r#"{"ca": {"configMap": {"name": "ca"}}}"#,
            "[]",
            "JSON such as",
        ),
        (
            names::USER_VOLUME_MOUNT,
            r#"{"ca": {"mountPath": "/ca"}}"#,
            r#"{"ca": {}}"#,
            "JSON such as",
        ),
        (names::REWRITE_APP_HTTP_PROBERS, "false", "no", "true or false"),
        (names::STATUS_PORT, "15099", "15090", "a port from 1 to 65535"),
        (names::READINESS_INITIAL_DELAY, "3", "-1", "a whole number from 0"),
        (names::READINESS_PERIOD, "3", "0", "a whole number from 1"),
        (names::READINESS_FAILURE_THRESHOLD, "3", "0", "a whole number from 1"),
        (names::PROXY_CONFIG, "concurrency: 3", "[", "ProxyConfig as YAML"),
        (names::MERGE_METRICS, "false", "maybe", "true or false"),
        (names::SCRAPE_TARGETS, "8080:/m", "http", "PORT:PATH"),
        (names::PRE_STOP_SLEEP, "5s", "5", "a duration of whole seconds"),
    ];

    fn parse(name: &str, value: &str) -> Result<Sidecar, String> {
        let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Sidecar::parse(&annotations).map_err(|errors| crate::join(&errors))
    }

    #[test]
    fn each_annotation_is_treated_as_the_table_says() {
        for entry in ANNOTATIONS {
            let name = entry.name;
            match (entry.treatment, SAMPLES.iter().find(|sample| sample.0 == name)) {
                (Treatment::Honoured, Some((_, good, bad, accepted))) => {
                    let parsed = parse(name, good).unwrap();
                    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
                    assert_ne!(parsed, Sidecar::default(), "{name} does nothing");
                    let message = parse(name, bad).unwrap_err();
                    assert!(message.starts_with(name), "{message}");
                    assert!(message.contains(&format!("expected {accepted}")), "{message}");
                }
                // Asks for what is done anyway.
                (Treatment::Honoured, None) if name == names::TEMPLATES => {
                    assert_eq!(parse(name, "sidecar"), Ok(Sidecar::default()));
                    for other in ["gateway", "grpc-agent", "sidecar,mine", ""] {
                        assert!(parse(name, other).unwrap_err().starts_with(name), "{other}");
                    }
                }
                // Decided before annotations are parsed.
                (Treatment::Honoured, None) => assert_eq!(name, names::INJECT),
                (Treatment::Written, None) => assert_eq!(parse(name, "x"), Ok(Sidecar::default())),
                (Treatment::Ignored, None) => {
                    let warnings = parse(name, "true").unwrap().warnings;
                    assert_eq!(warnings.len(), 1, "{warnings:?}");
                    assert!(warnings[0].starts_with(&format!("annotation {name} has no effect: ")));
                }
                (treatment, sample) => panic!("{name} is {treatment:?}, with the sample {sample:?}"),
            }
        }
        for sample in SAMPLES {
            assert!(
                ANNOTATIONS.iter().any(|entry| entry.name == sample.0),
                "{} is not in the table",
                sample.0
            );
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        const BEGIN: &str = "<!-- This table is written by `UPDATE=1 cargo test -p mesh-api surface`. -->\n\n";
        const END: &str = "<!-- The end of the table. -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/injection.md");
        let page = fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, format!("{before}{BEGIN}{}{END}{after}", markdown())).unwrap();
            return;
        }
        assert_eq!(table, markdown(), "docs/injection.md differs; write it with UPDATE=1");
    }
}
