use std::time::Duration;

use mesh_core::routing::{
    AbortWith, Action, HttpRoute, Percent, RedirectPort, RedirectUri, Reference, StringMatch, UriRewrite,
};
use serde_json::{Value, json};

use super::*;

fn resource(spec: &Value) -> VirtualService {
    read(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
        "metadata": {"name": "r", "namespace": "ns", "creationTimestamp": "1970-01-01T00:01:00Z"}, "spec": spec
    }))
    .unwrap()
}

fn parsed(spec: &Value) -> Result<routing::VirtualService, String> {
    parse(&resource(spec)).map_err(|errors| crate::join(&errors))
}

/// A resource with one HTTP route that goes to `a`, and these fields beside it.
fn with(fields: Value) -> Value {
    let mut route = json!({"route": [{"destination": {"host": "a"}}]});
    let object = route.as_object_mut().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    json!({"hosts": ["a"], "http": [route]})
}

/// The same without the destination.
fn alone(fields: Value) -> Value {
    json!({"hosts": ["a"], "http": [fields]})
}

fn matching(found: Value) -> Value {
    with(json!({"match": [found]}))
}

fn http(spec: &Value) -> HttpRoute<Reference> {
    parsed(spec).unwrap().http.remove(0).route
}

#[test]
fn every_field_comes_through() {
    let spec = json!({
        "hosts": ["reviews", "*.example.com", "10.0.0.1"], "gateways": ["mesh", "infra/public"], "exportTo": [".", "web"],
        "http": [{
            "name": "first",
            "match": [{
                "name": "m", "uri": {"prefix": "/v1"}, "scheme": {"exact": "http"}, "method": {"regex": "GET|POST"},
                "authority": {"exact": "reviews"}, "headers": {"End-User": {"exact": "jason"}, "x-any": {}},
                "withoutHeaders": {"x-not": {"regex": "*"}, "x-other": {"exact": "o"}}, "queryParams": {"q": {"exact": "1"}, "p": {}},
                "port": 8080, "sourceLabels": {"app": "web"}, "sourceNamespace": "web", "gateways": ["mesh"], "ignoreUriCase": true
            }],
            "route": [
                {"destination": {"host": "reviews", "subset": "v1", "port": {"number": 80}}, "weight": 90},
                {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10,
                 "headers": {"response": {"add": {"x-subset": "v2"}}}}
            ],
            "rewrite": {"uri": "/", "authority": "r.example"}, "timeout": "1.5s",
            "retries": {
                "attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,503,unavailable,409", "retryRemoteLocalities": true,
                "retryIgnorePreviousHosts": false, "backoff": "100ms"
            },
            "fault": {
                "delay": {"fixedDelay": "5s", "percentage": {"value": 0.1}},
                "abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 50}}
            },
            "mirrors": [{"destination": {"host": "copy"}, "percentage": {"value": 0}}, {"destination": {"host": "all"}}],
            "corsPolicy": {
                "allowOrigins": [{"exact": "*"}, {"regex": "https://.*"}], "allowMethods": ["GET", "POST"], "allowHeaders": ["x-a"],
                "exposeHeaders": ["*"], "maxAge": "24h", "allowCredentials": true, "unmatchedPreflights": "IGNORE"
            },
            "headers": {"request": {"set": {"X-A": "1%%"}, "add": {"x-b": "2"}, "remove": ["x-c"]}}
        }],
        "tls": [{
            "match": [{"port": 443, "sniHosts": ["A.example.com"], "destinationSubnets": ["10.0.0.0/8"], "sourceLabels": {"a": "b"}}],
            "route": [{"destination": {"host": "a.example.com"}}]
        }],
        "tcp": [{
            "match": [{"port": 27017, "destinationSubnets": ["10.1.0.1"], "sourceSubnet": "10.2.0.0/16", "sourceNamespace": "n"}],
            "route": [{"destination": {"host": "mongo", "subset": "v1"}, "weight": 1}, {"destination": {"host": "mongo"}, "weight": 3}]
        }]
    });
    let parsed = parsed(&spec).unwrap();
    assert_eq!((&*parsed.namespace, &*parsed.name, parsed.created), ("ns", "r", 60));
    assert_eq!(
        parsed.hosts.iter().map(|host| &**host).collect::<Vec<_>>(),
        ["reviews", "*.example.com", "10.0.0.1"]
    );
    assert_eq!(parsed.gateways.len(), 2);
    assert!(parsed.export_to.own && parsed.export_to.namespaces.contains("web") && !parsed.export_to.public);
    let rule = &parsed.http[0];
    let found = &rule.matches[0];
    assert_eq!(
        (found.client.port, found.client.source_namespace.as_deref()),
        (Some(8080), Some("web"))
    );
    assert_eq!(found.client.source_labels["app"], "web");
    assert_eq!(found.asked.uri, Some(StringMatch::Prefix("/v1".into())));
    assert!(found.asked.ignore_uri_case && found.asked.method.as_ref().unwrap().matches("POST"));
    let names = |list: &[(std::sync::Arc<str>, Option<StringMatch>)]| -> Vec<(String, bool)> {
        list.iter()
            .map(|(name, found)| (name.to_string(), found.is_some()))
            .collect()
    };
    assert_eq!(
        names(&found.asked.headers),
        [("end-user".into(), true), ("x-any".into(), false)]
    );
    assert_eq!(
        names(&found.asked.without_headers),
        [("x-not".into(), false), ("x-other".into(), true)]
    );
    assert_eq!(
        names(&found.asked.query_params),
        [("p".into(), false), ("q".into(), true)]
    );
    let route = &rule.route;
    assert_eq!(
        (&*route.name, route.timeout),
        ("first", Some(Duration::from_millis(1500)))
    );
    let Action::Forward { to, rewrite } = &route.action else {
        panic!()
    };
    assert_eq!(to.iter().map(|to| to.weight).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(
        (to[0].target.subset.as_deref(), to[0].target.port),
        (Some("v1"), Some(80))
    );
    assert_eq!(to[1].headers.response_add[0].1, "v2");
    assert_eq!(rewrite.uri, UriRewrite::Prefix("/".into()));
    assert_eq!(rewrite.authority.as_ref().unwrap(), "r.example");
    let retries = route.retries.as_ref().unwrap();
    assert_eq!(
        (retries.attempts, retries.per_try_timeout),
        (3, Some(Duration::from_secs(2)))
    );
    assert!(retries.on.server_errors && retries.remote_localities && !retries.avoid_previous);
    assert_eq!(
        (&retries.on.statuses[..], &retries.on.grpc[..]),
        (&[409, 503][..], &[14][..])
    );
    assert_eq!(retries.backoff.base, Duration::from_millis(100));
    let delay = route.fault.delay.as_ref().unwrap();
    assert_eq!((delay.fixed, delay.percent), (Duration::from_secs(5), Percent(1000)));
    let abort = route.fault.abort.as_ref().unwrap();
    assert_eq!((abort.with, abort.percent), (AbortWith::Grpc(14), Percent(500_000)));
    assert_eq!(route.mirrors.len(), 1);
    assert_eq!(
        (&*route.mirrors[0].target.host, route.mirrors[0].percent),
        ("all", Percent::ALL)
    );
    let cors = route.cors.as_ref().unwrap();
    assert_eq!(cors.allow_origins[0], StringMatch::Prefix("".into()));
    assert_eq!(cors.allow_methods.as_ref().unwrap(), "GET,POST");
    assert_eq!(cors.max_age.as_ref().unwrap(), "86400");
    assert!(cors.allow_credentials && !cors.forward_unmatched);
    assert_eq!(route.headers.request_set[0].0, "x-a");
    assert_eq!(route.headers.request_set[0].1, "1%");
    assert_eq!(
        (route.headers.request_add.len(), route.headers.request_remove.len()),
        (1, 1)
    );
    assert_eq!(&*parsed.tls[0].matches[0].asked.sni_hosts[0], "a.example.com");
    let tcp = &parsed.tcp[0];
    assert_eq!(tcp.matches[0].asked.destination_subnets[0].to_string(), "10.1.0.1/32");
    assert_eq!(tcp.matches[0].asked.source_subnet.unwrap().to_string(), "10.2.0.0/16");
    assert_eq!(tcp.to.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_host_that_headers_set_is_a_rewrite_of_the_authority() {
    let host = |spec: Value| match http(&spec).action {
        Action::Forward { to, rewrite } => {
            let own = to[0]
                .headers
                .request_set
                .first()
                .map(|(_, value)| value.to_str().unwrap().to_owned());
            (rewrite.authority.map(|value| value.to_str().unwrap().to_owned()), own)
        }
        other => panic!("{other:?}"),
    };
    let of_route = |name: &str| json!({"request": {name: {"Host": "h"}}});
    assert_eq!(
        host(with(json!({"headers": of_route("set")}))),
        (Some("h".into()), None)
    );
    assert_eq!(
        host(with(json!({"headers": of_route("add")}))),
        (Some("h".into()), None)
    );
    let both = |headers: Value| {
        let to = json!({"destination": {"host": "a"}, "headers": {"request": {"set": {":authority": "own"}}}});
        alone(json!({"route": [to], "headers": headers}))
    };
    assert_eq!(host(both(json!({}))), (None, Some("own".into())));
    assert_eq!(host(both(of_route("set"))), (Some("h".into()), None));
    let root = json!({"hosts": ["a"], "http": [{"delegate": {"name": "d"}, "headers": of_route("set")}]});
    let root = parsed(&root).unwrap().http.remove(0);
    assert_eq!(root.delegate, Some(("ns".into(), "d".into())));
    assert_eq!(root.route.headers.request_set[0].0, "host");
}

#[test]
fn defaults_are_istios() {
    let plain = http(&with(json!({})));
    assert_eq!((plain.retries.is_none(), plain.timeout, plain.cors), (true, None, None));
    let retries = |retries: Value| http(&with(json!({"retries": retries}))).retries.unwrap();
    let default = retries(json!({"attempts": 2}));
    assert!(default.on.connect_failure && default.on.refused_stream && default.avoid_previous);
    assert_eq!((&default.on.grpc[..], default.on.statuses.len()), (&[1, 14][..], 0));
    assert!(!default.on.server_errors && !default.on.reset);
    assert_eq!(default.backoff.base, Duration::from_millis(25));
    assert_eq!(retries(json!({})).attempts, 0);
    let fault = |fault: Value| http(&with(json!({"fault": fault}))).fault;
    assert_eq!(
        fault(json!({"delay": {"fixedDelay": "1s"}})).delay.unwrap().percent,
        Percent(0)
    );
    assert_eq!(
        fault(json!({"delay": {"fixedDelay": "1s", "percent": 7}}))
            .delay
            .unwrap()
            .percent,
        Percent(70_000)
    );
    assert_eq!(
        fault(json!({"abort": {"httpStatus": 500}})).abort.unwrap().percent,
        Percent(0)
    );
    assert_eq!(fault(json!({"delay": {"percentage": {"value": 5}}})).delay, None);
    let mirrors = |fields: Value| http(&with(fields)).mirrors.first().map(|mirror| mirror.percent);
    let copy = json!({"host": "b"});
    assert_eq!(mirrors(json!({"mirror": copy})), Some(Percent::ALL));
    assert_eq!(
        mirrors(json!({"mirror": copy, "mirrorPercent": 5})),
        Some(Percent(50_000))
    );
    assert_eq!(mirrors(json!({"mirror": copy, "mirror_percent": 0})), None);
    assert_eq!(mirrors(json!({"mirror": copy, "mirrorPercentage": {}})), None);
    let redirect = |redirect: Value| match http(&alone(json!({"redirect": redirect}))).action {
        Action::Redirect(redirect) => redirect,
        other => panic!("{other:?}"),
    };
    let found = redirect(json!({"uri": "/x"}));
    assert_eq!((found.code, found.port), (301, RedirectPort::Absent));
    let found = redirect(json!({"prefixRewrite": "/x", "derivePort": "FROM_REQUEST_PORT", "redirectCode": 308}));
    assert_eq!((found.code, found.port), (308, RedirectPort::OfRequest));
    assert_eq!(found.uri, Some(RedirectUri::Prefix("/x".into())));
    let direct = |body: Value| match http(&alone(json!({"directResponse": {"status": 418, "body": body}}))).action {
        Action::Direct(direct) => (direct.body, direct.text),
        other => panic!("{other:?}"),
    };
    assert_eq!(direct(json!({"string": "tea"})), ("tea".into(), true));
    assert_eq!(direct(json!({"bytes": "dGVh"})), ("tea".into(), false));
    assert_eq!(direct(json!({"bytes": "__8"})).0.as_ref(), [255, 255]);
    let old = http(&with(json!({"corsPolicy": {"allowOrigin": ["a.example"]}})));
    assert_eq!(
        old.cors.unwrap().allow_origins,
        [StringMatch::Exact("a.example".into())]
    );
}

#[test]
fn what_istio_accepts_parses() {
    let tls = |fields: Value| {
        let mut found = json!({"sniHosts": ["a.com"]});
        found
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"hosts": ["a.com", "*.b.com"], "tls": [{"match": [found], "route": [{"destination": {"host": "a.com"}}]}]})
    };
    for spec in [
        with(json!({})),
        with(json!({"match": [{}]})),
        json!({"http": [{"route": [{"destination": {"host": "a"}}]}]}),
        json!({"hosts": ["*"], "gateways": ["g"], "http": [{"route": [{"destination": {"host": "a"}}]}]}),
        json!({"hosts": ["*.com"], "http": [{"route": [{"destination": {"host": "*.a.com"}}]}]}),
        json!({"hosts": ["a", "b.", "::1"], "gateways": ["my.legacy.gateway"], "http": [{"redirect": {"port": 443}}]}),
        json!({"hosts": ["a"], "http": [{"delegate": {"name": "d", "namespace": "n"}, "timeout": "1s", "rewrite": {"uri": "/"}}]}),
        json!({"hosts": ["a"], "http": [{"delegate": {}, "directResponse": {"status": 200}, "route": []}]}),
        matching(
            json!({"uri": {"prefix": ""}, "headers": {":path": {"exact": ""}, "a,b": {}}, "queryParams": {"": {"exact": "x"}}}),
        ),
        matching(json!({"withoutHeaders": {"x": {"regex": "*"}}, "sourceLabels": {"a.b/c": ""}, "port": 0})),
        json!({"hosts": ["a"], "gateways": ["ns/g"], "http": [{"match": [{"headers": {"@request.auth.claims.group": {"exact": "x"}}}],
            "route": [{"destination": {"host": "a"}}]}]}),
        with(
            json!({"retries": {"attempts": 1, "retryOn": "retriable-headers,http3-post-connect-failure,reset-before-request"}}),
        ),
        with(json!({"retries": {"attempts": 0, "backoff": "1s", "retryIgnorePreviousHosts": true}})),
        with(
            json!({"headers": {"request": {"set": {"x y": "%DOWNSTREAM_REMOTE_ADDRESS%", "a": "", "b": "%REQ(a?b)% %%"}}}}),
        ),
        with(json!({"headers": {"response": {"add": {"a": "%DYNAMIC_METADATA([\"x\", \"y\"])%\té"}}}})),
        with(json!({"fault": {"abort": {}}})),
        with(json!({"fault": {"abort": {"httpStatus": 600}, "delay": {"percentage": {"value": 0.0001}}}})),
        alone(json!({"redirect": {"scheme": "https", "redirectCode": 304, "port": 0}})),
        alone(json!({"match": [{"uri": {"prefix": "/a"}}, {}], "redirect": {"prefixRewrite": "/b"}})),
        alone(json!({"directResponse": {"status": 503, "body": {"string": ""}}})),
        with(json!({"rewrite": {"uriRegexRewrite": {"match": "/a/(.*)", "rewrite": "/\\1"}, "authority": "x y"}})),
        with(json!({"corsPolicy": {"allowOrigins": [], "allowMethods": ["*"], "maxAge": "1m"}})),
        with(json!({"mirror": {"host": "b", "subset": "v1"}, "mirrors": []})),
        tls(
            json!({"sniHosts": ["a.com", "x.b.com", "10.0.0.1"], "destinationSubnets": ["::1/64", "10.0.0.1"], "port": 443}),
        ),
        json!({"hosts": ["a"], "tcp": [{"match": [{"sourceSubnet": "no"}], "route": [{"destination": {"host": "a"}}]}]}),
        json!({"hosts": ["outbound_.80_._.e2e.foobar.mesh"], "gateways": ["g"], "tls": [{
            "match": [{"sniHosts": ["outbound_.80_._.e2e.foobar.mesh"]}], "route": [{"destination": {"host": "a"}}]}]}),
    ] {
        assert!(parsed(&spec).is_ok(), "{spec}: {:?}", parsed(&spec));
    }
    assert!(read(json!({"metadata": {"name": "no-spec"}})).is_ok());
    assert!(read(json!({"spec": {"hosts": 7}})).is_err());
}

#[test]
fn what_istio_refuses_is_refused() {
    let route = json!([{"destination": {"host": "a"}}]);
    let hosts = |hosts: Value| json!({"hosts": hosts, "http": [{"route": route}]});
    let to = |list: Value| alone(json!({"route": list}));
    let tls = |found: Value| json!({"hosts": ["a.com"], "tls": [{"match": [found], "route": route}]});
    let tcp = |found: Value| json!({"hosts": ["a"], "tcp": [{"match": [found], "route": route}]});
    let long = "a".repeat(1025);
    for (spec, field) in [
        (json!({}), "spec: "),
        (json!({"hosts": ["a"]}), "spec: "),
        // Hosts.
        (hosts(json!(["*"])), "spec.hosts[0]"),
        (hosts(json!(["a", ""])), "spec.hosts[1]"),
        (hosts(json!(["a.*.com"])), "spec.hosts[0]"),
        (hosts(json!(["a.com", "*.com"])), "spec.hosts[1]"),
        (hosts(json!(["*.foo.com", "*.com"])), "spec.hosts[1]"),
        (hosts(json!(["a", "b", "a"])), "spec.hosts[2]"),
        (hosts(json!(["a.1"])), "spec.hosts[0]"),
        (
            json!({"hosts": ["a"], "gateways": ["b@gw"], "http": [{"route": route}]}),
            "spec.gateways[0]",
        ),
        (
            json!({"hosts": ["a"], "gateways": ["ns/"], "http": [{"route": route}]}),
            "spec.gateways[0]",
        ),
        (
            json!({"hosts": ["a"], "exportTo": ["~"], "http": [{"route": route}]}),
            "spec.exportTo",
        ),
        (
            json!({"hosts": ["a"], "exportTo": ["*", "b"], "http": [{"route": route}]}),
            "spec.exportTo",
        ),
        (
            json!({"hosts": ["a"], "exportTo": [".", "ns"], "http": [{"route": route}]}),
            "spec.exportTo",
        ),
        // Delegates.
        (json!({"gateways": ["g"], "http": [{"route": route}]}), "spec.gateways"),
        (json!({"tcp": [{"route": route}]}), "spec.tcp"),
        (
            json!({"http": [{"delegate": {"name": "a"}, "route": route}]}),
            "spec.http[0].delegate",
        ),
        (with(json!({"delegate": {"name": "d"}})), "spec.http[0].route"),
        (
            alone(json!({"delegate": {"name": "d"}, "redirect": {"uri": "/"}})),
            "spec.http[0].redirect",
        ),
        // What stands together.
        (alone(json!({})), "spec.http[0]: "),
        (with(json!({"redirect": {"uri": "/"}})), "spec.http[0].route"),
        (with(json!({"directResponse": {"status": 200}})), "spec.http[0].route"),
        (
            alone(json!({"redirect": {"uri": "/"}, "fault": {"abort": {}}})),
            "spec.http[0].fault",
        ),
        (
            alone(json!({"directResponse": {"status": 200}, "rewrite": {"uri": "/"}})),
            "spec.http[0].rewrite",
        ),
        (
            alone(json!({"directResponse": {"status": 200}, "redirect": {"uri": "/"}})),
            "spec.http[0].directResponse",
        ),
        (
            with(json!({"mirror": {"host": "a"}, "mirrors": [{"destination": {"host": "b"}}]})),
            "spec.http[0].mirrors",
        ),
        // Destinations.
        (to(json!([{"weight": 1}])), "spec.http[0].route[0].destination"),
        (
            to(json!([{"destination": {"host": "*"}}])),
            "spec.http[0].route[0].destination.host",
        ),
        (
            to(json!([{"destination": {"host": "a_b"}}])),
            "spec.http[0].route[0].destination.host",
        ),
        (
            to(json!([{"destination": {"host": "a", "subset": "v_1"}}])),
            "spec.http[0].route[0].destination.subset",
        ),
        (
            to(json!([{"destination": {"host": "a", "port": {}}}])),
            "spec.http[0].route[0].destination.port.number",
        ),
        (
            to(json!([{"destination": {"host": "a"}, "weight": -1}])),
            "spec.http[0].route[0].weight",
        ),
        (
            to(json!([{"destination": {"host": "a"}}, {"destination": {"host": "b"}}])),
            "spec.http[0].route",
        ),
        (with(json!({"mirror": {"host": ""}})), "spec.http[0].mirror.host"),
        (with(json!({"mirrors": [{}]})), "spec.http[0].mirrors[0].destination"),
        (with(json!({"mirrorPercent": 101})), "spec.http[0].mirrorPercent"),
        (
            with(json!({"mirrorPercentage": {"value": -1}})),
            "spec.http[0].mirrorPercentage.value",
        ),
        // Matches.
        (
            matching(json!({"method": {"prefix": ""}})),
            "spec.http[0].match[0].method.prefix",
        ),
        (
            matching(json!({"uri": {"regex": ""}})),
            "spec.http[0].match[0].uri.regex",
        ),
        (
            matching(json!({"uri": {"regex": "["}})),
            "spec.http[0].match[0].uri.regex",
        ),
        (
            matching(json!({"uri": {"regex": long}})),
            "spec.http[0].match[0].uri.regex",
        ),
        (
            matching(json!({"uri": {"exact": "a", "prefix": "b"}})),
            "spec.http[0].match[0].uri",
        ),
        (
            matching(json!({"headers": {"a": null}})),
            "spec.http[0].match[0].headers[a]",
        ),
        (
            matching(json!({"headers": {"a b": {}}})),
            "spec.http[0].match[0].headers",
        ),
        (
            matching(json!({"headers": {":a": {}}})),
            "spec.http[0].match[0].headers",
        ),
        (
            matching(json!({"headers": {"a": {"regex": "*"}}})),
            "spec.http[0].match[0].headers[a].regex",
        ),
        (
            matching(json!({"withoutHeaders": {"": {}}})),
            "spec.http[0].match[0].withoutHeaders",
        ),
        (
            matching(json!({"headers": {"@request.auth.claims.a": {"exact": "b"}}})),
            "spec.http[0].match[0].headers",
        ),
        (
            matching(json!({"headers": {"@request.auth.claims": {"exact": "b"}}})),
            "spec.http[0].match[0].headers",
        ),
        (
            matching(json!({"queryParams": {"a": {"regex": "*"}}})),
            "spec.http[0].match[0].queryParams[a].regex",
        ),
        (matching(json!({"port": 65536})), "spec.http[0].match[0].port"),
        (
            matching(json!({"sourceLabels": {"a b": "c"}})),
            "spec.http[0].match[0].sourceLabels",
        ),
        (
            matching(json!({"sourceNamespace": "a_b"})),
            "spec.http[0].match[0].sourceNamespace",
        ),
        (
            matching(json!({"gateways": ["a/b/c"]})),
            "spec.http[0].match[0].gateways[0]",
        ),
        // Headers.
        (
            with(json!({"headers": {"request": {"set": {":path": "x"}}}})),
            "spec.http[0].headers.request.set[:path]",
        ),
        (
            with(json!({"headers": {"request": {"remove": ["Host"]}}})),
            "spec.http[0].headers.request.remove[0]",
        ),
        (
            with(json!({"headers": {"response": {"set": {"host": "x"}}}})),
            "spec.http[0].headers.response.set[host]",
        ),
        (
            with(json!({"headers": {"response": {"add": {"": "x"}}}})),
            "spec.http[0].headers.response.add[]",
        ),
        (
            with(json!({"headers": {"request": {"add": {"a": "50%"}}}})),
            "spec.http[0].headers.request.add[a]",
        ),
        (
            with(json!({"headers": {"request": {"add": {"a": "%REQ(x"}}}})),
            "spec.http[0].headers.request.add[a]",
        ),
        (
            with(json!({"headers": {"request": {"add": {"a": "x\n"}}}})),
            "spec.http[0].headers.request.add[a]",
        ),
        (
            with(json!({"rewrite": {"authority": "a"}, "headers": {"request": {"set": {"host": "b"}}}})),
            "spec.http[0].rewrite",
        ),
        (
            with(json!({"headers": {"request": {"set": {"host": "b", ":authority": "c"}}}})),
            "spec.http[0].rewrite",
        ),
        // Rewrites, redirects, answers.
        (with(json!({"rewrite": {}})), "spec.http[0].rewrite"),
        (
            with(json!({"rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}})),
            "spec.http[0].rewrite",
        ),
        (
            with(json!({"rewrite": {"uriRegexRewrite": {"match": "a"}}})),
            "spec.http[0].rewrite.uriRegexRewrite",
        ),
        (
            with(json!({"rewrite": {"uriRegexRewrite": {"match": "(", "rewrite": "b"}}})),
            "spec.http[0].rewrite.uriRegexRewrite.match",
        ),
        (alone(json!({"redirect": {}})), "spec.http[0].redirect"),
        (
            alone(json!({"redirect": {"uri": "/", "prefixRewrite": "/"}})),
            "spec.http[0].redirect",
        ),
        (
            alone(json!({"redirect": {"uri": "/", "redirectCode": 200}})),
            "spec.http[0].redirect.redirectCode",
        ),
        (
            alone(json!({"redirect": {"scheme": "ftp"}})),
            "spec.http[0].redirect.scheme",
        ),
        (
            alone(json!({"redirect": {"port": 70000}})),
            "spec.http[0].redirect.port",
        ),
        (
            alone(json!({"match": [{"uri": {"exact": "/a"}}], "redirect": {"prefixRewrite": "/b"}})),
            "spec.http[0].redirect.prefixRewrite",
        ),
        (
            alone(json!({"directResponse": {"status": 199}})),
            "spec.http[0].directResponse.status",
        ),
        (
            alone(json!({"directResponse": {"status": 200, "body": {"bytes": "§"}}})),
            "spec.http[0].directResponse.body.bytes",
        ),
        (
            alone(json!({"directResponse": {"status": 200, "body": {"string": "a".repeat(1024 * 1024 + 1)}}})),
            "spec.http[0].directResponse.body",
        ),
        // Timeouts, retries, faults, CORS.
        (with(json!({"timeout": "0s"})), "spec.http[0].timeout"),
        (with(json!({"timeout": "1us"})), "spec.http[0].timeout"),
        (
            with(json!({"retries": {"attempts": -1}})),
            "spec.http[0].retries.attempts",
        ),
        (
            with(json!({"retries": {"perTryTimeout": "1s"}})),
            "spec.http[0].retries.perTryTimeout",
        ),
        (
            with(json!({"retries": {"attempts": 1, "retryOn": "5xx, 503"}})),
            "spec.http[0].retries.retryOn",
        ),
        (
            with(json!({"retries": {"attempts": 1, "retryOn": "306"}})),
            "spec.http[0].retries.retryOn",
        ),
        (
            with(json!({"retries": {"attempts": 1, "backoff": "0s"}})),
            "spec.http[0].retries.backoff",
        ),
        (with(json!({"fault": {}})), "spec.http[0].fault"),
        (
            with(json!({"fault": {"abort": {"httpStatus": 601}}})),
            "spec.http[0].fault.abort.httpStatus",
        ),
        (
            with(json!({"fault": {"abort": {"http2Error": "x"}}})),
            "spec.http[0].fault.abort.http2Error",
        ),
        (
            with(json!({"fault": {"abort": {"grpcStatus": "14"}}})),
            "spec.http[0].fault.abort.grpcStatus",
        ),
        (
            with(json!({"fault": {"delay": {"exponentialDelay": "1s"}}})),
            "spec.http[0].fault.delay.exponentialDelay",
        ),
        (
            with(json!({"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 0.00001}}}})),
            "spec.http[0].fault.delay.percentage.value",
        ),
        (
            with(json!({"corsPolicy": {"allowOrigins": [{}]}})),
            "spec.http[0].corsPolicy.allowOrigins[0]",
        ),
        (
            with(json!({"corsPolicy": {"allowOrigins": [{"prefix": ""}]}})),
            "spec.http[0].corsPolicy.allowOrigins[0]",
        ),
        (
            with(json!({"corsPolicy": {"allowMethods": ["get"]}})),
            "spec.http[0].corsPolicy.allowMethods[0]",
        ),
        (
            with(json!({"corsPolicy": {"allowHeaders": ["a b"]}})),
            "spec.http[0].corsPolicy.allowHeaders[0]",
        ),
        (
            with(json!({"corsPolicy": {"maxAge": "1500ms"}})),
            "spec.http[0].corsPolicy.maxAge",
        ),
        (
            with(json!({"corsPolicy": {"unmatchedPreflights": "DROP"}})),
            "spec.http[0].corsPolicy.unmatchedPreflights",
        ),
        // Connections.
        (
            json!({"hosts": ["a"], "tls": [{"match": [], "route": route}]}),
            "spec.tls[0].match",
        ),
        (
            json!({"hosts": ["a"], "tls": [{"match": [{"sniHosts": ["a"]}]}]}),
            "spec.tls[0].route",
        ),
        (tls(json!({"sniHosts": []})), "spec.tls[0].match[0].sniHosts"),
        (tls(json!({"sniHosts": ["b.com"]})), "spec.tls[0].match[0].sniHosts[0]"),
        (
            tls(json!({"sniHosts": ["*.a.com"]})),
            "spec.tls[0].match[0].sniHosts[0]",
        ),
        (
            tls(json!({"sniHosts": ["a.com"], "destinationSubnets": ["10.0.0.0/33"]})),
            "spec.tls[0].match[0].destinationSubnets[0]",
        ),
        (
            tcp(json!({"destinationSubnets": ["a"]})),
            "spec.tcp[0].match[0].destinationSubnets[0]",
        ),
        (tcp(json!({"port": -1})), "spec.tcp[0].match[0].port"),
        (json!({"hosts": ["a"], "tcp": [{}]}), "spec.tcp[0].route"),
    ] {
        let Err(refused) = parsed(&spec) else {
            panic!("accepted: {spec}")
        };
        assert!(refused.starts_with(field), "{field}: {refused}");
    }
}

#[test]
fn warns_as_istio_does_and_of_what_has_no_effect() {
    let to = json!([{"destination": {"host": "a"}}]);
    let routes = |list: Value| {
        let routes: Vec<Value> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|matches| json!({"match": matches, "route": to}))
            .collect();
        json!({"hosts": ["a"], "http": routes})
    };
    let prefix = |prefix: &str| json!({"uri": {"prefix": prefix}});
    for (spec, expected) in [
        (with(json!({})), &[][..]),
        (routes(json!([[prefix("/a")], [prefix("/b")], []])), &[]),
        (
            routes(json!([[], [prefix("/a")]])),
            &["spec.http[1] is never reached: spec.http[0] comes before it"],
        ),
        (routes(json!([[], []])), &["spec.http[1] is never reached"]),
        (
            routes(json!([[prefix("/a")], [{"name": "n", "uri": {"prefix": "/a"}}]])),
            &[
                "spec.http[1]: match[0] \"n\" is never reached: spec.http[0] has the same match",
                "spec.http[1] is never reached: routes before",
            ],
        ),
        (
            routes(json!([[prefix("/a")], [prefix("/ab")]])),
            &["spec.http[1]: match[0] of prefix /ab is never reached: match[0] of spec.http[0] has the prefix /a"],
        ),
        (routes(json!([[prefix("/ab")], [prefix("/a")]])), &[]),
        (
            routes(json!([[{"uri": {"prefix": "/a"}, "port": 80}], [prefix("/ab")]])),
            &[],
        ),
        (
            routes(json!([[{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}}], [prefix("/ab")]])),
            &[],
        ),
        (
            json!({"hosts": ["a"], "tcp": [{"match": [{"port": 1}], "route": to}, {"match": [{"port": 1}], "route": to}]}),
            &["spec.tcp[1]: match[0] is never reached", "spec.tcp[1] is never reached"],
        ),
        (
            json!({"hosts": ["10.0.0.1"], "tls": [{"match": [{"sniHosts": ["10.0.0.1"]}], "route": to}]}),
            &["spec.tls[0].match[0].sniHosts[0]: 10.0.0.1 is an address"],
        ),
        (
            with(json!({"mirror": {"host": "b"}, "mirrorPercent": 1})),
            &["spec.http[0].mirrorPercent is deprecated"],
        ),
        (
            with(json!({"fault": {"abort": {}}})),
            &["spec.http[0].fault.abort says no httpStatus"],
        ),
        (
            alone(json!({"directResponse": {"status": 200, "body": {"string": "a".repeat(100 * 1024 + 1)}}})),
            &["spec.http[0].directResponse.body has 102401 bytes"],
        ),
        (
            json!({"hosts": ["a"], "gateways": ["g.ns.svc", "mesh"], "http": [{"route": to}]}),
            &[
                "spec.gateways[0]: \"g.ns.svc\" is the old form of a gateway's name; ns/g",
                "accepted, and without effect in this version: spec.gateways[0]",
            ],
        ),
        (
            json!({"hosts": ["a"], "gateways": ["ns/g"], "http": [{"route": to}]}),
            &["accepted, and without effect in this version: spec (it is for gateways alone)"],
        ),
        (
            with(json!({
                "match": [{"statPrefix": "s", "gateways": ["ns/g"]}], "retries": {"attempts": 1, "retryOn": "5xx,retriable-headers"},
                "headers": {"request": {"set": {"x": "%PROTOCOL%"}}}
            })),
            &[
                "accepted, and without effect in this version: spec.http[0].match[0].statPrefix, spec.http[0].match[0] (it is for \
               gateways alone), spec.http[0].retries.retryOn (retriable-headers, http3-post-connect-failure), \
               spec.http[0].headers.request.set[x] (its %COMMAND%)",
            ],
        ),
    ] {
        let resource = resource(&spec);
        assert!(parse(&resource).is_ok(), "{spec}");
        let warnings = warnings(&resource);
        assert_eq!(warnings.len(), expected.len(), "{spec}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(expected), "{expected}: {warning}");
        }
    }
}
