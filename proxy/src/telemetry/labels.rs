//! Istio's labels of a request or connection: who called whom, as which Service, and who says so.

use super::series::Labels;
use mesh_core::destination::Destination;
use mesh_core::identity::SpiffeId;
use mesh_core::workload::{Metadata, Workload};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// What stands for a value that is not known.
const UNKNOWN: &str = "unknown";

/// The most characters of a value: what clients write, such as `Host`, must not fill the page.
const MOST_CHARACTERS: usize = 256;

/// Which end of a call reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's sidecar.
    Source,
    /// The server's sidecar.
    Destination,
}

/// How a call came, which only the server's sidecar says (`connection_security_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Under mutual TLS.
    MutualTls,
    /// In the clear.
    None,
    /// Not said.
    Unknown,
}

impl Security {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
            Self::Unknown => UNKNOWN,
        }
    }
}

/// What stands for a destination where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Outside the mesh, as it was dialled.
    Passthrough,
    /// Outside the mesh and refused.
    BlackHole,
    /// Not known, because the control plane could not be asked.
    Unavailable,
}

impl Outside {
    /// Istio's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passthrough => "PassthroughCluster",
            Self::BlackHole => "BlackHoleCluster",
            Self::Unavailable => UNKNOWN,
        }
    }
}

/// What was called: `destination_service`, `_name` and `_namespace`. Empty texts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// The fully qualified name.
    pub host: Arc<str>,
    /// The name, or Istio's name of a cluster that stands for none.
    pub name: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
}

impl Service {
    /// The Service behind a destination; a pod that was called by its address is in none.
    #[must_use]
    pub fn of(destination: &Destination) -> Self {
        if destination.host.parse::<IpAddr>().is_ok() {
            return Self {
                namespace: destination.namespace.clone(),
                ..Self::outside(Outside::Passthrough, &destination.host)
            };
        }
        Self {
            host: destination.host.clone(),
            name: first_label(&destination.host).into(),
            namespace: destination.namespace.clone(),
        }
    }

    /// A Service of this pod by its fully qualified name, or none.
    #[must_use]
    pub fn own(host: Option<&Arc<str>>, own: &Metadata) -> Self {
        match host {
            Some(host) => Self {
                host: host.clone(),
                name: first_label(host).into(),
                namespace: (&*own.namespace).into(),
            },
            None => Self {
                host: (&*own.canonical_name).into(),
                name: "InboundPassthroughCluster".into(),
                namespace: (&*own.namespace).into(),
            },
        }
    }

    /// What is no destination; `host` is what the client calls it.
    #[must_use]
    pub fn outside(outside: Outside, host: &str) -> Self {
        Self {
            host: host.into(),
            name: outside.as_str().into(),
            namespace: "".into(),
        }
    }
}

fn first_label(host: &str) -> &str {
    host.split_once('.').map_or(host, |(first, _)| first)
}

/// The facts that labels are made of. Equal facts have equal labels, so that they are written once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Who reports.
    pub reporter: Reporter,
    /// The other end's workload.
    pub peer: Workload,
    /// Whom the other end proved to be.
    pub peer_identity: Option<SpiffeId>,
    /// What was called.
    pub service: Service,
    /// Whether the call came under mutual TLS.
    pub security: Security,
}

impl Subject {
    /// The labels, given this end's workload and, for a call under mutual TLS, its identity.
    #[must_use]
    pub fn labels(&self, own: &Workload, own_identity: Option<&SpiffeId>) -> Labels {
        let peer_namespace = match &self.peer_identity {
            Some(identity) => identity.namespace(),
            None => &self.peer.namespace,
        };
        let mutual = self.peer_identity.is_some();
        let peer = (&self.peer, peer_namespace, self.peer_identity.as_ref());
        let own = (own, &*own.namespace, own_identity.filter(|_| mutual));
        let (reporter, source, destination) = match self.reporter {
            Reporter::Source => ("source", own, peer),
            Reporter::Destination => ("destination", peer, own),
        };
        let mut text = String::with_capacity(1024);
        label(&mut text, "reporter", reporter);
        end(&mut text, "source", source);
        end(&mut text, "destination", destination);
        label(&mut text, "destination_service", &self.service.host);
        label(&mut text, "destination_service_name", &self.service.name);
        let namespace = if self.service.namespace.is_empty() {
            destination.1
        } else {
            &self.service.namespace
        };
        label(&mut text, "destination_service_namespace", namespace);
        Labels {
            common: text.into(),
            security: self.security.as_str(),
        }
    }

    /// The labels under which a reporter's calls are counted for which there is no room.
    #[must_use]
    pub fn other(reporter: Reporter) -> Labels {
        let mut text = String::new();
        let name = match reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        label(&mut text, "reporter", name);
        for end in ["source", "destination"] {
            for name in ENDS {
                let _ = write!(text, ",{end}_{name}=\"other\"");
            }
        }
        for name in ["service", "service_name", "service_namespace"] {
            let _ = write!(text, ",destination_{name}=\"other\"");
        }
        Labels {
            common: text.into(),
            security: "other",
        }
    }
}

/// The labels of each end.
const ENDS: [&str; 8] = [
    "workload",
    "workload_namespace",
    "principal",
    "app",
    "version",
    "canonical_service",
    "canonical_revision",
    "cluster",
];

fn end(text: &mut String, end: &str, (workload, namespace, identity): (&Workload, &str, Option<&SpiffeId>)) {
    let principal = identity.map(ToString::to_string).unwrap_or_default();
    let revision = match &*workload.canonical_revision {
        "" => "latest",
        revision => revision,
    };
    let values = [
        &*workload.name,
        namespace,
        &principal,
        &*workload.app,
        &*workload.version,
        &*workload.canonical_name,
        revision,
        &*workload.cluster,
    ];
    for (name, value) in ENDS.into_iter().zip(values) {
        text.push(',');
        let _ = write!(text, "{end}_{name}=");
        quoted(text, value);
    }
}

fn label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push('=');
    quoted(text, value);
}

/// A value between quotes, as Prometheus' text format escapes it.
fn quoted(text: &mut String, value: &str) {
    let value = if value.is_empty() { UNKNOWN } else { value };
    text.push('"');
    for character in value.chars().take(MOST_CHARACTERS) {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, namespace: &str) -> Workload {
        Metadata {
            name: name.into(),
            namespace: namespace.into(),
            app: name.into(),
            version: "v1".into(),
            canonical_name: name.into(),
            canonical_revision: "v1".into(),
            cluster: "Kubernetes".into(),
        }
        .into()
    }

    fn value<'a>(labels: &'a Labels, name: &str) -> &'a str {
        let start = format!("{name}=\"");
        let found = labels.common.split(',').find_map(|label| label.strip_prefix(&start));
        found
            .unwrap_or_else(|| panic!("no {name} in {}", labels.common))
            .trim_end_matches('"')
    }

    #[test]
    fn each_reporter_puts_itself_at_its_end() {
        let (own, peer) = (workload("web", "shop"), workload("reviews", "books"));
        let identity = |text: &str| text.parse::<SpiffeId>().unwrap();
        let (web, reviews) = (
            identity("spiffe://cluster.local/ns/shop/sa/web"),
            identity("spiffe://cluster.local/ns/books/sa/reviews"),
        );
        let service = Service {
            host: "reviews.books.svc.cluster.local".into(),
            name: "reviews".into(),
            namespace: "books".into(),
        };
        let subject = |reporter, peer_identity: Option<&SpiffeId>| Subject {
            reporter,
            peer: peer.clone(),
            peer_identity: peer_identity.cloned(),
            service: service.clone(),
            security: Security::Unknown,
        };
        let source = subject(Reporter::Source, Some(&reviews)).labels(&own, Some(&web));
        for (name, expected) in [
            ("reporter", "source"),
            ("source_workload", "web"),
            ("source_workload_namespace", "shop"),
            ("source_principal", "spiffe://cluster.local/ns/shop/sa/web"),
            ("source_canonical_service", "web"),
            ("destination_workload", "reviews"),
            ("destination_workload_namespace", "books"),
            ("destination_principal", "spiffe://cluster.local/ns/books/sa/reviews"),
            ("destination_app", "reviews"),
            ("destination_version", "v1"),
            ("destination_canonical_revision", "v1"),
            ("destination_cluster", "Kubernetes"),
            ("destination_service", "reviews.books.svc.cluster.local"),
            ("destination_service_name", "reviews"),
            ("destination_service_namespace", "books"),
        ] {
            assert_eq!(value(&source, name), expected, "{name}");
        }
        let destination = subject(Reporter::Destination, None).labels(&own, Some(&web));
        for (name, expected) in [
            ("reporter", "destination"),
            ("source_workload", "reviews"),
            ("source_principal", "unknown"),
            ("destination_workload", "web"),
            ("destination_principal", "unknown"),
        ] {
            assert_eq!(value(&destination, name), expected, "{name}");
        }
        let names = |labels: &Labels| {
            labels
                .common
                .split(',')
                .map(|l| l.split('=').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&source),
            names(&Subject::other(Reporter::Source)),
            "the labels are always the same"
        );
    }

    #[test]
    fn what_is_missing_is_unknown_and_what_is_odd_escaped() {
        let subject = Subject {
            reporter: Reporter::Source,
            peer: Workload::default(),
            peer_identity: None,
            service: Service::outside(Outside::Passthrough, "a\"b\\c\nd"),
            security: Security::Unknown,
        };
        let labels = subject.labels(&Workload::default(), None);
        assert_eq!(value(&labels, "destination_workload"), "unknown");
        assert_eq!(value(&labels, "destination_canonical_revision"), "latest");
        assert_eq!(value(&labels, "destination_service_namespace"), "unknown");
        assert_eq!(value(&labels, "destination_service_name"), "PassthroughCluster");
        assert!(labels.common.contains("destination_service=\"a\\\"b\\\\c\\nd\""));
    }
}
