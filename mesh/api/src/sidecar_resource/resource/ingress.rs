//! `ingress`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SidecarPort;
use crate::destination_rule::resource::ConnectionPool;
use crate::schema;

/// Which connections are accepted on a port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["port"]))]
pub struct Ingress {
    /// The port.
    #[schemars(with = "SidecarPort")]
    pub port: Option<SidecarPort>,
    /// The address that is listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// Whether connections are redirected to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["DEFAULT", "IPTABLES", "NONE"]))]
    pub capture_mode: Option<String>,
    /// Where the application listens: `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT` or `unix://PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint: Option<String>,
    /// How TLS of clients outside the mesh is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// How many connections and requests are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
}

/// Istio's `ServerTLSSettings`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "message": "only one of credentialNames or tlsCertificates can be set",
        "rule": "(has(self.tlsCertificates) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1"
    },
    {
        "message": "only one of credentialName or credentialNames can be set",
        "rule": "(has(self.credentialName) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1"
    },
    {
        "message": "only one of credentialName or tlsCertificates can be set",
        "rule": "(has(self.credentialName) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1"
    }
]))]
pub struct ServerTls {
    /// Whether HTTP is sent to HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<bool>,
    /// How connections are secured; absent is PASSTHROUGH.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ]))]
    pub mode: Option<String>,
    /// The file of the server's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_certificate: Option<String>,
    /// The file of the server's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// The file of the roots of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// The file of the revocation lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_crl: Option<String>,
    /// A Secret with the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_name: Option<String>,
    /// Secrets with certificates of two kinds of key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1, "maxItems" = 2))]
    pub credential_names: Option<Vec<String>>,
    /// A Secret with the roots of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_credential_name: Option<String>,
    /// Files of certificates of two kinds of key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1, "maxItems" = 2))]
    pub tls_certificates: Option<Vec<TlsCertificate>>,
    /// Names of which a client's certificate must have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<Vec<String>>,
    /// Hashes of public keys of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_certificate_spki: Option<Vec<String>>,
    /// Hashes of certificates of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_certificate_hash: Option<Vec<String>>,
    /// The least version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]))]
    pub min_protocol_version: Option<String>,
    /// The greatest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]))]
    pub max_protocol_version: Option<String>,
    /// Cipher suites by OpenSSL's names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher_suites: Option<Vec<String>>,
    /// Whether clients are not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub insecure_skip_verify: Option<bool>,
}

/// Files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsCertificate {
    /// The file of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_certificate: Option<String>,
    /// The file of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// The file of the roots of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
}
