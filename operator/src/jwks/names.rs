//! Names as the namespace of a policy sees them. The operator's own resolver would take short ones for names of its own
//! namespace.

use std::net::IpAddr;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;

/// Finds the addresses of names.
#[derive(Debug, Clone)]
pub struct Names {
    resolver: TokioResolver,
    cluster_domain: String,
}

impl Names {
    /// Resolves by `/etc/resolv.conf`'s servers.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn new(cluster_domain: &str) -> anyhow::Result<Self> {
        let resolver = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .context("/etc/resolv.conf")?;
        Ok(Self {
            resolver,
            cluster_domain: cluster_domain.to_owned(),
        })
    }

    /// The addresses of a host, which may be an address itself.
    ///
    /// # Errors
    /// When nothing has that name.
    pub async fn resolve(&self, host: &str, namespace: &str) -> anyhow::Result<Vec<IpAddr>> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let mut last = None;
        for name in candidates(host, namespace, &self.cluster_domain) {
            match self.resolver.lookup_ip(name.as_str()).await {
                Ok(found) => {
                    let found: Vec<IpAddr> = found.iter().collect();
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error).with_context(|| format!("the host {host}")),
            None => anyhow::bail!("the host {host} is not a name"),
        }
    }
}

/// The fully qualified names that a host may mean, in order: a name without dots is a Service of the namespace; one with
/// one dot a Service of another namespace or else a name of the world; longer ones are what they are.
fn candidates(host: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![format!("{absolute}.")];
    }
    match host.split('.').count() {
        1 => vec![format!("{host}.{namespace}.svc.{cluster_domain}.")],
        2 => vec![format!("{host}.svc.{cluster_domain}."), format!("{host}.")],
        _ if host.ends_with(".svc") => vec![format!("{host}.{cluster_domain}.")],
        _ => vec![format!("{host}.")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_of_the_policys_namespace() {
        for (host, expected) in [
            ("keycloak", &["keycloak.shop.svc.cluster.local."][..]),
            ("keycloak.auth", &["keycloak.auth.svc.cluster.local.", "keycloak.auth."]),
            ("keycloak.auth.svc", &["keycloak.auth.svc.cluster.local."]),
            ("keycloak.auth.svc.cluster.local", &["keycloak.auth.svc.cluster.local."]),
            ("accounts.google.com", &["accounts.google.com."]),
            ("keycloak.", &["keycloak."]),
        ] {
            assert_eq!(candidates(host, "shop", "cluster.local"), expected, "{host}");
        }
    }
}
