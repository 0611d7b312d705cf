//! What this operator was installed as: the ServiceAccount that it runs under stands for the release, and others like it in
//! the same namespace for other releases.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tracing::{debug, warn};

/// What the ServiceAccounts of all operators are called, before a revision's suffix.
const OPERATOR: &str = "pinnace-operator";

/// The ServiceAccount as an owner, so that what it owns goes when the chart is uninstalled; `None` where it cannot be read.
pub async fn owner(client: &Client, namespace: &str, service_account: &str) -> Option<OwnerReference> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    match accounts.get_metadata(service_account).await {
        Ok(found) => Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ServiceAccount".to_owned(),
            name: service_account.to_owned(),
            uid: found.uid()?,
            ..OwnerReference::default()
        }),
        Err(error) => {
            debug!(service_account, %error, "the operator's own ServiceAccount cannot be read: its Lease stays after an uninstall");
            None
        }
    }
}

/// Says in the log which other control planes there are in this namespace: all of them write the same Secrets.
pub async fn report_others(client: &Client, namespace: &str, service_account: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let names = match accounts.list_metadata(&ListParams::default()).await {
        Ok(found) => found.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        Err(error) => {
            debug!(%error, "other control planes cannot be looked for");
            return;
        }
    };
    let others = others(&names, service_account);
    if !others.is_empty() {
        warn!(
            namespace,
            others = others.join(", "),
            "other control planes of this namespace write the same Secrets of service accounts: give all of them the same \
             workloadCertTTL and meshConfig.trustDomain, or each replaces what the other has issued"
        );
    }
}

/// The operators among ServiceAccounts, but for our own.
fn others<'a>(names: &'a [String], own: &str) -> Vec<&'a str> {
    let is_operator = |name: &str| {
        name.strip_prefix(OPERATOR)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let found = names.iter().map(String::as_str);
    found.filter(|name| *name != own && is_operator(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_control_planes_are_known_by_their_names() {
        let names = [
            "default",
            "pinnace-operator",
            "pinnace-operator-canary",
            "pinnace-operators",
            "pinnace-webhook",
        ];
        let names = names.map(ToOwned::to_owned);
        assert_eq!(others(&names, "pinnace-operator"), ["pinnace-operator-canary"]);
        assert_eq!(others(&names, "pinnace-operator-canary"), ["pinnace-operator"]);
        assert!(others(&names[..2], "pinnace-operator").is_empty());
    }
}
