//! What becomes of a call between two workloads: what the client's sidecar makes of it, and whether the server's takes that.

use crate::client_tls::ClientTls;
use crate::destination::{Destination, Endpoint, Security};
use crate::peer_authentication::PortMode;
use std::fmt;

/// What crosses the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Bytes in the clear.
    Plaintext,
    /// The mesh's mutual TLS.
    MutualTls,
    /// TLS of a DestinationRule's, to the application itself.
    Tls,
    /// Nothing: one side or the other ends it.
    Refused,
}

/// Why. Each text is a sentence without its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing secures what the client says.
    ClientWithoutSidecar,
    /// Nothing secures what the client says, and the port takes nothing in the clear.
    ClientWithoutSidecarUnderStrict,
    /// Nothing takes mutual TLS.
    ServerWithoutSidecar,
    /// The server's pod does not say that it takes mutual TLS.
    ServerWithoutLabel,
    /// The client would bring mutual TLS, and the mesh does not ask for it.
    NotAutomatic,
    /// The port takes no mutual TLS, and clients know it.
    ModeDisable,
    /// Nothing was said against it.
    Automatic,
    /// The client's rule says so.
    Rule(&'static str),
    /// The port takes nothing in the clear.
    PlaintextUnderStrict,
    /// The client brings mutual TLS where nothing takes it.
    MutualTlsToNoSidecar,
    /// The client brings mutual TLS to a port that hands it to the application.
    MutualTlsUnderDisable,
    /// The client expects another identity than the server's.
    OtherIdentity(String),
    /// The client brings no certificate, and the port asks for one of the mesh.
    NoCertificateUnderStrict,
    /// It depends on files in the client's proxy.
    CertificateOfRule,
    /// The rule cannot be followed.
    Unusable(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientWithoutSidecar => "the client has no sidecar",
            Self::ClientWithoutSidecarUnderStrict => "the client has no sidecar, and the port's mode is STRICT",
            Self::ServerWithoutSidecar => "the server has no sidecar",
            Self::ServerWithoutLabel => "the server's label security.istio.io/tlsMode is not istio",
            Self::NotAutomatic => "automatic mutual TLS is off",
            Self::ModeDisable => "the port's mode is DISABLE",
            Self::Automatic => "automatic mutual TLS",
            Self::Rule(mode) => return write!(f, "the DestinationRule says {mode}"),
            Self::PlaintextUnderStrict => "plaintext, and the port's mode is STRICT",
            Self::MutualTlsToNoSidecar => "mutual TLS, and the server has no sidecar to take it",
            Self::MutualTlsUnderDisable => "mutual TLS, and the port's mode is DISABLE",
            Self::OtherIdentity(own) => return write!(f, "the DestinationRule's subjectAltNames lack {own}"),
            Self::NoCertificateUnderStrict => "TLS without a certificate of the mesh, and the port's mode is STRICT",
            Self::CertificateOfRule => {
                "passes with a certificate of the mesh alone, and the DestinationRule names its own"
            }
            Self::Unusable(reason) => return write!(f, "the DestinationRule cannot be followed: {reason}"),
        })
    }
}

/// The workload that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Whether a sidecar takes what comes to the port.
    pub sidecar: bool,
    /// The mode in force on the port.
    pub mode: PortMode,
}

/// Decides about calls of a client to an endpoint of a destination. `sidecar`: whether one carries the client's connections;
/// `automatic`: whether the mesh asks for mutual TLS.
#[must_use]
pub fn decide(
    sidecar: bool,
    automatic: bool,
    destination: &Destination,
    endpoint: &Endpoint,
    server: Server,
) -> (Transport, Reason) {
    let strict = server.sidecar && server.mode == PortMode::Strict;
    if !sidecar {
        return match strict {
            true => (Transport::Refused, Reason::ClientWithoutSidecarUnderStrict),
            false => (Transport::Plaintext, Reason::ClientWithoutSidecar),
        };
    }
    let rule = destination.tls.as_ref();
    match destination.security(endpoint) {
        Security::Plain if strict => (Transport::Refused, Reason::PlaintextUnderStrict),
        Security::Plain => {
            let reason = match rule {
                Some(rule) => Reason::Rule(rule.tls.mode()),
                None if !server.sidecar => Reason::ServerWithoutSidecar,
                None if !automatic => Reason::NotAutomatic,
                None if server.mode == PortMode::Disable => Reason::ModeDisable,
                None => Reason::ServerWithoutLabel,
            };
            (Transport::Plaintext, reason)
        }
        Security::Mesh => match server {
            Server { sidecar: false, .. } => (Transport::Refused, Reason::MutualTlsToNoSidecar),
            Server {
                mode: PortMode::Disable,
                ..
            } => (Transport::Refused, Reason::MutualTlsUnderDisable),
            _ => match &endpoint.identity {
                Some(identity) if !destination.accepts(identity) => {
                    (Transport::Refused, Reason::OtherIdentity(identity.to_string()))
                }
                _ => (
                    Transport::MutualTls,
                    rule.map_or(Reason::Automatic, |rule| Reason::Rule(rule.tls.mode())),
                ),
            },
        },
        Security::Originated(rule, _) => match &*rule.tls {
            ClientTls::Mutual(..) if strict => (Transport::Tls, Reason::CertificateOfRule),
            _ if strict => (Transport::Refused, Reason::NoCertificateUnderStrict),
            tls => (Transport::Tls, Reason::Rule(tls.mode())),
        },
        Security::Refused(_, reason) => (Transport::Refused, Reason::Unusable(reason.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_tls::{ClientCertificate, MeshNames, Origination, TlsRule, brings_mutual_tls};
    use crate::destination::Resolution;
    use crate::workload::Workload;
    use PortMode::{Disable, Permissive, Strict};
    use Transport::{MutualTls, Plaintext, Refused, Tls};

    const OWN: &str = "spiffe://td/ns/a/sa/web";

    fn answer(client: bool, automatic: bool, rule: Option<ClientTls>, server: Option<PortMode>) -> (Transport, Reason) {
        let tls = rule.map(|tls| TlsRule {
            rule: "a/web".into(),
            tls: tls.into(),
        });
        let mode = server.unwrap_or_default();
        let mutual_tls = brings_mutual_tls(tls.as_ref(), automatic, server.is_some(), || mode);
        let identity = OWN.parse().ok();
        let endpoint = Endpoint {
            address: "10.0.0.1:80".parse().unwrap(),
            mutual_tls,
            identity: identity.clone(),
            workload: Workload::default(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        };
        let destination = Destination {
            host: "web.a.svc.cluster.local".into(),
            namespace: "a".into(),
            port: 80,
            protocol: crate::protocol::Declared::Detect,
            resolution: Resolution::Balanced,
            endpoints: Vec::new(),
            unready: Vec::new(),
            identities: identity.into_iter().collect(),
            tls,
            ..Destination::default()
        };
        let server = Server {
            sidecar: server.is_some(),
            mode,
        };
        decide(client, automatic, &destination, &endpoint, server)
    }

    #[test]
    fn both_sides_decide() {
        let modes = [None, Some(Disable), Some(Permissive), Some(Strict)];
        let simple = || ClientTls::Simple(Origination::default());
        let mutual = || {
            let certificate = ClientCertificate {
                certificate: "/a".into(),
                key: "/b".into(),
            };
            ClientTls::Mutual(Origination::default(), certificate)
        };
        let istio = || ClientTls::IstioMutual(MeshNames::default());
        let named = |name: &str| {
            ClientTls::IstioMutual(MeshNames {
                sni: None,
                subject_alt_names: vec![name.into()],
            })
        };
        type Row = (bool, bool, Option<ClientTls>, [Transport; 4]);
        let rows: [Row; 12] = [
            (false, true, None, [Plaintext, Plaintext, Plaintext, Refused]),
            (false, true, Some(istio()), [Plaintext, Plaintext, Plaintext, Refused]),
            (true, true, None, [Plaintext, Plaintext, MutualTls, MutualTls]),
            (true, false, None, [Plaintext, Plaintext, Plaintext, Refused]),
            (
                true,
                true,
                Some(ClientTls::Disable),
                [Plaintext, Plaintext, Plaintext, Refused],
            ),
            (true, true, Some(istio()), [Refused, Refused, MutualTls, MutualTls]),
            (true, false, Some(istio()), [Refused, Refused, MutualTls, MutualTls]),
            (true, true, Some(named(OWN)), [Refused, Refused, MutualTls, MutualTls]),
            (true, true, Some(named("spiffe://td/ns/a/sa/other")), [Refused; 4]),
            (true, true, Some(simple()), [Tls, Tls, Tls, Refused]),
            (true, true, Some(mutual()), [Tls; 4]),
            (true, true, Some(ClientTls::Refused("no".into())), [Refused; 4]),
        ];
        for (client, automatic, rule, expected) in rows {
            let got = modes.map(|mode| answer(client, automatic, rule.clone(), mode).0);
            assert_eq!(got, expected, "{client} {automatic} {rule:?}");
        }
    }

    #[test]
    fn the_reason_names_what_decided() {
        for (client, automatic, rule, mode, expected) in [
            (
                false,
                true,
                None,
                Some(Strict),
                "the client has no sidecar, and the port's mode is STRICT",
            ),
            (true, true, None, None, "the server has no sidecar"),
            (true, false, None, Some(Permissive), "automatic mutual TLS is off"),
            (
                true,
                false,
                None,
                Some(Strict),
                "plaintext, and the port's mode is STRICT",
            ),
            (true, true, None, Some(Disable), "the port's mode is DISABLE"),
            (true, true, None, Some(Strict), "automatic mutual TLS"),
            (
                true,
                true,
                Some(ClientTls::Disable),
                Some(Permissive),
                "the DestinationRule says DISABLE",
            ),
        ] {
            assert_eq!(answer(client, automatic, rule, mode).1.to_string(), expected);
        }
    }
}
