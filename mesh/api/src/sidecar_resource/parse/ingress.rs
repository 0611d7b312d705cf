//! `ingress`, which nothing follows yet.

use std::collections::BTreeSet;

use super::{Report, port};
use crate::destination_rule;
use crate::sidecar_resource::resource::{Ingress, ServerTls};

pub(super) fn check(list: &[Ingress], report: &mut Report) {
    let mut ports = BTreeSet::new();
    for (at, ingress) in list.iter().enumerate() {
        let path = format!("spec.ingress[{at}]");
        let Some(given) = &ingress.port else {
            report.refuse(format!("{path}.port"), "", "a port");
            continue;
        };
        port::check(&format!("{path}.port"), given, report);
        port::bind(&path, ingress.bind.as_deref(), report);
        let number = port::number(&format!("{path}.port"), given, report);
        if number.is_some_and(|number| !ports.insert(number)) {
            report.refuse(
                format!("{path}.port.number"),
                given.number.unwrap_or(0),
                "each port once",
            );
        }
        let modes = ["DEFAULT", "IPTABLES", "NONE"];
        report.one_of(format!("{path}.captureMode"), ingress.capture_mode.as_deref(), &modes);
        let endpoint = ingress.default_endpoint.as_deref().filter(|text| !text.is_empty());
        if let Some(endpoint) = endpoint {
            check_endpoint(&format!("{path}.defaultEndpoint"), endpoint, report);
        }
        let protocol = port::protocol(given);
        if let Some(tls) = &ingress.tls {
            let path = format!("{path}.tls");
            if !matches!(&*protocol, "https" | "tls") {
                report.refuse(&path, "given", "none unless port.protocol is HTTPS or TLS");
            }
            check_tls(&path, tls, report);
        }
        if let Some(pool) = &ingress.connection_pool {
            let path = format!("{path}.connectionPool");
            destination_rule::check_connection_pool(&path, pool, report);
            let http = matches!(&*protocol, "http" | "http2" | "http_proxy" | "grpc" | "grpc-web");
            if pool.http.is_some() && !http {
                report.warn(format!(
                    "{path}.http has no effect on a port whose protocol is not HTTP"
                ));
            }
        }
    }
}

fn check_endpoint(field: &str, endpoint: &str, report: &mut Report) {
    if let Some(socket) = endpoint.strip_prefix(port::UNIX) {
        port::socket(field, socket, report);
        return;
    }
    let hosts = ["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    let fits = endpoint
        .rsplit_once(':')
        .is_some_and(|(host, port)| hosts.contains(&host) && port.parse::<u16>().is_ok_and(|port| port != 0));
    if !fits {
        report.refuse(
            field,
            endpoint,
            "127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, :PORT or unix://PATH",
        );
    }
}

fn check_tls(path: &str, tls: &ServerTls, report: &mut Report) {
    let there = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let certificates = tls.tls_certificates.as_ref().is_some_and(|list| !list.is_empty());
    for (name, given) in [
        ("subjectAltNames", some(&tls.subject_alt_names)),
        ("httpsRedirect", tls.https_redirect == Some(true)),
        ("credentialName", there(&tls.credential_name)),
        ("credentialNames", some(&tls.credential_names)),
        ("tlsCertificates", certificates),
    ] {
        if given {
            report.refuse(format!("{path}.{name}"), "given", "none in a Sidecar, as in Istio");
        }
    }
    let mode = tls.mode.as_deref().unwrap_or("PASSTHROUGH");
    report.one_of(
        format!("{path}.mode"),
        Some(mode),
        &["PASSTHROUGH", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"],
    );
    for (name, version) in [
        ("minProtocolVersion", &tls.min_protocol_version),
        ("maxProtocolVersion", &tls.max_protocol_version),
    ] {
        let versions = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
        report.one_of(format!("{path}.{name}"), version.as_deref(), &versions);
    }
    let files = [
        ("serverCertificate", there(&tls.server_certificate)),
        ("privateKey", there(&tls.private_key)),
    ];
    let roots = there(&tls.ca_certificates);
    match mode {
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" => {
            for (name, _) in files.into_iter().filter(|(_, given)| !given) {
                report.refuse(format!("{path}.{name}"), "", format!("a file: {mode} needs one"));
            }
            if mode != "SIMPLE" && !roots {
                report.refuse(
                    format!("{path}.caCertificates"),
                    "",
                    format!("a file: {mode} needs one"),
                );
            }
        }
        _ if roots || there(&tls.ca_crl) || files.iter().any(|(_, given)| *given) => {
            report.warn(format!("{path}: {mode} uses no certificates"));
        }
        _ => {}
    }
    if there(&tls.ca_crl) && mode == "SIMPLE" {
        report.refuse(format!("{path}.caCrl"), "given", "none where mode is SIMPLE");
    }
}
