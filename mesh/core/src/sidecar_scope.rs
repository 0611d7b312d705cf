//! What a Sidecar resource lets its workloads see: which hosts of which namespaces on which ports, and whether they may call
//! what the mesh does not know.
//!
//! A [`Scope`] is a resource, parsed. [`Scopes`] holds those of the whole mesh and finds the one that a workload is under.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::labels::{Labels, Selector};

/// A Sidecar resource, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since the epoch: the oldest prevails.
    pub created: i64,
    /// `spec.workloadSelector`; `None` is every workload of the namespace.
    pub selector: Option<Selector>,
    /// `spec.egress`, in order; none is everything.
    pub egress: Vec<Egress>,
    /// `spec.outboundTrafficPolicy.mode`; `None` is the mesh's.
    pub outbound: Option<Outbound>,
}

/// One entry of `egress`: what is seen on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Which ports it is for.
    pub port: EgressPort,
    /// `hosts` that are seen.
    pub hosts: Vec<Import>,
    /// `hosts` that begin with `~`: those that are not, though others cover them.
    pub excluded: Vec<Import>,
}

/// Which ports an entry of `egress` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressPort {
    /// `port.number`: that one.
    Number(u16),
    /// None is said: those that no other entry names.
    Other,
    /// A Unix socket or a proxy of HTTP, which no captured connection reaches.
    Never,
}

/// One of `hosts`, `NAMESPACE/HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The namespace that the host is of.
    pub namespace: InNamespace,
    /// The host: a whole name, one that begins with `*.`, or `*`.
    pub host: Arc<str>,
}

/// A namespace of [`Import`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InNamespace {
    /// `*`: any.
    Any,
    /// `.`: the workload's own.
    Own,
    /// By name.
    Of(Arc<str>),
}

/// `outboundTrafficPolicy.mode`: what becomes of traffic to what the mesh does not know, or the workload does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// It passes.
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

impl Scope {
    /// Whether a workload of `client` sees a host that is of `namespace` on a port.
    #[must_use]
    pub fn shows(&self, host: &str, namespace: &str, port: u16, client: &str) -> bool {
        self.on(port)
            .is_none_or(|egress| egress.shows(host, namespace, client, covers))
    }

    /// Whether a workload of `client` sees a VirtualService of `namespace` that speaks for these hosts on a port. Unlike
    /// that of a Service, its host may also be a wildcard that covers one of `hosts`, as Istio has it.
    #[must_use]
    pub fn shows_routes<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
        namespace: &str,
        port: u16,
        client: &str,
    ) -> bool {
        self.on(port).is_none_or(|egress| {
            let overlap = |one: &str, other: &str| covers(one, other) || covers(other, one);
            hosts
                .into_iter()
                .any(|host| egress.shows(host, namespace, client, overlap))
        })
    }

    /// The hosts that it names in full: what its workloads are known to call.
    pub fn declared(&self) -> impl Iterator<Item = &Arc<str>> {
        let imports = self.egress.iter().flat_map(|egress| &egress.hosts);
        imports.map(|import| &import.host).filter(|host| !host.starts_with('*'))
    }

    /// The entry that decides about a port: `None` where there is none at all, and everything is seen.
    fn on(&self, port: u16) -> Option<&Egress> {
        const NOTHING: &Egress = &Egress {
            port: EgressPort::Other,
            hosts: Vec::new(),
            excluded: Vec::new(),
        };
        if self.egress.is_empty() {
            return None;
        }
        let of = |wanted: EgressPort| self.egress.iter().find(|egress| egress.port == wanted);
        Some(
            of(EgressPort::Number(port))
                .or_else(|| of(EgressPort::Other))
                .unwrap_or(NOTHING),
        )
    }

    /// Sorts before every resource of its namespace that it prevails over: those with a selector, then the oldest.
    fn precedence(&self) -> (bool, i64, &str) {
        (self.selector.is_none(), self.created, &self.name)
    }
}

impl Egress {
    fn shows(&self, host: &str, namespace: &str, client: &str, matches: impl Fn(&str, &str) -> bool) -> bool {
        let any = |list: &[Import], matches: &dyn Fn(&str, &str) -> bool| {
            list.iter()
                .any(|import| import.namespace.is(namespace, client) && matches(&import.host, host))
        };
        any(&self.hosts, &matches) && !any(&self.excluded, &covers)
    }
}

impl InNamespace {
    fn is(&self, namespace: &str, client: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Own => namespace == client,
            Self::Of(name) => namespace == &**name,
        }
    }
}

/// Whether every name that `host` stands for is one that `of` stands for.
fn covers(of: &str, host: &str) -> bool {
    match (of.strip_prefix('*'), host.strip_prefix('*')) {
        (Some(of), Some(host)) => host.ends_with(of),
        (Some(of), None) => host.ends_with(of),
        (None, Some(_)) => false,
        (None, None) => of == host,
    }
}

/// The Sidecar resources of the mesh.
#[derive(Debug, Clone, Default)]
pub struct Scopes {
    /// By namespace, those that prevail first.
    namespaces: BTreeMap<Arc<str>, Vec<Arc<Scope>>>,
}

impl Scopes {
    /// Puts a resource in, or takes it out.
    pub fn set(&mut self, namespace: &str, name: &str, scope: Option<Scope>) {
        let list = self.namespaces.entry(namespace.into()).or_default();
        list.retain(|scope| *scope.name != *name);
        list.extend(scope.map(Arc::new));
        list.sort_by(|one, other| one.precedence().cmp(&other.precedence()));
        if list.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// The resource that a workload is under: of its namespace one that selects it, then the one without a selector, and
    /// then the one without a selector of the root namespace; of several the oldest.
    #[must_use]
    pub fn of(&self, namespace: &str, labels: &Labels, root_namespace: &str) -> Option<&Arc<Scope>> {
        let own = self.namespaces.get(namespace).into_iter().flatten();
        let mut root = self.namespaces.get(root_namespace).into_iter().flatten();
        own.into_iter()
            .find(|scope| scope.selector.as_ref().is_none_or(|selector| selector.matches(labels)))
            .or_else(|| root.find(|scope| scope.selector.is_none()))
    }

    /// A resource by name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Scope>> {
        self.namespaces
            .get(namespace)?
            .iter()
            .find(|scope| *scope.name == *name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.namespaces.values().flatten()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: &str) -> Import {
        let (namespace, host) = text.split_once('/').unwrap();
        Import {
            namespace: match namespace {
                "*" => InNamespace::Any,
                "." => InNamespace::Own,
                name => InNamespace::Of(name.into()),
            },
            host: host.into(),
        }
    }

    fn egress(port: EgressPort, hosts: &[&str]) -> Egress {
        let (excluded, hosts): (Vec<&str>, Vec<&str>) = hosts.iter().partition(|host| host.starts_with('~'));
        Egress {
            port,
            hosts: hosts.into_iter().map(import).collect(),
            excluded: excluded.into_iter().map(|host| import(&host[1..])).collect(),
        }
    }

    fn scope(name: &str, created: i64, egress: Vec<Egress>) -> Scope {
        Scope {
            namespace: "web".into(),
            name: name.into(),
            created,
            selector: None,
            egress,
            outbound: None,
        }
    }

    #[test]
    fn hosts_are_seen_by_namespace_name_and_port() {
        const REVIEWS: &str = "reviews.shop.svc.cluster.local";
        let other = |hosts: &[&str]| vec![egress(EgressPort::Other, hosts)];
        for (list, host, namespace, port, expected) in [
            (vec![], REVIEWS, "shop", 80, true),
            (other(&["*/*"]), REVIEWS, "shop", 80, true),
            (other(&["./*"]), REVIEWS, "shop", 80, false),
            (other(&["./*"]), "a.web.svc.cluster.local", "web", 80, true),
            (other(&["shop/*"]), REVIEWS, "shop", 80, true),
            (other(&["shop/*"]), REVIEWS, "other", 80, false),
            (other(&["*/*.shop.svc.cluster.local"]), REVIEWS, "shop", 80, true),
            (
                other(&["shop/reviews.shop.svc.cluster.local"]),
                REVIEWS,
                "shop",
                80,
                true,
            ),
            (
                other(&["shop/ratings.shop.svc.cluster.local"]),
                REVIEWS,
                "shop",
                80,
                false,
            ),
            (other(&["*/*", "~shop/*"]), REVIEWS, "shop", 80, false),
            (other(&["*/*", "~*/*.internal"]), REVIEWS, "shop", 80, true),
            (
                vec![egress(EgressPort::Number(80), &["shop/*"])],
                REVIEWS,
                "shop",
                80,
                true,
            ),
            (
                vec![egress(EgressPort::Number(80), &["shop/*"])],
                REVIEWS,
                "shop",
                81,
                false,
            ),
            (vec![egress(EgressPort::Never, &["shop/*"])], REVIEWS, "shop", 80, false),
            (
                vec![
                    egress(EgressPort::Number(80), &["./*"]),
                    egress(EgressPort::Other, &["*/*"]),
                ],
                REVIEWS,
                "shop",
                80,
                false,
            ),
            (
                vec![
                    egress(EgressPort::Number(80), &["./*"]),
                    egress(EgressPort::Other, &["*/*"]),
                ],
                REVIEWS,
                "shop",
                81,
                true,
            ),
        ] {
            let scope = scope("s", 0, list);
            assert_eq!(scope.shows(host, namespace, port, "web"), expected, "{scope:?}");
        }
    }

    #[test]
    fn routes_for_a_wildcard_are_seen_where_one_host_of_it_is() {
        let scope = scope(
            "s",
            0,
            vec![egress(EgressPort::Other, &["shop/a.example.com", "~shop/*.hidden.com"])],
        );
        for (hosts, expected) in [
            (&["*.example.com"][..], true),
            (&["*.com"], true),
            (&["b.example.com"], false),
            (&["b.example.com", "a.example.com"], true),
            (&["x.hidden.com"], false),
        ] {
            assert_eq!(
                scope.shows_routes(hosts.iter().copied(), "shop", 80, "web"),
                expected,
                "{hosts:?}"
            );
        }
        assert!(!scope.shows("*.example.com", "shop", 80, "web"));
    }

    #[test]
    fn the_nearest_resource_counts() {
        let labels: Labels = [("app".to_owned(), "a".to_owned())].into();
        let mut scopes = Scopes::default();
        let name =
            |scopes: &Scopes, labels: &Labels| scopes.of("web", labels, "root").map(|scope| scope.name.to_string());
        assert!(scopes.is_empty() && name(&scopes, &labels).is_none());
        let selecting = |name: &str, labels: &Labels| Scope {
            selector: Some(Selector(labels.clone())),
            ..scope(name, 5, vec![])
        };
        scopes.set("root", "selecting", Some(selecting("selecting", &Labels::new())));
        assert_eq!(name(&scopes, &labels), None);
        scopes.set("root", "whole-mesh", Some(scope("whole-mesh", 9, vec![])));
        assert_eq!(name(&scopes, &labels).as_deref(), Some("whole-mesh"));
        scopes.set("web", "newer", Some(scope("newer", 2, vec![])));
        scopes.set("web", "older", Some(scope("older", 1, vec![])));
        assert_eq!(name(&scopes, &labels).as_deref(), Some("older"));
        scopes.set("web", "chosen", Some(selecting("chosen", &labels)));
        assert_eq!(name(&scopes, &labels).as_deref(), Some("chosen"));
        assert_eq!(name(&scopes, &Labels::new()).as_deref(), Some("older"));
        for gone in ["chosen", "older", "newer"] {
            scopes.set("web", gone, None);
        }
        assert_eq!(name(&scopes, &labels).as_deref(), Some("whole-mesh"));
    }
}
