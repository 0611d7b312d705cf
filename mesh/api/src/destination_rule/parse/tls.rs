//! `tls`: from the settings to what a client does, and what of them excludes each other.

use std::sync::Arc;

use mesh_core::client_tls::{ClientCertificate, ClientTls, MeshNames, Origination, ServerCheck};

use super::Report;
use crate::destination_rule::resource::ClientTlsSettings;

const MODES: &str = "one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL";

/// `selected` is whether the rule has a workloadSelector.
pub(super) fn parse(path: &str, settings: &ClientTlsSettings, selected: bool, report: &mut Report) -> ClientTls {
    let field = |name: &str| format!("{path}.{name}");
    if let Some(sni) = settings
        .sni
        .as_deref()
        .filter(|sni| !sni.is_empty() && !is_server_name(sni))
    {
        report.refuse(field("sni"), sni, "a host name");
    }
    match settings.mode.as_deref() {
        None => {
            report.warn(format!(
                "{path} has no mode, which is DISABLE: connections are in the clear"
            ));
            ClientTls::Disable
        }
        Some("DISABLE") => ClientTls::Disable,
        Some("ISTIO_MUTUAL") => {
            for (name, there) in given(settings) {
                if there && !["sni", "subjectAltNames"].contains(&name) {
                    report.warn(format!(
                        "{path}.{name} has no meaning for ISTIO_MUTUAL, which uses the mesh's own certificates"
                    ));
                }
            }
            ClientTls::IstioMutual(MeshNames {
                sni: text(settings.sni.as_deref()),
                subject_alt_names: names(settings),
            })
        }
        Some(mode @ ("SIMPLE" | "MUTUAL")) => originate(path, settings, mode, selected, report),
        Some(other) => {
            report.refuse(field("mode"), other, MODES);
            ClientTls::Disable
        }
    }
}

fn originate(path: &str, settings: &ClientTlsSettings, mode: &str, selected: bool, report: &mut Report) -> ClientTls {
    let field = |name: &str| format!("{path}.{name}");
    let skipped = settings.insecure_skip_verify == Some(true);
    if skipped {
        for (name, there) in given(settings) {
            let excluded = match name {
                "caCertificates" | "subjectAltNames" => true,
                // A Secret may hold the client's certificate alone.
                "credentialName" => mode == "SIMPLE",
                _ => false,
            };
            if there && excluded {
                report.refuse(
                    field("insecureSkipVerify"),
                    true,
                    format!("false, or no {name}: what is not verified needs nothing to verify it with"),
                );
            }
        }
    }
    if let Some(name) = text(settings.credential_name.as_deref()) {
        for (other, there) in given(settings) {
            if there && ["clientCertificate", "privateKey", "caCertificates", "caCrl"].contains(&other) {
                report.refuse(
                    field("credentialName"),
                    &name,
                    format!("no {other} beside it: certificates come from the Secret or from files"),
                );
            }
        }
        let remedy = "use clientCertificate, privateKey and caCertificates, files that are mounted into the sidecar";
        let reason = if selected {
            format!("{path}.credentialName {name:?}: sidecars do not read Secrets in this version; {remedy}")
        } else {
            format!(
                "{path}.credentialName {name:?} is for gateways, and for sidecars that a workloadSelector names; {remedy}"
            )
        };
        report.warn(format!("sidecars refuse connections under this rule: {reason}"));
        return ClientTls::Refused(reason.into());
    }
    let origination = Origination {
        sni: text(settings.sni.as_deref()),
        server: if skipped {
            ServerCheck::Skipped
        } else {
            ServerCheck::Verified {
                // Istio's word for the roots of the operating system.
                ca_certificates: text(settings.ca_certificates.as_deref().filter(|file| *file != "system")),
                ca_crl: text(settings.ca_crl.as_deref()),
                subject_alt_names: names(settings),
            }
        },
    };
    if mode == "SIMPLE" {
        return ClientTls::Simple(origination);
    }
    let mut file = |name: &str, value: Option<&str>| {
        let file = text(value);
        if file.is_none() {
            report.refuse(
                field(name),
                "",
                "a file in the proxy: MUTUAL needs a certificate and its key",
            );
        }
        file.unwrap_or_default()
    };
    let certificate = ClientCertificate {
        certificate: file("clientCertificate", settings.client_certificate.as_deref()),
        key: file("privateKey", settings.private_key.as_deref()),
    };
    ClientTls::Mutual(origination, certificate)
}

/// The fields beside the mode, and whether each is there.
fn given(settings: &ClientTlsSettings) -> [(&'static str, bool); 8] {
    let there = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    [
        ("clientCertificate", there(&settings.client_certificate)),
        ("privateKey", there(&settings.private_key)),
        ("caCertificates", there(&settings.ca_certificates)),
        ("credentialName", there(&settings.credential_name)),
        (
            "subjectAltNames",
            settings.subject_alt_names.as_ref().is_some_and(|list| !list.is_empty()),
        ),
        ("sni", there(&settings.sni)),
        ("insecureSkipVerify", settings.insecure_skip_verify == Some(true)),
        ("caCrl", there(&settings.ca_crl)),
    ]
}

fn text(value: Option<&str>) -> Option<Arc<str>> {
    value.filter(|text| !text.is_empty()).map(Arc::from)
}

fn names(settings: &ClientTlsSettings) -> Vec<Arc<str>> {
    let list = settings.subject_alt_names.iter().flatten();
    list.filter(|name| !name.is_empty())
        .map(|name| name.as_str().into())
        .collect()
}

/// What TLS can send as a name; labels may have underscores, as the mesh's own do.
fn is_server_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() <= 253
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed))
}
