//! `trafficPolicy.tls`: Istio's `ClientTLSSettings`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How connections to the host are secured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTlsSettings {
    /// DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL; absent is DISABLE.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]))]
    pub mode: Option<String>,
    /// The file of the client's certificate in the proxy, for MUTUAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The file of the client's key in the proxy, for MUTUAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// The file of the roots in the proxy under which the server is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// The Secret that holds the certificates, for gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_name: Option<String>,
    /// Names of which the server's certificate must have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<Vec<String>>,
    /// The SNI that is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Whether the server is not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub insecure_skip_verify: Option<bool>,
    /// The file of the revocation lists in the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_crl: Option<String>,
}
