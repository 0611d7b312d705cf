//! VirtualServices and Sidecars as their authors meet them at the API server: taken in every version, warned of, or refused with
//! field and reason. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::cluster::{Cluster, Namespace};

fn resource(version: &str, kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("networking.istio.io/{version}"), "kind": kind, "metadata": {"name": "r"}, "spec": spec
    })
}

/// Each field of HTTP routes once.
fn routes() -> Value {
    json!({
        "hosts": ["reviews", "*.example.com"], "gateways": ["mesh"], "exportTo": ["."],
        "http": [
            {
                "name": "all",
                "match": [{
                    "name": "m", "uri": {"prefix": "/v1"}, "scheme": {"exact": "http"}, "method": {"regex": "GET|POST"},
                    "authority": {"prefix": "reviews"}, "headers": {"end-user": {"exact": "jason"}, "x": {}},
                    "withoutHeaders": {"y": {}}, "queryParams": {"q": {"regex": "[0-9]+"}}, "port": 80,
                    "sourceLabels": {"app": "web"}, "sourceNamespace": "shop", "ignoreUriCase": true, "gateways": ["mesh"]
                }],
                "route": [
                    {"destination": {"host": "reviews", "subset": "v1", "port": {"number": 80}}, "weight": 90},
                    {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10, "headers": {"response": {"remove": ["x"]}}}
                ],
                "rewrite": {"uriRegexRewrite": {"match": "/v1/(.*)", "rewrite": "/\\1"}, "authority": "reviews.example.com"},
                "timeout": "5s", "mirror": {"host": "copy"}, "mirrorPercentage": {"value": 0.5},
                "retries": {
                    "attempts": 2, "perTryTimeout": "1s", "retryOn": "5xx,503", "retryRemoteLocalities": true,
                    "retryIgnorePreviousHosts": null, "backoff": "50ms"
                },
                "fault": {
                    "delay": {"fixedDelay": "1s", "percentage": {"value": 1}},
                    "abort": {"httpStatus": 503, "percentage": {"value": 1}}
                },
                "corsPolicy": {"allowOrigins": [{"exact": "https://a"}], "maxAge": "1h", "allowCredentials": false},
                "headers": {"request": {"set": {"a": "b"}, "add": {"c": "d"}, "remove": ["e"]}}
            },
            {"match": [{"uri": {"exact": "/old"}}], "redirect": {"uri": "/new", "redirectCode": 302, "derivePort": "FROM_REQUEST_PORT"}},
            {"match": [{"uri": {"exact": "/tea"}}], "directResponse": {"status": 418, "body": {"string": "tea"}}},
            {"match": [{"uri": {"prefix": "/shop"}}], "delegate": {"name": "shop", "namespace": "shop"}},
            {"route": [{"destination": {"host": "reviews"}}], "mirrors": [{"destination": {"host": "copy"}}]}
        ],
        "tls": [{"match": [{"sniHosts": ["a.example.com"], "port": 443}], "route": [{"destination": {"host": "a.example.com"}}]}],
        "tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/8"], "port": 27017}], "route": [{"destination": {"host": "mongo"}}]}]
    })
}

#[test]
fn every_version_is_taken_and_keeps_every_field() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("routes");
    let scope = json!({
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [{"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["./*", "~*/a.example.com"]}, {"hosts": ["*/*"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}
    });
    for version in ["v1", "v1beta1", "v1alpha3"] {
        for (kind, spec) in [("VirtualService", routes()), ("Sidecar", scope.clone())] {
            let taken = namespace.would_create(&resource(version, kind, &spec)).expect(version);
            assert_eq!(taken["spec"], spec, "{version} {kind}");
        }
    }
}

#[test]
fn a_bad_one_is_refused_with_field_and_reason() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("routes");
    let to = json!([{"destination": {"host": "reviews"}}]);
    let route = |fields: Value| {
        let mut route = json!({"route": to});
        route
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"hosts": ["reviews"], "http": [route]})
    };
    for (kind, spec, words) in [
        (
            "VirtualService",
            json!({"hosts": ["*"], "http": [{"route": to}]}),
            &["validation.pinnace.dev", "spec.hosts[0]", "for gateways alone"][..],
        ),
        (
            "VirtualService",
            route(json!({"timeout": "0s"})),
            &["spec.http[0].timeout", "1ms"],
        ),
        (
            "VirtualService",
            route(json!({"retries": {"attempts": 1, "retryOn": "always"}})),
            &["spec.http[0].retries.retryOn", "always"],
        ),
        (
            "VirtualService",
            route(json!({"match": [{"uri": {"exact": "/", "prefix": "/"}}]})),
            &["spec.http[0].match[0].uri"],
        ),
        (
            "VirtualService",
            route(json!({"match": [{"uri": {"regex": "["}}]})),
            &["spec.http[0].match[0].uri.regex", "missing closing ]"],
        ),
        (
            "VirtualService",
            route(json!({"route": [{"weight": 1}]})),
            &["spec.http[0].route[0].destination"],
        ),
        (
            "Sidecar",
            json!({"egress": [{"hosts": ["reviews"]}]}),
            &["spec.egress[0].hosts[0]", "NAMESPACE/HOST"],
        ),
        ("Sidecar", json!({}), &["spec", "at least one of egress"]),
        (
            "Sidecar",
            json!({"outboundTrafficPolicy": {"mode": "SOME"}}),
            &["outboundTrafficPolicy.mode", "SOME"],
        ),
    ] {
        let refusal = namespace
            .would_create(&resource("v1", kind, &spec))
            .expect_err("accepted");
        for word in words {
            assert!(refusal.contains(word), "{spec}: no {word:?} in: {refusal}");
        }
    }
}
