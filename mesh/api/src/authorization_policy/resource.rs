//! The resource's fields, from which its CRD is generated. Everything stays text here, as an object may come from a cluster
//! whose CRD is not ours; [`super::parse`] decides what it means.

#![allow(clippy::duplicated_attributes, reason = "two printed columns may be of one type")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::WorkloadSelector;
use crate::status::Status;
use crate::target::TargetReference;

/// The most rules of a policy, and sources of a rule (Istio's CRD).
pub(super) const MOST_RULES: usize = 512;
/// The most service accounts of one field (Istio's CRD).
pub(super) const MOST_SERVICE_ACCOUNTS: usize = 16;

/// Who may do what with workloads.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "security.istio.io",
    version = "v1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    shortname = "ap",
    category = "istio-io",
    category = "security-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Who may do what with workloads: of the whole mesh, a namespace or selected ones.",
    printcolumn(
        name = "Action",
        type_ = "string",
        json_path = ".spec.action",
        description = "The operation to take."
    ),
    printcolumn(
        name = "Workloads",
        type_ = "integer",
        json_path = ".status.workloads",
        description = "How many workloads the policy is for now."
    ),
    printcolumn(
        name = "Denials",
        type_ = "integer",
        json_path = ".status.denialsLastHour",
        description = "How many calls the policy denied in the last hour."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "only one of targetRefs or selector can be set",
    "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1"
}]))]
pub struct AuthorizationPolicySpec {
    /// Which workloads the policy is for, by their labels; absent: all of the namespace, or of the mesh in the root
    /// namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// What the policy is attached to in place of workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    /// What the policy is attached to in place of workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 16))]
    pub target_refs: Option<Vec<TargetReference>>,
    /// What the policy matches: what one of the rules matches. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 512))]
    pub rules: Option<Vec<Rule>>,
    /// What happens to what the policy matches; ALLOW if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ActionName>")]
    pub action: Option<String>,
    /// Who decides about what a CUSTOM policy matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// The accepted texts of [`AuthorizationPolicySpec::action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum ActionName {
    // Without documentation of its own a variant stays part of one `enum` list in the schema.
    #[allow(
        missing_docs,
        reason = "see above; mesh_core::authorization::policy::Action says what each means"
    )]
    Allow,
    #[allow(missing_docs, reason = "as above")]
    Deny,
    #[allow(missing_docs, reason = "as above")]
    Audit,
    #[allow(missing_docs, reason = "as above")]
    Custom,
}

/// An extension provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provider {
    /// Its name among `meshConfig.extensionProviders`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Matches what a source, an operation and all conditions match; one without fields matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Sources, of which one must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 512))]
    pub from: Option<Vec<From>>,
    /// Operations, of which one must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<To>>,
    /// Conditions, which all must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Vec<Condition>>,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct From {
    /// Who sends; every field must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Who sends; every field must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "Cannot set serviceAccounts with namespaces or principals",
    "rule": "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) && !has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true"
}]))]
pub struct Source {
    /// Identities of certificates: TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principals: Option<Vec<String>>,
    /// None of these identities of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_principals: Option<Vec<String>>,
    /// Identities of tokens: ISSUER/SUBJECT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_principals: Option<Vec<String>>,
    /// None of these identities of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_request_principals: Option<Vec<String>>,
    /// Namespaces of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// None of these namespaces of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_namespaces: Option<Vec<String>>,
    /// Service accounts of certificates: NAMESPACE/NAME, or NAME in the policy's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<ServiceAccount>>", extend("maxItems" = 16))]
    pub service_accounts: Option<Vec<String>>,
    /// None of these service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<ServiceAccount>>", extend("maxItems" = 16))]
    pub not_service_accounts: Option<Vec<String>>,
    /// Addresses of the connection: an address or a CIDR range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_blocks: Option<Vec<String>>,
    /// None of these addresses of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ip_blocks: Option<Vec<String>>,
    /// Addresses of the client, as trusted proxies tell it: an address or a CIDR range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip_blocks: Option<Vec<String>>,
    /// None of these addresses of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_remote_ip_blocks: Option<Vec<String>>,
    /// Trust domains of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domains: Option<Vec<String>>,
    /// None of these trust domains of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_trust_domains: Option<Vec<String>>,
}

/// A service account.
#[derive(JsonSchema)]
#[schemars(extend("maxLength" = 320))]
struct ServiceAccount(#[allow(dead_code, reason = "only its schema is used")] String);

/// An operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct To {
    /// What is done; every field must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
}

/// What is done; every field must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Hosts of HTTP requests, without regard to case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// None of these hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_hosts: Option<Vec<String>>,
    /// Ports of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<String>>,
    /// None of these ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ports: Option<Vec<String>>,
    /// Methods of HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// None of these methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_methods: Option<Vec<String>>,
    /// Normalised paths of HTTP requests, without query; {*} stands for a segment, {**} for any number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// None of these paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_paths: Option<Vec<String>>,
}

/// A further condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["key"]))]
pub struct Condition {
    /// The name of an attribute, such as request.headers[NAME].
    #[serde(default)]
    pub key: String,
    /// Values, of which one must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Values, of which none may match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_values: Option<Vec<String>>,
}
