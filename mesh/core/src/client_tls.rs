//! How a client secures its connections to a destination where a DestinationRule says so: Istio's `ClientTLSSettings`.

use crate::peer_authentication::PortMode;
use std::fmt;
use std::sync::Arc;

/// `ClientTLSSettings`, parsed: what does not belong to a mode is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientTls {
    /// No TLS.
    Disable,
    /// TLS to a server of whatever kind.
    Simple(Origination),
    /// The same, with a certificate of the client's.
    Mutual(Origination, ClientCertificate),
    /// The mesh's mutual TLS, to every endpoint.
    IstioMutual(MeshNames),
    /// Nothing may be sent: what the rule asks for cannot be had here, and something else must not be done instead.
    Refused(Arc<str>),
}

/// How a server outside the mesh's mutual TLS is called and verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origination {
    /// The SNI; without it the host that the client names.
    pub sni: Option<Arc<str>>,
    /// How the server is verified.
    pub server: ServerCheck,
}

/// How a server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerCheck {
    /// Under some roots.
    Verified {
        /// A file of root certificates in the proxy, PEM; without it the publicly trusted ones.
        ca_certificates: Option<Arc<str>>,
        /// A file of revocation lists in the proxy, PEM.
        ca_crl: Option<Arc<str>>,
        /// Names of which the certificate must have one; if empty, it must have the name that the server was called by.
        subject_alt_names: Vec<Arc<str>>,
    },
    /// Not at all (`insecureSkipVerify`).
    Skipped,
}

impl Default for ServerCheck {
    fn default() -> Self {
        Self::Verified {
            ca_certificates: None,
            ca_crl: None,
            subject_alt_names: Vec::new(),
        }
    }
}

/// The files of a client's certificate, in the proxy's file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// `clientCertificate`: leaf and intermediates, PEM.
    pub certificate: Arc<str>,
    /// `privateKey`, PEM.
    pub key: Arc<str>,
}

/// What `ISTIO_MUTUAL` may say of names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MeshNames {
    /// The SNI in place of `outbound_.PORT_.SUBSET_.HOST`.
    pub sni: Option<Arc<str>>,
    /// Identities of which the server must have one, in place of the destination's.
    pub subject_alt_names: Vec<Arc<str>>,
}

impl ClientTls {
    /// Istio's name of the mode.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple(_) => "SIMPLE",
            Self::Mutual(..) => "MUTUAL",
            Self::IstioMutual(_) => "ISTIO_MUTUAL",
            Self::Refused(_) => "REFUSED",
        }
    }
}

impl fmt::Display for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mode())
    }
}

/// What a rule says of a destination, and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRule {
    /// `namespace/name` of the DestinationRule.
    pub rule: Arc<str>,
    /// What it says.
    pub tls: Arc<ClientTls>,
}

/// Whether a client brings the mesh's mutual TLS to a pod's port. A rule that says anything of TLS decides: `ISTIO_MUTUAL` is for
/// every pod, those without a sidecar included, since they may hold the mesh's certificates themselves. Else it is automatic:
/// where the mesh asks for it, to a pod that takes it (`sidecar`) and whose mode on that port is not `DISABLE`.
#[must_use]
pub fn brings_mutual_tls(
    rule: Option<&TlsRule>,
    automatic: bool,
    sidecar: bool,
    mode: impl FnOnce() -> PortMode,
) -> bool {
    match rule {
        Some(rule) => matches!(&*rule.tls, ClientTls::IstioMutual(_)),
        None => automatic && sidecar && mode() != PortMode::Disable,
    }
}
