//! `extensionProviders`: who may be asked about a request (AuthorizationPolicy's action CUSTOM), and providers of telemetry.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::Fields;

/// The most providers.
const MOST: usize = 1024;

/// An entry of `extensionProviders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// `name`, which policies refer to.
    pub name: String,
    /// Where it is asked about requests; `None` for a provider of something else.
    pub service: Option<Service>,
}

/// `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Whether it speaks gRPC; HTTP otherwise.
    pub grpc: bool,
    /// `service`: a host, with its namespace before it where two namespaces have that host (`NAMESPACE/HOST`).
    pub host: String,
    /// `port`.
    pub port: u16,
}

/// Takes the providers out of the configuration. All but their names, services and ports is left over.
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
    let mut service = None;
    for (field, grpc) in [("envoyExtAuthzHttp", false), ("envoyExtAuthzGrpc", true)] {
        if let Some(mut inner) = entry.object(field) {
            let host = inner.required("service", "the host of a service", |value| {
                value.as_str().filter(|host| !host.is_empty()).map(str::to_owned)
            });
            let port = inner.required("port", "a port from 1 to 65535", port);
            service = host.zip(port).map(|(host, port)| Service { grpc, host, port });
            entry.end(inner);
        }
    }
    name.map(|name| ExtensionProvider { name, service })
}

fn port(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::super::MeshConfig;
    use super::*;

    #[test]
    fn providers_by_name() {
        let config = MeshConfig::parse(
            "extensionProviders:\n\
             - {name: opa, envoyExtAuthzGrpc: {service: opa.system.svc.cluster.local, port: 9191, timeout: 1s}}\n\
             - {name: http, envoyExtAuthzHttp: {service: a/b.example.org, port: '8000'}}\n\
             - {name: traces, zipkin: {service: z, port: 9411}}\n",
        )
        .unwrap();
        let service = |grpc, host: &str, port| Service {
            grpc,
            host: host.to_owned(),
            port,
        };
        let found: Vec<_> = config
            .extension_providers
            .iter()
            .map(|provider| (provider.name.as_str(), provider.service.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("opa", Some(service(true, "opa.system.svc.cluster.local", 9191))),
                ("http", Some(service(false, "a/b.example.org", 8000))),
                ("traces", None),
            ]
        );
        assert_eq!(
            config.ignored,
            [
                "extensionProviders[0].envoyExtAuthzGrpc.timeout",
                "extensionProviders[2].zipkin"
            ]
        );
    }

    #[test]
    fn every_bad_value_is_named() {
        for (text, expected) in [
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
        ] {
            let errors = MeshConfig::parse(&format!("extensionProviders: {text}")).unwrap_err();
            let message = crate::join(&errors);
            assert!(message.starts_with(expected), "{text}: {message}");
            assert_eq!(errors.len(), 1, "{message}");
        }
    }
}
