//! `extensionProviders`: who may be asked about a request (AuthorizationPolicy's action CUSTOM), and providers of telemetry.

use std::collections::BTreeSet;

use http::header::{HeaderName, HeaderValue};
use mesh_core::ext_authz::{
    Body, DEFAULT_STATUS_ON_ERROR, DEFAULT_TIMEOUT, Http, NameMatch, Protocol, Provider, Settings,
};
use mesh_core::hosts::{candidates, fqdn};

use super::fields::Fields;
use crate::duration;

/// The most providers.
const MOST: usize = 1024;

const NAMES: &str = "a header's name, or the beginning or end of one with a * after or before it";

/// An entry of `extensionProviders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// `name`, which policies refer to.
    pub name: String,
    /// Where and how it is asked about requests; `None` for a provider of something else.
    pub authorizer: Option<Authorizer>,
}

/// `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// `service`: a host, or `NAMESPACE/HOST`.
    pub service: String,
    /// `port`.
    pub port: u16,
    /// The other fields.
    pub settings: Settings,
}

impl ExtensionProvider {
    /// The authorizer with its Service's full name. Short names are those of the root namespace.
    ///
    /// # Errors
    /// Why it cannot be asked: it is a provider of something else, or its host is no Kubernetes Service's.
    pub fn provider(&self, root_namespace: &str, cluster_domain: &str) -> Result<Provider, String> {
        let authorizer = self
            .authorizer
            .as_ref()
            .ok_or("it is neither envoyExtAuthzGrpc nor envoyExtAuthzHttp")?;
        Ok(Provider {
            host: authorizer.host(root_namespace, cluster_domain)?,
            port: authorizer.port,
            settings: authorizer.settings.clone(),
        })
    }
}

impl Authorizer {
    fn host(&self, root_namespace: &str, cluster_domain: &str) -> Result<String, String> {
        let (namespace, host) = match self.service.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, self.service.as_str()),
        };
        let meant = candidates(host, namespace.unwrap_or(root_namespace), cluster_domain);
        let Some(found) = meant.into_iter().find(|candidate| candidate.pod.is_none()) else {
            return Err(format!(
                "service {:?} is not the host of a Kubernetes Service (NAME.NAMESPACE.svc.{cluster_domain}); hosts of \
                 ServiceEntries are not supported in this version",
                self.service
            ));
        };
        match namespace {
            Some(namespace) if namespace != found.namespace => Err(format!(
                "service {:?} names a host of namespace {}",
                self.service, found.namespace
            )),
            _ => Ok(fqdn(&found.service, &found.namespace, cluster_domain)),
        }
    }
}

/// Takes the providers out of the configuration. What is not of authorizers is left over.
pub(super) fn take(fields: &mut Fields) -> Vec<ExtensionProvider> {
    let list = fields.value("extensionProviders", "a list of at most 1024 providers", |value| {
        value.as_array().filter(|items| items.len() <= MOST).cloned()
    });
    let mut taken = Vec::new();
    let mut names = BTreeSet::new();
    for (at, item) in list.unwrap_or_default().into_iter().enumerate() {
        let at = format!("extensionProviders[{at}]");
        if let Some(mut entry) = fields.opened(&at, item) {
            taken.extend(provider(&mut entry, &mut names));
            fields.end(entry);
        }
    }
    taken
}

fn provider(entry: &mut Fields, names: &mut BTreeSet<String>) -> Option<ExtensionProvider> {
    let name = entry.required("name", "a name that no other provider has", |value| {
        let name = value.as_str().filter(|name| !name.is_empty())?;
        names.insert(name.to_owned()).then(|| name.to_owned())
    });
    let mut authorizer = None;
    if let Some(mut inner) = entry.object("envoyExtAuthzHttp") {
        let protocol = Protocol::Http(Box::new(http(&mut inner)));
        authorizer = take_authorizer(&mut inner, protocol);
        entry.end(inner);
        if let Some(other) = entry.object("envoyExtAuthzGrpc") {
            entry.refuse(
                "envoyExtAuthzGrpc",
                "",
                "one of envoyExtAuthzHttp and envoyExtAuthzGrpc",
            );
            entry.end(other);
        }
    } else if let Some(mut inner) = entry.object("envoyExtAuthzGrpc") {
        authorizer = take_authorizer(&mut inner, Protocol::Grpc);
        entry.end(inner);
    }
    name.map(|name| ExtensionProvider { name, authorizer })
}

/// What both kinds have.
fn take_authorizer(fields: &mut Fields, protocol: Protocol) -> Option<Authorizer> {
    let service = fields.required("service", "the host of a Service, or NAMESPACE/HOST", |value| {
        value.as_str().filter(|host| is_service(host)).map(str::to_owned)
    });
    let port = fields.required("port", "a port from 1 to 65535", |value| {
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|port| *port > 0)
    });
    let timeout = fields.parsed("timeout", duration::WHOLE_MILLISECONDS, duration::whole_milliseconds);
    let fail_open = fields.boolean("failOpen");
    let status = fields.number("statusOnError", "an HTTP status from 200 to 599", |number| {
        u16::try_from(number).ok().filter(|status| (200..600).contains(status))
    });
    // The route of a request to its own workload does not depend on its headers.
    fields.ignore("clearRouteCache", "true or false", serde_json::Value::is_boolean);
    let mut body = None;
    if let Some(mut inner) = fields.object("includeRequestBodyInCheck") {
        let most = inner.required("maxRequestBytes", "a number of bytes from 1 to 4294967295", |value| {
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            u32::try_from(number).ok().filter(|most| *most > 0)
        });
        body = most.map(|most| Body {
            most,
            partial: inner.boolean("allowPartialMessage").unwrap_or_default(),
            as_bytes: inner.boolean("packAsBytes").unwrap_or_default(),
        });
        fields.end(inner);
    }
    Some(Authorizer {
        service: service?,
        port: port?,
        settings: Settings {
            protocol,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            fail_open: fail_open.unwrap_or_default(),
            status_on_error: status.unwrap_or(DEFAULT_STATUS_ON_ERROR),
            body,
        },
    })
}

fn http(fields: &mut Fields) -> Http {
    let prefix = fields.parsed("pathPrefix", "a path, which begins with / and has no query", |text| {
        let good = text.is_empty() || (text.starts_with('/') && is_path(text));
        good.then(|| text.to_owned())
    });
    let accepted = "headers' names with their values";
    let additional = fields.value("includeAdditionalHeadersInCheck", accepted, |value| {
        let entries = value.as_object()?.iter();
        entries
            .map(|(name, value)| {
                Some((
                    name.parse::<HeaderName>().ok()?,
                    HeaderValue::from_str(value.as_str()?).ok()?,
                ))
            })
            .collect::<Option<Vec<_>>>()
    });
    let mut names = |field| fields.list(field, NAMES, NameMatch::parse);
    let (listed, deprecated) = (names("includeRequestHeadersInCheck"), names("includeHeadersInCheck"));
    Http {
        path_prefix: prefix.unwrap_or_default(),
        request_headers: if listed.is_empty() { deprecated } else { listed },
        to_upstream_on_allow: names("headersToUpstreamOnAllow"),
        to_downstream_on_allow: names("headersToDownstreamOnAllow"),
        to_downstream_on_deny: names("headersToDownstreamOnDeny"),
        additional_headers: additional.unwrap_or_default(),
    }
}

/// Whether a text may stand before a request's path.
fn is_path(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{}|".contains(&byte))
}

/// `HOST` or `NAMESPACE/HOST`.
fn is_service(text: &str) -> bool {
    let mut parts = text.split('/');
    let good = |part: Option<&str>| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        part.is_some_and(|part| !part.is_empty() && part.len() <= 253 && part.bytes().all(letter))
    };
    match text.contains('/') {
        true => good(parts.next()) && good(parts.next()) && parts.next().is_none(),
        false => good(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::MeshConfig;
    use super::*;

    fn parse(text: &str) -> MeshConfig {
        MeshConfig::parse(text).unwrap_or_else(|errors| panic!("{}", crate::join(&errors)))
    }

    fn names(names: &[&str]) -> Vec<NameMatch> {
        names.iter().map(|name| NameMatch::parse(name).unwrap()).collect()
    }

    #[test]
    fn every_field_of_a_grpc_provider() {
        let config = parse(
            "extensionProviders:\n\
             - name: opa\n  envoyExtAuthzGrpc:\n    service: opa.system.svc.cluster.local\n    port: 9191\n    timeout: 1.5s\n    failOpen: true\n    \
             statusOnError: '503'\n    clearRouteCache: true\n    \
             includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true, packAsBytes: true}\n\
             - {name: traces, zipkin: {service: z, port: 9411}}\n",
        );
        let [opa, traces] = &config.extension_providers[..] else {
            panic!("{config:?}")
        };
        assert_eq!(
            opa.provider("istio-system", "cluster.local"),
            Ok(Provider {
                host: "opa.system.svc.cluster.local".to_owned(),
                port: 9191,
                settings: Settings {
                    protocol: Protocol::Grpc,
                    timeout: Duration::from_millis(1500),
                    fail_open: true,
                    status_on_error: 503,
                    body: Some(Body {
                        most: 4096,
                        partial: true,
                        as_bytes: true,
                    }),
                },
            })
        );
        let error = traces.provider("istio-system", "cluster.local").unwrap_err();
        assert_eq!(error, "it is neither envoyExtAuthzGrpc nor envoyExtAuthzHttp");
        assert_eq!(
            config.ignored,
            [
                "extensionProviders[0].envoyExtAuthzGrpc.clearRouteCache",
                "extensionProviders[1].zipkin"
            ]
        );
    }

    #[test]
    fn every_field_of_an_http_provider() {
        let config = parse(
            "extensionProviders:\n- name: a\n  envoyExtAuthzHttp:\n    service: ext-authz.foo.svc.cluster.local\n    port: '8000'\n    \
             pathPrefix: /check\n    includeRequestHeadersInCheck: [X-Ext-Authz, 'x-b3-*']\n    includeHeadersInCheck: [ignored]\n    \
             includeAdditionalHeadersInCheck: {X-Mesh: pinnace}\n    headersToUpstreamOnAllow: [x-user]\n    \
             headersToDownstreamOnAllow: ['*-result']\n    headersToDownstreamOnDeny: [content-type, set-cookie]\n\
             - {name: b, envoyExtAuthzHttp: {service: b.c.svc.cluster.local, port: 1, includeHeadersInCheck: [old]}}\n",
        );
        let settings = |at: usize| config.extension_providers[at].authorizer.clone().unwrap().settings;
        let first = settings(0);
        assert_eq!(
            (first.timeout, first.fail_open, first.status_on_error),
            (DEFAULT_TIMEOUT, false, 403)
        );
        let http = Http {
            path_prefix: "/check".to_owned(),
            request_headers: names(&["x-ext-authz", "x-b3-*"]),
            additional_headers: vec![(HeaderName::from_static("x-mesh"), HeaderValue::from_static("pinnace"))],
            to_upstream_on_allow: names(&["x-user"]),
            to_downstream_on_allow: names(&["*-result"]),
            to_downstream_on_deny: names(&["content-type", "set-cookie"]),
        };
        assert_eq!(first.protocol, Protocol::Http(Box::new(http)));
        let Protocol::Http(second) = settings(1).protocol else {
            panic!("{config:?}")
        };
        assert_eq!(second.request_headers, names(&["old"]));
        assert!(config.ignored.is_empty(), "{:?}", config.ignored);
    }

    #[test]
    fn a_service_is_named_as_kubernetes_names_it() {
        for (service, expected) in [
            ("a.b.svc.cluster.local", Ok("a.b.svc.cluster.local")),
            ("a.b.svc", Ok("a.b.svc.cluster.local")),
            ("a.b", Ok("a.b.svc.cluster.local")),
            ("a", Ok("a.istio-system.svc.cluster.local")),
            ("b/a", Ok("a.b.svc.cluster.local")),
            ("b/a.b.svc.cluster.local", Ok("a.b.svc.cluster.local")),
            ("b/a.c.svc.cluster.local", Err("names a host of namespace c")),
            ("b/a.example.org", Err("hosts of ServiceEntries are not supported")),
            ("authz.example.org", Err("hosts of ServiceEntries are not supported")),
            ("10.0.0.1", Err("hosts of ServiceEntries are not supported")),
        ] {
            let text = format!("extensionProviders: [{{name: p, envoyExtAuthzGrpc: {{service: {service}, port: 1}}}}]");
            let found = parse(&text).extension_providers[0].provider("istio-system", "cluster.local");
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.host, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{service}: {found:?}"),
            }
        }
    }

    #[test]
    fn every_bad_value_is_named() {
        let field = |field: &str, at: &str, accepted: &str| {
            (
                format!("[{{name: a, envoyExtAuthzHttp: {{service: b, port: 1, {field}}}}}]"),
                format!("extensionProviders[0].envoyExtAuthzHttp.{at} is not accepted, expected {accepted}"),
            )
        };
        let rows = [
            (
                "{a: b}",
                "extensionProviders: \"{\\\"a\\\":\\\"b\\\"}\" is not accepted, expected a list",
            ),
            ("[3]", "extensionProviders[0]: \"3\" is not accepted, expected fields"),
            (
                "[{}]",
                "extensionProviders[0].name: \"\" is not accepted, expected a name",
            ),
            (
                "[{name: ''}]",
                "extensionProviders[0].name: \"\" is not accepted, expected a name",
            ),
            (
                "[{name: a}, {name: a}]",
                "extensionProviders[1].name: \"a\" is not accepted, expected a name that no other",
            ),
            (
                "[{name: a, envoyExtAuthzHttp: {port: 80}}]",
                "extensionProviders[0].envoyExtAuthzHttp.service: \"\" is not accepted",
            ),
            (
                "[{name: a, envoyExtAuthzGrpc: {service: b, port: 0}}]",
                "extensionProviders[0].envoyExtAuthzGrpc.port: \"0\" is not accepted, expected a port",
            ),
            (
                "[{name: a, envoyExtAuthzGrpc: {service: a/b/c, port: 1}}]",
                "extensionProviders[0].envoyExtAuthzGrpc.service: \"a/b/c\" is not accepted, expected the host",
            ),
            (
                "[{name: a, envoyExtAuthzGrpc: {service: b, port: 1}, envoyExtAuthzHttp: {service: b, port: 1}}]",
                "extensionProviders[0].envoyExtAuthzGrpc: \"\" is not accepted, expected one of envoyExtAuthzHttp and",
            ),
        ];
        let mut rows: Vec<(String, String)> = rows.map(|(text, error)| (text.to_owned(), error.to_owned())).into();
        rows.extend([
            field("timeout: 5", "timeout: \"5\"", "a duration of at least 1ms"),
            field("timeout: 0s", "timeout: \"0s\"", "a duration of at least 1ms"),
            field("failOpen: 1", "failOpen: \"1\"", "true or false"),
            field(
                "statusOnError: '99'",
                "statusOnError: \"99\"",
                "an HTTP status from 200 to 599",
            ),
            field(
                "pathPrefix: check",
                "pathPrefix: \"check\"",
                "a path, which begins with /",
            ),
            field(
                "pathPrefix: '/a?b'",
                "pathPrefix: \"/a?b\"",
                "a path, which begins with /",
            ),
            field(
                "headersToUpstreamOnAllow: ['*']",
                "headersToUpstreamOnAllow[0]: \"*\"",
                "a header's name, or",
            ),
            field(
                "includeRequestHeadersInCheck: [a b]",
                "includeRequestHeadersInCheck[0]: \"a b\"",
                "a header's",
            ),
            field(
                "includeAdditionalHeadersInCheck: {'a b': c}",
                "includeAdditionalHeadersInCheck: \"{\\\"a b\\\":\\\"c\\\"}\"",
                "headers' names with their values",
            ),
            field(
                "includeRequestBodyInCheck: {}",
                "includeRequestBodyInCheck.maxRequestBytes: \"\"",
                "a number of bytes from 1",
            ),
            field(
                "includeRequestBodyInCheck: {maxRequestBytes: 0}",
                "includeRequestBodyInCheck.maxRequestBytes: \"0\"",
                "a number of bytes from 1",
            ),
        ]);
        for (text, expected) in rows {
            let errors = MeshConfig::parse(&format!("extensionProviders: {text}")).unwrap_err();
            let message = crate::join(&errors);
            assert!(message.starts_with(&expected), "{text}: {message}");
            assert_eq!(errors.len(), 1, "{message}");
        }
    }
}
