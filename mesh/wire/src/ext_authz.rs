//! Between the messages of external authorizers and `mesh_core`'s types. One that is not understood is one that cannot be
//! asked: what its policies match is denied, and everything else goes on.

use crate::resources as wire;
use mesh_core::ext_authz::{Body, Http, NameMatch, Protocol, Provider, Providers, Settings};
use std::time::Duration;

pub(crate) fn providers(messages: &[wire::ExtAuthzProvider]) -> Providers {
    let provider = |message: &wire::ExtAuthzProvider| match message.problem.as_str() {
        "" => provider(message).map_err(|field| format!("its {field} is not understood by this sidecar")),
        problem => Err(problem.to_owned()),
    };
    let named = messages.iter().map(|message| (message.name.clone(), provider(message)));
    named.collect()
}

pub(crate) fn messages(providers: &Providers) -> Vec<wire::ExtAuthzProvider> {
    let message = |(name, provider): (&String, &Result<Provider, String>)| match provider {
        Ok(provider) => message(name, provider),
        Err(problem) => wire::ExtAuthzProvider {
            name: name.clone(),
            problem: problem.clone(),
            ..wire::ExtAuthzProvider::default()
        },
    };
    providers.iter().map(message).collect()
}

/// The provider, or the field that says what nobody here knows.
fn provider(message: &wire::ExtAuthzProvider) -> Result<Provider, &'static str> {
    let protocol = match wire::ExtAuthzProtocol::try_from(message.protocol) {
        Ok(wire::ExtAuthzProtocol::Grpc) => Protocol::Grpc,
        Ok(wire::ExtAuthzProtocol::Http) => Protocol::Http(Box::new(http(message)?)),
        Ok(wire::ExtAuthzProtocol::Invalid) | Err(_) => return Err("protocol"),
    };
    let body = message.body.map(|body| match body.most {
        0 => Err("body"),
        most => Ok(Body {
            most,
            partial: body.partial,
            as_bytes: body.as_bytes,
        }),
    });
    let status = u16::try_from(message.status_on_error).ok();
    let port = u16::try_from(message.port).ok();
    Ok(Provider {
        host: Some(&message.host)
            .filter(|host| !host.is_empty())
            .ok_or("host")?
            .clone(),
        port: port.filter(|port| *port > 0).ok_or("port")?,
        settings: Settings {
            protocol,
            timeout: match message.timeout_milliseconds {
                0 => return Err("timeout"),
                timeout => Duration::from_millis(timeout),
            },
            fail_open: message.fail_open,
            status_on_error: status
                .filter(|status| (200..600).contains(status))
                .ok_or("statusOnError")?,
            body: body.transpose()?,
        },
    })
}

fn http(message: &wire::ExtAuthzProvider) -> Result<Http, &'static str> {
    let names = |field: &'static str, names: &[String]| -> Result<Vec<NameMatch>, &'static str> {
        names.iter().map(|name| NameMatch::parse(name).ok_or(field)).collect()
    };
    let additional = message.additional_headers.iter().map(|header| {
        let name = header.name.parse().ok();
        let value = header.value.as_slice().try_into().ok();
        name.zip(value).ok_or("includeAdditionalHeadersInCheck")
    });
    Ok(Http {
        path_prefix: message.path_prefix.clone(),
        request_headers: names("includeRequestHeadersInCheck", &message.request_headers)?,
        additional_headers: additional.collect::<Result<_, _>>()?,
        to_upstream_on_allow: names("headersToUpstreamOnAllow", &message.to_upstream_on_allow)?,
        to_downstream_on_allow: names("headersToDownstreamOnAllow", &message.to_downstream_on_allow)?,
        to_downstream_on_deny: names("headersToDownstreamOnDeny", &message.to_downstream_on_deny)?,
    })
}

fn message(name: &str, provider: &Provider) -> wire::ExtAuthzProvider {
    let settings = &provider.settings;
    let names = |names: &[NameMatch]| names.iter().map(ToString::to_string).collect();
    let message = wire::ExtAuthzProvider {
        name: name.to_owned(),
        host: provider.host.clone(),
        port: provider.port.into(),
        protocol: wire::ExtAuthzProtocol::Grpc.into(),
        timeout_milliseconds: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
        fail_open: settings.fail_open,
        status_on_error: settings.status_on_error.into(),
        body: settings.body.map(|body| wire::ExtAuthzBody {
            most: body.most,
            partial: body.partial,
            as_bytes: body.as_bytes,
        }),
        ..wire::ExtAuthzProvider::default()
    };
    let Protocol::Http(http) = &settings.protocol else {
        return message;
    };
    let additional = http
        .additional_headers
        .iter()
        .map(|(name, value)| wire::ExtAuthzHeader {
            name: name.to_string(),
            value: value.as_bytes().to_vec(),
        });
    wire::ExtAuthzProvider {
        protocol: wire::ExtAuthzProtocol::Http.into(),
        path_prefix: http.path_prefix.clone(),
        request_headers: names(&http.request_headers),
        additional_headers: additional.collect(),
        to_upstream_on_allow: names(&http.to_upstream_on_allow),
        to_downstream_on_allow: names(&http.to_downstream_on_allow),
        to_downstream_on_deny: names(&http.to_downstream_on_deny),
        ..message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Providers {
        let names = |name: &str| vec![NameMatch::parse(name).unwrap()];
        let http = Http {
            path_prefix: "/check".into(),
            request_headers: names("a"),
            additional_headers: vec![("b".parse().unwrap(), "c".parse().unwrap())],
            to_upstream_on_allow: names("d*"),
            to_downstream_on_allow: names("*e"),
            to_downstream_on_deny: names("f"),
        };
        let provider = |protocol, body| Provider {
            host: "authz.shop.svc.cluster.local".into(),
            port: 9000,
            settings: Settings {
                protocol,
                timeout: Duration::from_millis(1500),
                fail_open: true,
                status_on_error: 503,
                body,
            },
        };
        let body = Body {
            most: 10,
            partial: true,
            as_bytes: true,
        };
        [
            ("grpc", Ok(provider(Protocol::Grpc, Some(body)))),
            ("http", Ok(provider(Protocol::Http(Box::new(http)), None))),
            ("none", Err("no such provider".to_owned())),
        ]
        .map(|(name, provider)| (name.to_owned(), provider))
        .into()
    }

    #[test]
    fn everything_survives_the_wire() {
        assert_eq!(providers(&messages(&whole())), whole());
    }

    #[test]
    fn what_is_not_understood_cannot_be_asked() {
        type Damage = (&'static str, fn(&mut wire::ExtAuthzProvider));
        let damage: [Damage; 10] = [
            ("protocol", |it| it.protocol = 0),
            ("protocol", |it| it.protocol = 9),
            ("host", |it| it.host.clear()),
            ("port", |it| it.port = 0),
            ("port", |it| it.port = 70_000),
            ("timeout", |it| it.timeout_milliseconds = 0),
            ("statusOnError", |it| it.status_on_error = 600),
            ("body", |it| it.body = Some(wire::ExtAuthzBody::default())),
            ("includeAdditionalHeadersInCheck", |it| {
                it.additional_headers[0].name = "a b".into()
            }),
            ("headersToDownstreamOnDeny", |it| {
                it.to_downstream_on_deny = vec!["*".into()]
            }),
        ];
        for (field, damage) in damage {
            let mut sent = messages(&whole());
            damage(&mut sent[1]);
            let found = providers(&sent).remove("http").unwrap();
            assert_eq!(found, Err(format!("its {field} is not understood by this sidecar")));
        }
    }
}
