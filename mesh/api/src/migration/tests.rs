use super::*;

/// `LEVEL FIELD` of each finding.
fn said(manifest: &str) -> Vec<String> {
    let object: Value = serde_yaml::from_str(manifest).unwrap();
    let found = findings(&object, "istio-system");
    for finding in &found {
        assert!(!finding.what.is_empty() && !finding.todo.is_empty(), "{finding:?}");
        assert_eq!(finding.kind, object["kind"].as_str().unwrap());
    }
    found
        .iter()
        .map(|finding| format!("{:?} {}", finding.level, finding.field))
        .collect()
}

fn todo(manifest: &str) -> String {
    let object: Value = serde_yaml::from_str(manifest).unwrap();
    findings(&object, "istio-system").remove(0).todo
}

/// Manifests as Istio's users have them, those of its documentation among them.
#[test]
fn what_istios_users_have_is_told() {
    for (manifest, expected) in [
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n\
             spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}",
            &[][..],
        ),
        (
            "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {name: bookinfo}\n\
             spec: {hosts: ['*'], gateways: [bookinfo-gateway], http: [{match: [{uri: {exact: /productpage}}], \
             route: [{destination: {host: productpage, port: {number: 9080}}}]}]}",
            &["Unsupported spec (it is for gateways alone)"],
        ),
        (
            "apiVersion: networking.istio.io/v1alpha2\nkind: VirtualService\nmetadata: {name: old}\n\
             spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retry: {}, timeout: 0s}]}",
            &[
                "Refused apiVersion",
                "Unsupported spec.http[0].retry",
                "Refused spec.http[0].timeout",
            ],
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: tcp}\n\
             spec: {hosts: [a], http: [{redirect: {uri: /b, redirectCode: 304}}], \
             tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: a}}]}]}",
            &[
                "Differs spec.http[0].redirect.redirectCode",
                "Differs spec.tcp[0].match[0].sourceSubnet",
            ],
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: out}\n\
             spec: {host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE, sni: b.example.com}, \
             portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: c}}]}}",
            &[
                "Differs spec.trafficPolicy.tls.sni",
                "Differs spec.trafficPolicy.portLevelSettings[0].tls.credentialName",
            ],
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
             spec: {ingress: [{port: {number: 9080, protocol: HTTP}, defaultEndpoint: '127.0.0.1:9080'}]}",
            &["Unsupported spec.ingress"],
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: gateway}\n\
             spec: {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}], action: DENY, rules: [{}]}",
            &["Unsupported spec.targetRefs"],
        ),
        (
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: rate, namespace: istio-system}\n\
             spec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND}, patch: {operation: INSERT_BEFORE, \
             value: {name: envoy.filters.http.local_ratelimit}}}, {applyTo: CLUSTER, patch: {operation: MERGE, value: {}}}]}",
            &["Unsupported spec.configPatches[0]", "Unsupported spec.configPatches[1]"],
        ),
        (
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: w}\nspec: {url: oci://a}",
            &["Unsupported "],
        ),
        (
            "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: w}\nspec: {}",
            &["Unsupported "],
        ),
        (
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: mesh-default}\n\
             spec: {accessLogging: [{providers: [{name: envoy}]}], tracing: [{randomSamplingPercentage: 1}]}",
            &["Unsupported spec.accessLogging", "Unsupported spec.tracing"],
        ),
        (
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {name: p}\nspec: {concurrency: 0, image: {imageType: debug}}",
            &["Unsupported spec.concurrency", "Unsupported spec.image"],
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {servers: []}",
            &["Unsupported "],
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: g}\nspec: {template: {}}",
            &["Unsupported "],
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {}",
            &["Unsupported "],
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, annotations: {kubernetes.io/ingress.class: istio}}\nspec: {}",
            &["Unsupported metadata.annotations[kubernetes.io/ingress.class]"],
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec: {ingressClassName: nginx}",
            &[],
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
             data: {mesh: 'enableTracing: true', meshNetworks: 'networks: {}'}",
            &["Unsupported enableTracing"],
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-canary}\n\
             data: {mesh: 'enableAutoMtls: 3', meshNetworks: 'networks: {n1: {}}'}",
            &["Refused enableAutoMtls", "Unsupported meshNetworks"],
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {mesh: 'a: b'}",
            &[],
        ),
        (
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: i}\n\
             spec: {profile: default, meshConfig: {accessLogFile: /dev/stdout, discoverySelectors: [{matchLabels: {a: b}}]}}",
            &["Unsupported ", "Unsupported spec.meshConfig.discoverySelectors"],
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {labels: {networking.istio.io/tunnel: http}, \
             annotations: {sidecar.istio.io/statsInclusionPrefixes: a, sidecar.istio.io/interceptionMode: TPROXY, other: x, \
             sidecar.istio.io/proxyCPU: 100m}}}}",
            &[
                "Refused spec.template.metadata.annotations[sidecar.istio.io/interceptionMode]",
                "Unsupported spec.template.metadata.annotations[sidecar.istio.io/statsInclusionPrefixes]",
                "Unsupported spec.template.metadata.labels[networking.istio.io/tunnel]",
            ],
        ),
        (
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {metadata: {annotations: \
             {inject.istio.io/templates: gateway}}}}}}",
            &["Refused spec.jobTemplate.spec.template.metadata.annotations[inject.istio.io/templates]"],
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: none}}",
            &["Unsupported metadata.labels[istio.io/dataplane-mode]"],
        ),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {}", &[]),
        ("kind: Unknown", &[]),
    ] {
        assert_eq!(said(manifest), expected, "{manifest}");
    }
}

#[test]
fn says_what_does_the_same_here() {
    let filter = |place: &str, value: &str| {
        format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f}}\n\
             spec: {{configPatches: [{{applyTo: {place}, patch: {{value: {value}}}}}]}}"
        )
    };
    for (manifest, part) in [
        (filter("HTTP_FILTER", "{name: envoy.filters.http.ext_authz}"), "action CUSTOM"),
        (filter("HTTP_FILTER", "{name: envoy.filters.http.lua}"), "VirtualService"),
        (filter("CLUSTER", "{circuit_breakers: {}}"), "connectionPool"),
        (filter("CLUSTER", "{dns_lookup_family: V4_ONLY}"), "DestinationRule"),
        (filter("HTTP_ROUTE", "{}"), "VirtualService"),
        (filter("NETWORK_FILTER", "{typed_config: {access_log: []}}"), "accessLogFile"),
        (filter("LISTENER", "{}"), "see what it was for"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [a], http: [{route: \
             [{destination: {host: a}}], headers: {request: {set: {x: '%PROTOCOL%'}}}}]}"
                .to_owned(),
            "x-forwarded-for",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}".to_owned(),
            "keep the gateway",
        ),
    ] {
        assert!(todo(&manifest).contains(part), "{manifest}: {}", todo(&manifest));
    }
}
