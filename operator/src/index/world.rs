//! The records and the maps that find them. Every method that applies an event says what it touched.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use mesh_core::authorization::policy::{Policy as AuthorizationPolicy, Target as PolicyTarget};
use mesh_core::candidates::Candidacy;
use mesh_core::destination_rule::{Merged, Place, Rule, Rules, resolve_host};
use mesh_core::hosts::fqdn;
use mesh_core::jwt::{KeyOrigin, Rule as JwtRule};
use mesh_core::labels::Labels;
use mesh_core::peer_authentication::{Effective, Policy, effective, under_strict};
use mesh_core::routing::{VirtualService, VirtualServices};
use mesh_core::service_entry::{ServiceEntry, WorkloadEntry};
use mesh_core::sidecar_scope::{Scope, Scopes};
use mesh_core::traffic::Locality;
use mesh_wire::request_authentication::Jwks;

use super::changes::{Changed, Key, Named};
use super::enforced::Enforced;
use super::entries::Entries;
use super::hosted::aliases_of;
use super::records::{PodRecord, ServiceRecord, SliceEndpoint, SliceRecord};

/// All that is known of the cluster.
#[derive(Debug, Default)]
pub struct World {
    pods: HashMap<Named, PodRecord>,
    pod_at: HashMap<IpAddr, Named>,
    /// The pods of a service account whose sidecars read its Secret.
    users: HashMap<Named, BTreeSet<Arc<str>>>,
    services: HashMap<Named, ServiceRecord>,
    service_at: HashMap<IpAddr, Named>,
    slices: HashMap<Named, SliceRecord>,
    slices_of: HashMap<Named, BTreeSet<Arc<str>>>,
    /// Which Services an address is an endpoint of, with the number of slices that say so.
    endpoint_of: HashMap<IpAddr, BTreeMap<Named, usize>>,
    /// Where nodes are, of those that say it.
    nodes: HashMap<Arc<str>, Arc<Locality>>,
    policies: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Policy>>,
    destination_rules: Rules,
    virtual_services: VirtualServices,
    scopes: Scopes,
    enforced: Enforced,
    entries: Entries,
    /// The hosts that ExternalName Services are other names of.
    aliases: HashMap<Named, Arc<str>>,
    /// The same the other way.
    aliases_of: HashMap<Arc<str>, BTreeSet<Named>>,
}

impl World {
    /// Takes a pod, new or changed (`Some`), or its end.
    pub fn pod(&mut self, name: &Named, record: Option<PodRecord>) -> Changed {
        let mut changed = Changed::default();
        let before = self.pods.remove(name);
        // What only concerns the kubelet is no change for any proxy.
        let same = match (&before, &record) {
            (Some(before), Some(now)) => {
                let mut before = before.clone();
                before.told_serial.clone_from(&now.told_serial);
                // Readiness is for slices to tell; only what selects pods by itself goes by it.
                before.ready = now.ready;
                before == *now
            }
            (None, None) => true,
            _ => false,
        };
        if let Some(before) = &before {
            for address in &before.addresses {
                if self.pod_at.get(address) == Some(name) {
                    self.pod_at.remove(address);
                }
                self.touch_address(*address, &mut changed);
            }
            for address in &before.host_addresses {
                self.touch_address(*address, &mut changed);
            }
            let account = (name.0.clone(), before.service_account.clone());
            if let Some(users) = self.users.get_mut(&account) {
                users.remove(&name.1);
                if users.is_empty() {
                    self.users.remove(&account);
                }
            }
        }
        let mut selecting = Changed::default();
        for record in before.iter().chain(&record) {
            self.entries.touch_selecting(&name.0, &record.labels, &mut selecting);
        }
        let as_ready = before.as_ref().map(|pod| pod.ready) == record.as_ref().map(|pod| pod.ready);
        if let Some(record) = record {
            for address in &record.addresses {
                self.pod_at.insert(*address, name.clone());
                self.touch_address(*address, &mut changed);
            }
            for address in &record.host_addresses {
                self.touch_address(*address, &mut changed);
            }
            if record.uses_certificate {
                let account = (name.0.clone(), record.service_account.clone());
                self.users.entry(account).or_default().insert(name.1.clone());
            }
            self.pods.insert(name.clone(), record);
        }
        if same {
            return if as_ready { Changed::default() } else { selecting };
        }
        changed.merge(selecting);
        changed.keys.insert(Key::Pod(name.clone()));
        changed
    }

    /// Takes where a node is, or its end.
    pub fn set_node(&mut self, name: &Arc<str>, locality: Option<Locality>) -> Changed {
        let mut changed = Changed::default();
        if self.nodes.get(name).map(|held| &**held) == locality.as_ref() {
            return changed;
        }
        match locality {
            Some(locality) => self.nodes.insert(name.clone(), Arc::new(locality)),
            None => self.nodes.remove(name),
        };
        for (pod, record) in self
            .pods
            .iter()
            .filter(|(_, record)| record.node.as_ref() == Some(name))
        {
            for address in record.addresses.iter().chain(&record.host_addresses) {
                self.touch_address(*address, &mut changed);
            }
            changed.keys.insert(Key::Pod(pod.clone()));
        }
        changed
    }

    /// Takes a ServiceEntry or its end.
    pub fn service_entry(&mut self, name: &Named, entry: Option<ServiceEntry>) -> Changed {
        self.entries.set(name, entry)
    }

    /// Takes a WorkloadEntry or its end.
    pub fn workload_entry(&mut self, name: &Named, workload: Option<WorkloadEntry>) -> Changed {
        self.entries.set_workload(name, workload)
    }

    /// The ServiceEntries and WorkloadEntries.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Takes the host that an ExternalName Service is another name of, or the end of that.
    pub fn alias(&mut self, name: &Named, host: Option<Arc<str>>) -> Changed {
        let mut changed = Changed::default();
        let before = match &host {
            Some(host) => self.aliases.insert(name.clone(), host.clone()),
            None => self.aliases.remove(name),
        };
        if before == host {
            return changed;
        }
        if let Some(before) = before
            && let Some(names) = self.aliases_of.get_mut(&before)
        {
            names.remove(name);
            if names.is_empty() {
                self.aliases_of.remove(&before);
            }
        }
        if let Some(host) = host {
            self.aliases_of.entry(host).or_default().insert(name.clone());
        }
        changed.keys.insert(Key::Service(name.clone()));
        changed
    }

    /// The host that an ExternalName Service is another name of.
    #[must_use]
    pub fn alias_of(&self, name: &Named) -> Option<&Arc<str>> {
        self.aliases.get(name)
    }

    /// The names of all ExternalName Services.
    pub fn alias_names(&self) -> impl Iterator<Item = &Named> {
        self.aliases.keys()
    }

    /// Adds to changes the ExternalName Services that are other names of what changed.
    pub fn touch_aliases(&self, changed: &mut Changed, cluster_domain: &str) {
        if self.aliases.is_empty() || changed.all {
            return;
        }
        let name = |service: &Named| fqdn(&service.1, &service.0, cluster_domain);
        let of = |host: &str| self.aliases_of.get(host).into_iter().flatten().collect();
        let mut touched = BTreeSet::new();
        for key in &changed.keys {
            match key {
                Key::Service(service) => touched.extend(aliases_of(of, &name(service), name)),
                Key::Host(host) => match host.strip_prefix('*') {
                    Some(suffix) => {
                        let covered = self.aliases_of.keys().filter(|host| host.ends_with(suffix));
                        touched.extend(covered.flat_map(|host| aliases_of(of, host, name)));
                    }
                    None => touched.extend(aliases_of(of, host, name)),
                },
                Key::Address(_) | Key::AnyAddress | Key::Wildcards | Key::Pod(_) | Key::Enforced(_) => {}
            }
        }
        changed.keys.extend(touched.into_iter().map(Key::Service));
    }

    /// The ready pods that a ServiceEntry selects.
    pub fn pods_selected_by<'a>(&'a self, entry: &'a ServiceEntry) -> impl Iterator<Item = (&'a Named, &'a PodRecord)> {
        self.pods.iter().filter(|(name, pod)| {
            let selector = entry.selector.as_ref();
            name.0 == entry.namespace && pod.ready && selector.is_some_and(|selector| selector.matches(&pod.labels))
        })
    }

    /// Takes a Service or its end.
    pub fn service(&mut self, name: &Named, record: Option<ServiceRecord>) -> Changed {
        let mut changed = Changed::default();
        let before = self.services.remove(name);
        let same = before == record;
        let known_before = before.is_some();
        if let Some(before) = before {
            for address in before.addresses {
                if self.service_at.get(&address) == Some(name) {
                    self.service_at.remove(&address);
                }
                changed.keys.insert(Key::Address(address));
            }
        }
        if let Some(record) = record {
            for address in &record.addresses {
                self.service_at.insert(*address, name.clone());
            }
            self.services.insert(name.clone(), record);
        }
        if same {
            return Changed::default();
        }
        self.touch_service(name, &mut changed);
        // A wildcard that matches a Service is for Services alone.
        if known_before != self.services.contains_key(name) && self.virtual_services.has_wildcards() {
            changed.keys.insert(Key::Wildcards);
        }
        // What a Service declares of a port is also what its pods' own proxies go by.
        for address in self.addresses_behind(name) {
            self.touch_pod_at(address, &mut changed);
        }
        changed
    }

    /// Takes an EndpointSlice or its end.
    pub fn slice(&mut self, name: &Named, record: Option<SliceRecord>) -> Changed {
        let mut changed = Changed::default();
        let before = self.slices.remove(name);
        let same = before == record;
        let mut affected: HashSet<IpAddr> = HashSet::new();
        if let Some(before) = before {
            for endpoint in &before.endpoints {
                affected.insert(endpoint.address);
                if let Some(services) = self.endpoint_of.get_mut(&endpoint.address) {
                    if let Some(count) = services.get_mut(&before.service) {
                        *count -= 1;
                        if *count == 0 {
                            services.remove(&before.service);
                        }
                    }
                    if services.is_empty() {
                        self.endpoint_of.remove(&endpoint.address);
                    }
                }
            }
            if let Some(slices) = self.slices_of.get_mut(&before.service) {
                slices.remove(&name.1);
                if slices.is_empty() {
                    self.slices_of.remove(&before.service);
                }
            }
            self.touch_service(&before.service, &mut changed);
        }
        if let Some(record) = record {
            for endpoint in &record.endpoints {
                affected.insert(endpoint.address);
                let services = self.endpoint_of.entry(endpoint.address).or_default();
                *services.entry(record.service.clone()).or_default() += 1;
            }
            self.slices_of
                .entry(record.service.clone())
                .or_default()
                .insert(name.1.clone());
            self.touch_service(&record.service, &mut changed);
            self.slices.insert(name.clone(), record);
        }
        if same {
            return Changed::default();
        }
        for address in affected {
            self.touch_pod_at(address, &mut changed);
        }
        changed
    }

    /// Takes a PeerAuthentication or its end.
    pub fn policy(&mut self, name: &Named, policy: Option<Policy>, root_namespace: &str) -> Changed {
        let of_namespace = self.policies.entry(name.0.clone()).or_default();
        let same = of_namespace.get(&name.1) == policy.as_ref();
        match policy {
            Some(policy) => {
                of_namespace.insert(name.1.clone(), policy);
            }
            None => {
                of_namespace.remove(&name.1);
                if of_namespace.is_empty() {
                    self.policies.remove(&name.0);
                }
            }
        }
        let mut changed = Changed::default();
        if same {
            return changed;
        }
        if &*name.0 == root_namespace {
            changed.all = true;
            return changed;
        }
        let concerned: Vec<Named> = self.pods.keys().filter(|pod| pod.0 == name.0).cloned().collect();
        for pod in concerned {
            for address in self
                .pods
                .get(&pod)
                .map(|record| record.addresses.clone())
                .unwrap_or_default()
            {
                self.touch_address(address, &mut changed);
            }
            changed.keys.insert(Key::Pod(pod));
        }
        self.entries.touch_namespace(&name.0, &mut changed);
        changed
    }

    /// Takes an AuthorizationPolicy or its end.
    pub fn authorization_policy(
        &mut self,
        name: &Named,
        policy: Option<(PolicyTarget, AuthorizationPolicy)>,
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.authorization_mut().set(name, policy);
        self.touch_targets(concerned.iter().map(|target| (name, target)), root_namespace)
    }

    /// Takes what holds in the place of an AuthorizationPolicy that does not parse, unless an earlier form of it did.
    pub fn unparsed_authorization_policy(
        &mut self,
        name: &Named,
        strictest: (PolicyTarget, AuthorizationPolicy),
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.authorization_mut().set_unless_good(name, strictest);
        self.touch_targets(concerned.iter().map(|target| (name, target)), root_namespace)
    }

    /// Takes a RequestAuthentication's target and rules, or its end.
    pub fn request_authentication(
        &mut self,
        name: &Named,
        policy: Option<(PolicyTarget, Vec<JwtRule>)>,
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.tokens_mut().set(name, policy);
        self.touch_targets(concerned.iter().map(|target| (name, target)), root_namespace)
    }

    /// Takes what holds in the place of a RequestAuthentication that does not parse, unless an earlier form of it did.
    pub fn unparsed_request_authentication(
        &mut self,
        name: &Named,
        strictest: (PolicyTarget, Vec<JwtRule>),
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.tokens_mut().set_unless_good(name, strictest);
        self.touch_targets(concerned.iter().map(|target| (name, target)), root_namespace)
    }

    /// Takes a PeerAuthentication that is a candidate, or its end.
    pub fn candidate_policy(
        &mut self,
        name: &Named,
        candidate: Option<Candidacy<Policy>>,
        root_namespace: &str,
    ) -> Changed {
        let candidate = candidate.map(|candidate| {
            let target = PolicyTarget {
                selector: candidate.policy.selector.clone(),
                refs: false,
            };
            (target, candidate)
        });
        let concerned = self.enforced.candidates_mut().peers.set(name, candidate);
        self.touch_candidates(name, &concerned, root_namespace)
    }

    /// Takes an AuthorizationPolicy that is a candidate, or its end.
    pub fn candidate_authorization_policy(
        &mut self,
        name: &Named,
        candidate: Option<(PolicyTarget, Candidacy<AuthorizationPolicy>)>,
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.candidates_mut().authorization.set(name, candidate);
        self.touch_candidates(name, &concerned, root_namespace)
    }

    /// Takes a RequestAuthentication that is a candidate, or its end.
    pub fn candidate_request_authentication(
        &mut self,
        name: &Named,
        candidate: Option<(PolicyTarget, Candidacy<Vec<JwtRule>>)>,
        root_namespace: &str,
    ) -> Changed {
        let concerned = self.enforced.candidates_mut().tokens.set(name, candidate);
        self.touch_candidates(name, &concerned, root_namespace)
    }

    /// Takes the keys that were fetched from an origin, why there are none, or nothing once nobody asks for them.
    pub fn keys(&mut self, origin: &KeyOrigin, keys: Option<Jwks>, root_namespace: &str) -> Changed {
        let concerned = self.enforced.set_keys(origin, keys);
        self.touch_targets(concerned.iter().map(|(name, target)| (name, target)), root_namespace)
    }

    /// What pods' own proxies enforce beside PeerAuthentication.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// How many of the pods that have a sidecar a policy is for.
    #[must_use]
    pub fn workloads(&self, name: &Named, target: &PolicyTarget, root_namespace: &str) -> usize {
        self.pods_of(name, target, root_namespace)
            .filter(|(_, record)| record.uses_certificate)
            .count()
    }

    /// Takes a DestinationRule or its end.
    pub fn destination_rule(&mut self, name: &Named, rule: Option<Rule>, cluster_domain: &str) -> Changed {
        let mut changed = Changed::default();
        let before = self
            .destination_rules
            .get(&name.0, &name.1)
            .map(|rule| rule.host.clone());
        let now = rule.as_ref().map(|rule| rule.host.clone());
        if !self.destination_rules.set(&name.0, &name.1, rule, cluster_domain) {
            return changed;
        }
        let hosts: BTreeSet<String> = [before, now]
            .into_iter()
            .flatten()
            .map(|host| resolve_host(&host, &name.0, cluster_domain))
            .collect();
        for host in hosts {
            for service in self.services_of_host(&host, cluster_domain) {
                self.touch_service(&service, &mut changed);
            }
            self.entries.touch_host(&host, &mut changed);
        }
        changed
    }

    /// Takes a VirtualService or its end.
    pub fn virtual_service(&mut self, name: &Named, service: Option<VirtualService>, cluster_domain: &str) -> Changed {
        let mut changed = Changed::default();
        let hosts = self.virtual_services.set(&name.0, &name.1, service, cluster_domain);
        for host in hosts {
            for service in self.services_of_host(&host, cluster_domain) {
                self.touch_service(&service, &mut changed);
            }
            changed.keys.insert(if host.starts_with('*') {
                Key::Wildcards
            } else {
                Key::Host(host)
            });
        }
        changed
    }

    /// Resolves the hosts of DestinationRules and VirtualServices anew, for another domain of the cluster.
    pub fn set_cluster_domain(&mut self, cluster_domain: &str) {
        self.destination_rules.set_cluster_domain(cluster_domain);
        self.virtual_services.set_cluster_domain(cluster_domain);
    }

    /// The VirtualServices.
    #[must_use]
    pub fn virtual_services(&self) -> &VirtualServices {
        &self.virtual_services
    }

    /// Takes a Sidecar resource or its end.
    pub fn sidecar(&mut self, name: &Named, scope: Option<Scope>, root_namespace: &str) -> Changed {
        let before = self.scopes.get(&name.0, &name.1);
        if before.map(|scope| &**scope) == scope.as_ref() {
            return Changed::default();
        }
        self.scopes.set(&name.0, &name.1, scope);
        self.pods_under(&name.0, root_namespace)
    }

    /// The pods that a Sidecar resource of a namespace may be for: of every one where that is the root namespace.
    #[must_use]
    pub(super) fn pods_under(&self, namespace: &str, root_namespace: &str) -> Changed {
        let all = namespace == root_namespace;
        let pods = self.pods.keys().filter(|pod| all || *pod.0 == *namespace);
        Changed {
            keys: pods.map(|pod| Key::Pod(pod.clone())).collect(),
            ..Changed::default()
        }
    }

    /// The names of all Sidecar resources.
    pub fn sidecar_names(&self) -> impl Iterator<Item = Named> {
        self.scopes
            .all()
            .map(|scope| (scope.namespace.clone(), scope.name.clone()))
    }

    /// The Sidecar resources.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The names of all VirtualServices.
    pub fn virtual_service_names(&self) -> impl Iterator<Item = Named> {
        self.virtual_services
            .all()
            .map(|service| (service.namespace.clone(), service.name.clone()))
    }

    /// The DestinationRules.
    #[must_use]
    pub fn destination_rules(&self) -> &Rules {
        &self.destination_rules
    }

    /// The DestinationRule that governs a client's connections to a Service; `client` is the client's pod.
    #[must_use]
    pub fn governing(&self, client: &Named, service: &Named, cluster_domain: &str, root: &str) -> Option<&Merged> {
        let nothing = Labels::new();
        self.destination_rules.governing(&Place {
            client: &client.0,
            labels: self.pods.get(client).map_or(&nothing, |pod| &pod.labels),
            host: &fqdn(&service.1, &service.0, cluster_domain),
            service: &service.0,
            root,
        })
    }

    /// The DestinationRule that governs a client's connections to a host of a ServiceEntry of a namespace.
    #[must_use]
    pub fn governing_host(&self, client: &Named, host: &str, namespace: &str, root: &str) -> Option<&Merged> {
        let nothing = Labels::new();
        self.destination_rules.governing(&Place {
            client: &client.0,
            labels: self.pods.get(client).map_or(&nothing, |pod| &pod.labels),
            host,
            service: namespace,
            root,
        })
    }

    /// The Services that a host, or a wildcard, names.
    #[must_use]
    pub fn services_of_host(&self, host: &str, cluster_domain: &str) -> Vec<Named> {
        let of = |name: &Named| fqdn(&name.1, &name.0, cluster_domain);
        match host.strip_prefix('*') {
            Some(suffix) => self
                .services
                .keys()
                .filter(|name| of(name).ends_with(suffix))
                .cloned()
                .collect(),
            None => {
                let mut labels = host.splitn(3, '.');
                let (name, namespace) = (labels.next(), labels.next());
                let named = namespace
                    .zip(name)
                    .map(|(namespace, name)| (namespace.into(), name.into()));
                named
                    .filter(|name| self.services.contains_key(name) && of(name) == host)
                    .into_iter()
                    .collect()
            }
        }
    }

    /// The names of all DestinationRules.
    pub fn destination_rule_names(&self) -> impl Iterator<Item = Named> {
        self.destination_rules
            .all()
            .map(|rule| (rule.namespace.clone(), rule.name.clone()))
    }

    /// A PeerAuthentication in force by name.
    #[must_use]
    pub fn policy_named(&self, name: &Named) -> Option<&Policy> {
        self.policies.get(&name.0)?.get(&name.1)
    }

    /// The PeerAuthentications of a workload's namespace and of the root namespace.
    pub fn policies_near<'a>(&'a self, root_namespace: &str, namespace: &str) -> impl Iterator<Item = &'a Policy> {
        let of = |name: &str| self.policies.get(name).into_iter().flat_map(BTreeMap::values);
        let mesh = (namespace != root_namespace).then(|| of(root_namespace));
        of(namespace).chain(mesh.into_iter().flatten())
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().flat_map(BTreeMap::values)
    }

    /// The modes in force on a pod's ports.
    #[must_use]
    pub fn effective(&self, root_namespace: &str, namespace: &str, labels: &Labels) -> Effective {
        let near = self.policies_near(root_namespace, namespace);
        effective(near, root_namespace, namespace, labels)
    }

    /// The modes that would be if the pod's namespace said STRICT.
    #[must_use]
    pub fn under_strict(&self, root_namespace: &str, namespace: &str, labels: &Labels) -> Effective {
        let near = self.policies_near(root_namespace, namespace);
        under_strict(near, root_namespace, namespace, labels)
    }

    /// The running pods of a namespace that have a sidecar.
    pub fn sidecars(&self, namespace: &str) -> impl Iterator<Item = (&Named, &PodRecord)> {
        let is = move |(name, pod): &(&Named, &PodRecord)| {
            *name.0 == *namespace && pod.uses_certificate && !pod.addresses.is_empty()
        };
        self.pods.iter().filter(is)
    }

    /// The policies of a namespace for all of its workloads.
    pub fn of_whole_namespace(&self, namespace: &str) -> impl Iterator<Item = &Policy> {
        let of = self.policies.get(namespace).into_iter().flat_map(BTreeMap::values);
        of.filter(|policy| policy.selector.is_empty())
    }

    /// A pod by name.
    #[must_use]
    pub fn pod_named(&self, name: &Named) -> Option<&PodRecord> {
        self.pods.get(name)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = (&Named, &PodRecord)> {
        self.pods.iter()
    }

    /// Where a node is.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<Locality>> {
        self.nodes.get(name)
    }

    /// The names of the nodes that say where they are.
    pub fn node_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.keys()
    }

    /// The pod that has an address.
    #[must_use]
    pub fn pod_by_address(&self, address: IpAddr) -> Option<(&Named, &PodRecord)> {
        self.pods.get_key_value(self.pod_at.get(&address)?)
    }

    /// Whether a pod on the host's network says that this is its node's address.
    #[must_use]
    pub fn is_host(&self, address: IpAddr) -> bool {
        let mut pods = self.pods.values();
        pods.any(|pod| pod.host_addresses.contains(&address))
    }

    /// A Service by name.
    #[must_use]
    pub fn service_named(&self, name: &Named) -> Option<&ServiceRecord> {
        self.services.get(name)
    }

    /// Whether an endpoint is what is known of the pod that its slice names. Slices and pods come by watches of their own:
    /// until the pod is known under the endpoint's address, nobody can say whether it takes mutual TLS, and in the clear it
    /// must not be called.
    #[must_use]
    pub fn knows(&self, endpoint: &SliceEndpoint) -> bool {
        endpoint.pod.as_ref().is_none_or(|name| {
            let holds = |pod: &PodRecord| {
                pod.addresses.contains(&endpoint.address) || pod.host_addresses.contains(&endpoint.address)
            };
            self.pods.get(name).is_some_and(holds)
        })
    }

    /// The Service that has an address.
    #[must_use]
    pub fn service_by_address(&self, address: IpAddr) -> Option<(&Named, &ServiceRecord)> {
        self.services.get_key_value(self.service_at.get(&address)?)
    }

    /// The Services that an address is an endpoint of.
    pub fn services_behind(&self, address: IpAddr) -> impl Iterator<Item = &Named> {
        self.endpoint_of.get(&address).into_iter().flat_map(BTreeMap::keys)
    }

    /// The EndpointSlices of a Service, in the order of their names.
    pub fn slices_of(&self, service: &Named) -> impl Iterator<Item = &SliceRecord> {
        let namespace = service.0.clone();
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(move |name| self.slices.get(&(namespace.clone(), name.clone())))
    }

    /// The pods whose sidecars read the Secret of a service account.
    pub fn users(&self, account: &Named) -> impl Iterator<Item = (&Arc<str>, &PodRecord)> {
        let namespace = account.0.clone();
        let names = self.users.get(account).into_iter().flatten();
        names.filter_map(move |name| Some((name, self.pods.get(&(namespace.clone(), name.clone()))?)))
    }

    /// Every service account that some pod's sidecar reads the Secret of.
    pub fn accounts(&self) -> impl Iterator<Item = &Named> {
        self.users.keys()
    }

    /// The names of all pods, for a list that must be compared with a new one.
    pub fn pod_names(&self) -> impl Iterator<Item = &Named> {
        self.pods.keys()
    }

    /// The names of all Services.
    pub fn service_names(&self) -> impl Iterator<Item = &Named> {
        self.services.keys()
    }

    /// The names of all EndpointSlices.
    pub fn slice_names(&self) -> impl Iterator<Item = &Named> {
        self.slices.keys()
    }

    /// The names of all policies.
    pub fn policy_names(&self) -> impl Iterator<Item = Named> {
        self.policies
            .iter()
            .flat_map(|(namespace, of)| of.keys().map(|name| (namespace.clone(), name.clone())))
    }

    fn addresses_behind(&self, service: &Named) -> Vec<IpAddr> {
        self.slices_of(service)
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
            .collect()
    }

    /// A pod's address changed, and with it every Service that it is an endpoint of.
    fn touch_address(&self, address: IpAddr, changed: &mut Changed) {
        changed.keys.insert(Key::Address(address));
        for service in self.services_behind(address) {
            self.touch_service(service, changed);
        }
    }

    fn touch_service(&self, name: &Named, changed: &mut Changed) {
        changed.keys.insert(Key::Service(name.clone()));
        for address in self
            .services
            .get(name)
            .into_iter()
            .flat_map(|service| &service.addresses)
        {
            changed.keys.insert(Key::Address(*address));
        }
    }

    /// The pods that a policy is for.
    pub(super) fn pods_of<'a>(
        &'a self,
        policy: &'a Named,
        target: &'a PolicyTarget,
        root_namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Named, &'a PodRecord)> {
        let matches = move |(pod, record): &(&Named, &PodRecord)| {
            target.is_for(&policy.0, root_namespace, &pod.0, &record.labels)
        };
        self.pods.iter().filter(matches)
    }

    /// A candidate changed. What it replaces, and thus which pods it concerns, is in its own namespace, or anywhere for one of
    /// the root namespace.
    fn touch_candidates(&self, name: &Named, concerned: &[PolicyTarget], root_namespace: &str) -> Changed {
        let mut changed = Changed::default();
        if !concerned.is_empty() {
            let pods = self
                .pods
                .keys()
                .filter(|pod| *name.0 == *root_namespace || pod.0 == name.0);
            changed.keys.extend(pods.map(|pod| Key::Enforced(pod.clone())));
        }
        changed
    }

    /// What pods' own proxies enforce changed, as far as policies' targets say.
    fn touch_targets<'a>(
        &self,
        targets: impl Iterator<Item = (&'a Named, &'a PolicyTarget)>,
        root_namespace: &str,
    ) -> Changed {
        let mut changed = Changed::default();
        for (policy, target) in targets {
            let pods = self.pods_of(policy, target, root_namespace);
            changed.keys.extend(pods.map(|(pod, _)| Key::Enforced(pod.clone())));
        }
        changed
    }

    fn touch_pod_at(&self, address: IpAddr, changed: &mut Changed) {
        changed.keys.insert(Key::Address(address));
        if let Some(pod) = self.pod_at.get(&address) {
            changed.keys.insert(Key::Pod(pod.clone()));
        }
    }
}
