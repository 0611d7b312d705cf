//! What becomes of calls between two workloads, port by port, with the functions by which the operator tells clients of
//! endpoints and sidecars secure connections.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh_core::call::{self, Server, Transport};
use mesh_core::candidates;
use mesh_core::client_tls::{TlsRule, brings_mutual_tls};
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::destination_rule::{Place, Rules};
use mesh_core::hosts::fqdn;
use mesh_core::identity::SpiffeId;
use mesh_core::peer_authentication::Effective;
use mesh_core::protocol::Declared;

use super::super::manifests::Manifests;
use super::super::workloads::{Estate, Service, Workload};
use super::{Answer, Named, Port};

/// What the files say.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) workloads: Vec<Workload>,
    /// Namespaces of workloads of which the files say nothing.
    pub(super) unknown: Vec<String>,
    manifests: Manifests,
    services: Vec<Service>,
    rules: Rules,
    /// The modes in force on each workload, by its title.
    modes: HashMap<String, Effective>,
    cluster_domain: String,
    system: String,
}

impl Mesh {
    /// Takes what was read.
    pub(super) fn new(mut estate: Estate, mut manifests: Manifests, system: &str) -> Self {
        let (workloads, unknown) = estate.workloads(system);
        let cluster_domain = estate.cluster_domain().to_owned();
        let mut rules = Rules::default();
        for rule in std::mem::take(&mut manifests.destination_rules) {
            let (namespace, name) = (rule.namespace.clone(), rule.name.clone());
            rules.set(&namespace, &name, Some(rule), &cluster_domain);
        }
        let root = manifests.config.root_namespace(system);
        let modes =
            |it: &Workload| candidates::effective(&manifests.peer, &manifests.tried, root, &it.namespace, &it.labels);
        Self {
            modes: workloads.iter().map(|it| (it.title(), modes(it))).collect(),
            workloads,
            unknown,
            services: estate.services,
            manifests,
            rules,
            cluster_domain,
            system: system.to_owned(),
        }
    }

    /// Adds what becomes of calls of `source` to `destination`: one answer, or as many as ports differ in.
    pub(super) fn answers(&self, source: &Workload, destination: &Workload, answers: &mut Vec<Answer>) {
        let of_pair = answers.len();
        for call in self.calls(destination) {
            let answer = self.answer(source, destination, call);
            let same = answers[of_pair..].iter_mut().find(|held| {
                (held.decision, &held.reason, &held.mode) == (answer.decision, &answer.reason, &answer.mode)
                    && held.decided_by == answer.decided_by
            });
            match same {
                Some(held) => held.ports.extend(answer.ports),
                None => answers.push(answer),
            }
        }
    }

    /// How a workload may be called: through each port of its Services; and by its address on ports that have no Service and are
    /// named by its containers or have a mode of their own. One that has neither is called on any port.
    fn calls<'a>(&'a self, destination: &Workload) -> Vec<Call<'a>> {
        let mut calls = Vec::new();
        let mut served = BTreeSet::new();
        for service in &self.services {
            for (port, target) in service.leads_to(destination) {
                served.insert(target);
                calls.push(Call {
                    service: Some(service),
                    port: Some((port, target)),
                });
            }
        }
        let named = destination.ports.keys();
        let modes = self.modes.get(&destination.title());
        let with_modes = modes.into_iter().flat_map(|modes| modes.ports.keys());
        let others: BTreeSet<u16> = named
            .chain(with_modes)
            .copied()
            .filter(|port| !served.contains(port))
            .collect();
        calls.extend(others.into_iter().map(|port| Call {
            service: None,
            port: Some((port, port)),
        }));
        if calls.is_empty() {
            calls.push(Call {
                service: None,
                port: None,
            });
        }
        calls
    }

    fn answer(&self, source: &Workload, destination: &Workload, called: Call<'_>) -> Answer {
        let config = &self.manifests.config;
        let port = called.port;
        let target = port.map_or(0, |(_, target)| target);
        let modes = self.modes.get(&destination.title());
        let mode = modes.map(|modes| modes.on_port(target)).unwrap_or_default();
        // The rules that govern a client are its sidecar's to follow.
        let rule = self.rule(source, called).filter(|_| source.sidecar());
        let brings = brings_mutual_tls(
            rule.as_ref(),
            config.enable_auto_mtls,
            destination.takes_mutual_tls(),
            || mode,
        );
        let identity = SpiffeId::new(
            config.trust_domain.clone(),
            &destination.namespace,
            &destination.service_account,
        );
        let identity = identity.ok().filter(|_| brings || destination.takes_mutual_tls());
        let endpoint = Endpoint {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target),
            mutual_tls: brings && identity.is_some(),
            identity: identity.clone(),
            workload: mesh_core::workload::Workload::default(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        };
        let described = Destination {
            host: destination.name.as_str().into(),
            namespace: destination.namespace.as_str().into(),
            port: port.map_or(0, |(port, _)| port),
            protocol: Declared::Detect,
            resolution: Resolution::Balanced,
            endpoints: Vec::new(),
            unready: Vec::new(),
            identities: identity.into_iter().collect(),
            tls: rule,
            ..Destination::default()
        };
        let server = Server {
            sidecar: destination.sidecar(),
            mode,
        };
        let automatic = config.enable_auto_mtls;
        let (transport, reason) = call::decide(source.sidecar(), automatic, &described, &endpoint, server);
        let mut decided_by = Vec::new();
        if destination.sidecar() {
            let policies = modes.map(|modes| modes.decided_on(target)).unwrap_or_default();
            decided_by.extend(policies.iter().map(|key| format!("PeerAuthentication/{key}")));
        }
        match &described.tls {
            Some(rule) => decided_by.push(format!("DestinationRule/{}", rule.rule)),
            None if !automatic && source.sidecar() && destination.sidecar() => {
                decided_by.push(format!("ConfigMap/{}/istio", self.system));
            }
            None => {}
        }
        Answer {
            source: Named::from(source),
            destination: Named::from(destination),
            ports: port
                .into_iter()
                .map(|(port, target_port)| Port {
                    service: called.service.map(|it| format!("{}/{}", it.namespace, it.name)),
                    port,
                    target_port,
                })
                .collect(),
            decision: match transport {
                Transport::Plaintext => "plaintext",
                Transport::MutualTls => "mTLS",
                Transport::Tls => "TLS",
                Transport::Refused => "refused",
            },
            reason: reason.to_string(),
            mode: destination.sidecar().then(|| mode.to_string()),
            decided_by,
        }
    }

    /// What the DestinationRule that governs a client says of TLS. They are for Services: a pod that is called by its own address
    /// has none.
    fn rule(&self, client: &Workload, called: Call<'_>) -> Option<TlsRule> {
        let (service, (port, _)) = (called.service?, called.port?);
        let host = fqdn(&service.name, &service.namespace, &self.cluster_domain);
        let governing = self.rules.governing(&Place {
            client: &client.namespace,
            labels: &client.labels,
            host: &host,
            service: &service.namespace,
            root: self.manifests.config.root_namespace(&self.system),
        });
        governing?.tls_rule(port)
    }
}

/// How a workload is called.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    service: Option<&'a Service>,
    /// The port that is dialled, and the workload's; none: any.
    port: Option<(u16, u16)>,
}
