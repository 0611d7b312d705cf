//! Between the message of a destination's TLS and `mesh_core`'s type.

use crate::convert::ConvertError;
use crate::resources::{self as wire, TlsMode};
use mesh_core::client_tls::{ClientCertificate, ClientTls, MeshNames, Origination, ServerCheck, TlsRule};
use std::sync::Arc;

impl TryFrom<&wire::ClientTls> for TlsRule {
    type Error = ConvertError;

    fn try_from(message: &wire::ClientTls) -> Result<Self, ConvertError> {
        let text = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let names = || {
            message
                .subject_alt_names
                .iter()
                .map(|name| name.as_str().into())
                .collect()
        };
        let origination = || Origination {
            sni: text(&message.sni),
            server: if message.insecure_skip_verify {
                ServerCheck::Skipped
            } else {
                ServerCheck::Verified {
                    ca_certificates: text(&message.ca_certificates),
                    ca_crl: text(&message.ca_crl),
                    subject_alt_names: names(),
                }
            },
        };
        let tls = match TlsMode::try_from(message.mode) {
            Ok(TlsMode::Disable) => ClientTls::Disable,
            Ok(TlsMode::Simple) => ClientTls::Simple(origination()),
            Ok(TlsMode::Mutual) => ClientTls::Mutual(
                origination(),
                ClientCertificate {
                    certificate: text(&message.client_certificate)
                        .ok_or(ConvertError::MissingFile("client_certificate"))?,
                    key: text(&message.private_key).ok_or(ConvertError::MissingFile("private_key"))?,
                },
            ),
            Ok(TlsMode::IstioMutual) => ClientTls::IstioMutual(MeshNames {
                sni: text(&message.sni),
                subject_alt_names: names(),
            }),
            Ok(TlsMode::Refused) => ClientTls::Refused(message.reason.as_str().into()),
            Ok(TlsMode::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "client_tls.mode",
                    value: message.mode,
                });
            }
        };
        Ok(Self {
            rule: message.rule.as_str().into(),
            tls: Arc::new(tls),
        })
    }
}

impl From<&TlsRule> for wire::ClientTls {
    fn from(rule: &TlsRule) -> Self {
        let mut message = Self {
            rule: rule.rule.to_string(),
            ..Self::default()
        };
        let mode = match &*rule.tls {
            ClientTls::Disable => TlsMode::Disable,
            ClientTls::Simple(origination) => {
                put(&mut message, origination);
                TlsMode::Simple
            }
            ClientTls::Mutual(origination, files) => {
                put(&mut message, origination);
                message.client_certificate = files.certificate.to_string();
                message.private_key = files.key.to_string();
                TlsMode::Mutual
            }
            ClientTls::IstioMutual(names) => {
                message.sni = optional(names.sni.as_ref());
                message.subject_alt_names = strings(&names.subject_alt_names);
                TlsMode::IstioMutual
            }
            ClientTls::Refused(reason) => {
                message.reason = reason.to_string();
                TlsMode::Refused
            }
        };
        message.mode = mode.into();
        message
    }
}

fn put(message: &mut wire::ClientTls, origination: &Origination) {
    message.sni = optional(origination.sni.as_ref());
    match &origination.server {
        ServerCheck::Skipped => message.insecure_skip_verify = true,
        ServerCheck::Verified {
            ca_certificates,
            ca_crl,
            subject_alt_names,
        } => {
            message.ca_certificates = optional(ca_certificates.as_ref());
            message.ca_crl = optional(ca_crl.as_ref());
            message.subject_alt_names = strings(subject_alt_names);
        }
    }
}

fn optional(text: Option<&Arc<str>>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn strings(list: &[Arc<str>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_survives_the_wire() {
        let origination = Origination {
            sni: Some("sni.example".into()),
            server: ServerCheck::Verified {
                ca_certificates: Some("/etc/ca.pem".into()),
                ca_crl: Some("/etc/crl.pem".into()),
                subject_alt_names: vec!["a.example".into(), "spiffe://x".into()],
            },
        };
        let skipped = Origination {
            sni: None,
            server: ServerCheck::Skipped,
        };
        let files = ClientCertificate {
            certificate: "/etc/c.pem".into(),
            key: "/etc/k.pem".into(),
        };
        let names = MeshNames {
            sni: Some("sni.example".into()),
            subject_alt_names: vec!["spiffe://x".into()],
        };
        for tls in [
            ClientTls::Disable,
            ClientTls::Simple(Origination::default()),
            ClientTls::Simple(origination.clone()),
            ClientTls::Simple(skipped),
            ClientTls::Mutual(origination, files),
            ClientTls::IstioMutual(MeshNames::default()),
            ClientTls::IstioMutual(names),
            ClientTls::Refused("no".into()),
        ] {
            let rule = TlsRule {
                rule: "shop/r".into(),
                tls: Arc::new(tls),
            };
            assert_eq!(TlsRule::try_from(&wire::ClientTls::from(&rule)), Ok(rule));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let message = |mode: i32| wire::ClientTls {
            mode,
            ..Default::default()
        };
        // No mode, a later one, and a certificate without its files.
        for mode in [0, 99, TlsMode::Mutual.into()] {
            assert!(TlsRule::try_from(&message(mode)).is_err(), "{mode}");
        }
    }
}
