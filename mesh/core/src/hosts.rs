//! The names under which a Service is called, and the name that a Host header means as seen from a namespace.

/// The fully qualified name that a host means to a client in `client_namespace`: `reviews` and `reviews.shop` and
/// `reviews.shop.svc` are `reviews.shop.svc.cluster.local`.
///
/// Answers `None` for a host that cannot be one of a Service: an empty one, an IP address, or a name that ends elsewhere.
/// Three labels that do not end in `svc` are the name of a pod of a headless Service (`pod.service.namespace`) or a name
/// outside; [`candidates`] covers both.
#[must_use]
pub fn candidates(host: &str, client_namespace: &str, cluster_domain: &str) -> Vec<ServiceHost> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let relative = match host
        .strip_suffix(cluster_domain)
        .and_then(|rest| rest.strip_suffix(".svc."))
    {
        Some(rest) => Some(rest),
        None => host.strip_suffix(".svc"),
    };
    let qualified = relative.is_some();
    let labels: Vec<&str> = relative.unwrap_or(host).split('.').collect();
    if labels.iter().any(|label| label.is_empty() || label.len() > 63) {
        return Vec::new();
    }
    let service = |name: &str, namespace: &str| ServiceHost {
        pod: None,
        service: name.to_owned(),
        namespace: namespace.to_owned(),
    };
    let of_pod = |pod: &str, name: &str, namespace: &str| ServiceHost {
        pod: Some(pod.to_owned()),
        service: name.to_owned(),
        namespace: namespace.to_owned(),
    };
    // The resolver's search list (NAMESPACE.svc.DOMAIN, svc.DOMAIN, DOMAIN) tries the client's namespace first.
    match (labels.as_slice(), qualified) {
        ([name], false) => vec![service(name, client_namespace)],
        ([name, second], false) => vec![of_pod(name, second, client_namespace), service(name, second)],
        ([name, namespace], true) => vec![service(name, namespace)],
        ([pod, name, namespace], _) => vec![of_pod(pod, name, namespace)],
        _ => Vec::new(),
    }
}

/// A Service, or a pod of a headless one, that a host may mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceHost {
    /// The pod's `hostname`, for `pod.service` names of a headless Service.
    pub pod: Option<String>,
    /// The Service's name.
    pub service: String,
    /// The Service's namespace.
    pub namespace: String,
}

/// The fully qualified host of a Service, `NAME.NAMESPACE.svc.DOMAIN`.
#[must_use]
pub fn fqdn(service: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{service}.{namespace}.svc.{cluster_domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_services_name() {
        let shop = |pod: Option<&str>, service: &str, namespace: &str| ServiceHost {
            pod: pod.map(Into::into),
            service: service.into(),
            namespace: namespace.into(),
        };
        for (host, expected) in [
            ("reviews", vec![shop(None, "reviews", "client")]),
            (
                "reviews.shop",
                vec![shop(Some("reviews"), "shop", "client"), shop(None, "reviews", "shop")],
            ),
            ("reviews.shop.svc", vec![shop(None, "reviews", "shop")]),
            ("reviews.shop.svc.cluster.local", vec![shop(None, "reviews", "shop")]),
            ("reviews.shop.svc.cluster.local.", vec![shop(None, "reviews", "shop")]),
            ("db-0.db.shop.svc.cluster.local", vec![shop(Some("db-0"), "db", "shop")]),
            ("db-0.db.shop.svc", vec![shop(Some("db-0"), "db", "shop")]),
            ("db-0.db.shop", vec![shop(Some("db-0"), "db", "shop")]),
            ("", vec![]),
            ("a..b", vec![]),
            ("www.an.example.com", vec![]),
        ] {
            assert_eq!(candidates(host, "client", "cluster.local"), expected, "{host}");
        }
    }
}
