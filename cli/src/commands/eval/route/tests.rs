use serde_json::{Value, json};

use super::*;

const PLACES: Places<'_> = Places {
    namespace: "default",
    system: "istio-system",
};

/// `reviews` with the versions 1 and 2, a slice without endpoints for `empty`, and what else is given.
fn mesh(more: &str) -> Mesh {
    let text = format!(
        r"apiVersion: v1
kind: Service
metadata: {{name: reviews, namespace: shop}}
spec: {{selector: {{app: reviews}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: ratings, namespace: shop}}
spec: {{ports: [{{name: http, port: 9080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: db, namespace: shop}}
spec: {{selector: {{app: reviews}}, ports: [{{name: tcp, port: 5432}}, {{name: tls, port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: ratings-1, namespace: shop, labels: {{kubernetes.io/service-name: ratings}}}}
endpoints: [{{addresses: [10.0.0.9]}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: v1, namespace: shop}}
spec: {{template: {{metadata: {{labels: {{app: reviews, version: v1}}}}, spec: {{containers: []}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: v2, namespace: shop, labels: {{app: reviews, version: v2}}}}
spec: {{containers: []}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: shop}}
spec: {{host: reviews, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}, {{name: v3, labels: {{version: v3}}}}]}}
---
{more}"
    );
    let mut documents = Vec::new();
    files::split(&text, "test", &mut documents);
    Mesh::read(documents, PLACES).unwrap_or_else(|error| panic!("{error:?}"))
}

fn virtual_service(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  {}\n---\n",
        spec.trim().replace('\n', "\n  ")
    )
}

fn ask(mesh: &Mesh, request: &Value) -> Value {
    let mut line = json!({"source": {"namespace": "shop"}, "host": "reviews"});
    for (key, value) in request.as_object().unwrap() {
        line[key] = value.clone();
    }
    serde_json::to_value(mesh.answer(&line.to_string(), "default").unwrap()).unwrap()
}

/// The fields of an answer that are asked for.
fn told(mesh: &Mesh, request: Value, fields: &[&str]) -> Value {
    let answer = ask(mesh, &request);
    fields.iter().map(|field| answer[*field].clone()).collect()
}

#[test]
fn without_a_virtual_service_it_goes_where_it_was_sent() {
    let mesh = mesh("");
    let fields = ["id", "status", "destination", "subset", "port", "path", "host", "route"];
    assert_eq!(
        told(&mesh, json!({"id": 7, "path": "/a?b"}), &fields),
        json!([
            7,
            null,
            "reviews.shop.svc.cluster.local",
            null,
            80,
            "/a?b",
            "reviews",
            null
        ])
    );
    let whom = ["status", "destination"];
    for (request, expected) in [
        (
            json!({"host": "reviews.shop:80"}),
            json!([null, "reviews.shop.svc.cluster.local"]),
        ),
        (json!({"host": "reviews", "port": 81}), json!([null, PASSTHROUGH])),
        (json!({"source": {"namespace": "web"}}), json!([null, PASSTHROUGH])),
        (json!({"host": "example.com"}), json!([null, PASSTHROUGH])),
        (
            json!({"host": "ratings", "port": 9080}),
            json!([null, "ratings.shop.svc.cluster.local"]),
        ),
    ] {
        assert_eq!(told(&mesh, request.clone(), &whom), expected, "{request}");
    }
    assert_eq!(ask(&mesh, &json!({}))["retries"]["attempts"], 2);
}

#[test]
fn routes_say_everything_of_a_request() {
    let mesh = mesh(&virtual_service(
        r"
hosts: [reviews]
http:
- name: canary
  match: [{uri: {prefix: /api}, headers: {x-user: {exact: jason}}, sourceLabels: {app: web}}]
  rewrite: {uri: /v2, authority: other.example}
  timeout: 1500ms
  retries: {attempts: 3, perTryTimeout: 250ms, retryOn: '5xx,503,unavailable'}
  headers: {request: {set: {x-a: b}, remove: [x-user]}}
  mirrors: [{destination: {host: ratings}, percentage: {value: 12.5}}]
  fault: {delay: {fixedDelay: 2s, percentage: {value: 10}}}
  route: [{destination: {host: reviews, subset: v2}}]
- route:
  - {destination: {host: reviews, subset: v1}, weight: 90}
  - {destination: {host: reviews, subset: v2}, weight: 10}
",
    ));
    let request = json!({
        "source": {"namespace": "shop", "labels": {"app": "web"}}, "path": "/api/x?y", "headers": {"x-user": "jason"}
    });
    assert_eq!(
        ask(&mesh, &request),
        json!({
            "id": null, "status": null, "destination": "reviews.shop.svc.cluster.local", "subset": "v2", "port": 80,
            "weights": [{"destination": "reviews.shop.svc.cluster.local", "subset": "v2", "port": 80, "weight": 100}],
            "path": "/v2/x?y", "host": "other.example",
            "headers_added": {"x-a": "b"}, "headers_removed": ["x-user"],
            "timeout": "1.5s",
            "retries": {"attempts": 3, "retry_on": "5xx,unavailable,503", "per_try_timeout": "0.25s"},
            "fault": {"delay": {"delay": "2s", "percent": 10.0}, "abort": null},
            "mirrors": [{"destination": "ratings.shop.svc.cluster.local", "subset": null, "port": 9080, "percent": 12.5}],
            "redirect": null, "route": "canary", "virtual_services": ["shop/reviews"],
        })
    );
    let weights = |request: Value| -> Vec<(String, u64)> {
        let answer = ask(&mesh, &request);
        let of = |it: &Value| {
            (
                it["subset"].as_str().unwrap().to_owned(),
                it["weight"].as_u64().unwrap(),
            )
        };
        answer["weights"].as_array().unwrap().iter().map(of).collect()
    };
    let rest = [("v1".to_owned(), 90), ("v2".to_owned(), 10)];
    assert_eq!(weights(json!({"path": "/api"})), rest);
    assert_eq!(
        told(&mesh, json!({}), &["subset", "route", "timeout", "fault"]),
        json!(["v1", null, null, null])
    );
}

#[test]
fn what_the_sidecar_answers_itself() {
    let mesh = mesh(&virtual_service(
        r"
hosts: [reviews]
http:
- match: [{uri: {prefix: /old}}]
  redirect: {uri: /new, redirectCode: 308, authority: books.example}
- match: [{uri: {exact: /teapot}}]
  directResponse: {status: 418}
- match: [{uri: {exact: /broken}}]
  fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
  route: [{destination: {host: reviews}}]
- match: [{uri: {exact: /sometimes}}]
  fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
  route: [{destination: {host: reviews}}]
- match: [{uri: {exact: /nobody}}]
  route: [{destination: {host: reviews, subset: v3}}]
- match: [{uri: {exact: /unknown}}]
  route: [{destination: {host: reviews, subset: v9}}]
- match: [{uri: {exact: /nowhere}}]
  route: [{destination: {host: elsewhere}}]
- match: [{uri: {exact: /cors}}]
  corsPolicy: {allowOrigins: [{exact: https://books.example}]}
  route: [{destination: {host: reviews}}]
",
    ));
    for (path, expected) in [
        ("/old/x", json!([308, null, "http://books.example/new"])),
        ("/teapot", json!([418, null, null])),
        ("/broken", json!([555, "reviews.shop.svc.cluster.local", null])),
        ("/sometimes", json!([null, "reviews.shop.svc.cluster.local", null])),
        ("/nobody", json!([503, "reviews.shop.svc.cluster.local", null])),
        ("/unknown", json!([503, "reviews.shop.svc.cluster.local", null])),
        ("/nowhere", json!([503, "elsewhere.shop.svc.cluster.local", null])),
        ("/other", json!([404, null, null])),
    ] {
        let found = told(&mesh, json!({"path": path}), &["status", "destination", "redirect"]);
        assert_eq!(found, expected, "{path}");
    }
    let preflight = json!({
        "path": "/cors", "method": "OPTIONS",
        "headers": {"origin": "https://books.example", "access-control-request-method": "GET"}
    });
    assert_eq!(told(&mesh, preflight, &["status", "destination"]), json!([200, null]));
    let fault = ask(&mesh, &json!({"path": "/sometimes"}))["fault"].clone();
    assert_eq!(fault["abort"], json!({"grpc_status": 14, "percent": 1.0}));
}

#[test]
fn a_sidecar_resource_hides_and_refuses() {
    let mesh = mesh(
        r"apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: web}
spec: {egress: [{hosts: ['shop/reviews.shop.svc.cluster.local']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
",
    );
    let from = |namespace: &str, host: &str, port: u16| {
        let request = json!({"source": {"namespace": namespace}, "host": host, "port": port});
        told(&mesh, request, &["status", "destination"])
    };
    assert_eq!(
        from("web", "reviews.shop", 80),
        json!([null, "reviews.shop.svc.cluster.local"])
    );
    assert_eq!(from("web", "ratings.shop", 9080), json!([502, BLACK_HOLE]));
    assert_eq!(from("web", "example.com", 80), json!([502, BLACK_HOLE]));
    assert_eq!(from("shop", "example.com", 80), json!([null, PASSTHROUGH]));
}

#[test]
fn a_line_that_says_too_little_or_nonsense_is_an_error() {
    let mesh = mesh("");
    for (line, expected) in [
        ("{}", "host: none is given"),
        (
            r#"{"host": "a", "headers": {"a b": "c"}}"#,
            "headers[a b]: invalid HTTP header name",
        ),
        ("[", "EOF while parsing"),
    ] {
        let error = mesh.answer(line, "default").err().unwrap();
        assert!(error.starts_with(expected), "{error}");
    }
}
