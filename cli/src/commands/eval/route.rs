//! `eval route`: where the requests of clients go by the VirtualServices and DestinationRules in files, looked up as the
//! operator and sidecars do.

mod answer;
mod asked;
mod registry;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use http::Method;
use mesh_api::mesh_config::OutboundTrafficPolicy;
use mesh_core::destination_rule::{Place, Rules};
use mesh_core::protocol::Declared;
use mesh_core::routing::{
    Action, Client, CrossOrigin, Effective, InSubset, Lead, Leads, Matched, Reference, Routes, Seen, Speaking, Target,
    VirtualServices, Weighted,
};
use mesh_core::sidecar_scope::{Outbound, Scopes};

use super::Route;
use super::manifests::{Manifests, Places};
use crate::arguments::Global;
use crate::failure::{DONE, Failure};
use crate::files::{self, Document};
use crate::output::{self, Format};
use answer::Answer;
use asked::{Asked, Request};
use registry::{Registry, Service};

/// Where a sidecar sends what the mesh does not know.
const PASSTHROUGH: &str = "PassthroughCluster";
/// Where it sends that under REGISTRY_ONLY.
const BLACK_HOLE: &str = "BlackHoleCluster";

/// Runs the verb; the exit status.
pub(super) fn run(global: &Global, arguments: &Route) -> Result<u8, Failure> {
    let namespace = global.namespace.as_deref().unwrap_or("default");
    let system = global.system.as_str();
    let mesh = Mesh::read(files::documents(&arguments.files)?, Places { namespace, system })?;
    let mut answers = Vec::new();
    for (number, line) in files::text(&arguments.requests)?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let failed =
            |error: String| Failure::other(format!("{}:{}: {error}", arguments.requests.display(), number + 1));
        let answer = mesh.answer(line, namespace).map_err(failed)?;
        if global.output == Format::Json {
            let line = serde_json::to_string(&answer).map_err(|error| failed(error.to_string()))?;
            output::say(&format!("{line}\n"))?;
        } else {
            answers.push(answer);
        }
    }
    if global.output != Format::Json {
        output::print(global.output, &answers, || answer::table(&answers))?;
    }
    Ok(DONE)
}

/// What the files say.
struct Mesh {
    manifests: Manifests,
    system: String,
    registry: Registry,
    services: VirtualServices,
    rules: Rules,
    scopes: Scopes,
}

/// A destination that a route names, as the client finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: String,
    subset: Option<String>,
    port: u16,
    /// Whether any endpoint is there to answer.
    answers: bool,
}

/// What a host and port mean.
enum Meaning<'a> {
    Service(&'a Service, u16),
    /// A host that a VirtualService alone names.
    Routed,
    Unknown,
}

impl Mesh {
    /// Takes what files hold.
    fn read(documents: Vec<Document>, places: Places<'_>) -> Result<Self, Failure> {
        let registry = Registry::read(&documents, places)?;
        let mut manifests = Manifests::read(documents, places)?;
        let domain = registry.cluster_domain();
        let mut services = VirtualServices::default();
        for service in std::mem::take(&mut manifests.virtual_services) {
            let (namespace, name) = (service.namespace.clone(), service.name.clone());
            services.set(&namespace, &name, Some(service), domain);
        }
        let mut rules = Rules::default();
        for rule in std::mem::take(&mut manifests.destination_rules) {
            let (namespace, name) = (rule.namespace.clone(), rule.name.clone());
            rules.set(&namespace, &name, Some(rule), domain);
        }
        let mut scopes = Scopes::default();
        for scope in std::mem::take(&mut manifests.scopes) {
            let (namespace, name) = (scope.namespace.clone(), scope.name.clone());
            scopes.set(&namespace, &name, Some(scope));
        }
        Ok(Self {
            scopes,
            manifests,
            system: places.system.to_owned(),
            registry,
            services,
            rules,
        })
    }

    /// Answers a line.
    fn answer(&self, line: &str, namespace: &str) -> Result<Answer, String> {
        let asked: Asked = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let mut request = Request::new(asked, namespace)?;
        if request.http {
            match self.manifests.config.path_normalization.normalize(&request.target) {
                Ok(normal) => request.target = normal.into_owned(),
                Err(_) => return Ok(Answer::of_mesh(&request, 400)),
            }
        }
        let client = Client {
            namespace: &request.namespace,
            labels: &request.labels,
        };
        let host = request.host_name();
        let on_port = |host: &str| self.registry.has_http_port(host, request.port);
        let root = self.manifests.config.root_namespace(&self.system);
        let scope = self.scopes.of(&request.namespace, &request.labels, root);
        let shown = |routes: &Effective, port: u16| {
            let hosts = routes.hosts.iter().map(|host| &**host);
            scope.is_none_or(|scope| scope.shows_routes(hosts, &routes.namespace, port, &request.namespace))
        };
        let found = self.registry.find(&host, request.port, &request.namespace);
        let (meaning, speaking) = match found {
            Some((service, port))
                if scope.is_none_or(|it| it.shows(&service.host, &service.namespace, port, &request.namespace)) =>
            {
                let shown = |routes: &Effective| shown(routes, port);
                let speaking = self.services.speaking(client, &service.host, port, shown);
                (Meaning::Service(service, port), Some(speaking))
            }
            Some(_) => (Meaning::Unknown, None),
            None => {
                let shown = |routes: &Effective| shown(routes, request.port);
                let outside = self
                    .services
                    .speaking_outside(client, &host, request.port, shown, on_port);
                let meaning = outside.as_ref().map_or(Meaning::Unknown, |_| Meaning::Routed);
                (meaning, outside)
            }
        };
        let own = match meaning {
            Meaning::Service(service, port) => Some(self.named(&request, service, port, None)),
            Meaning::Routed => None,
            Meaning::Unknown => {
                let outbound = scope.and_then(|scope| scope.outbound);
                return Ok(self.outside(&request, outbound));
            }
        };
        let leads = RefCell::new(Vec::new());
        let port = own.as_ref().map_or(request.port, |own| own.port);
        let routes = speaking
            .as_ref()
            .and_then(|speaking: &Speaking<'_>| {
                speaking.compile(None, |reference| self.lead(&request, reference, port, &leads))
            })
            .unwrap_or_default();
        let leads = leads.into_inner();
        let declared = match meaning {
            Meaning::Service(service, port) => service.protocol(port),
            _ => Declared::Detect,
        };
        Ok(if request.http && declared != Declared::Tcp {
            of_request(&request, &routes, own, &leads)
        } else {
            of_connection(&request, &routes, own, &leads)
        })
    }

    /// What becomes of what the mesh does not know.
    fn outside(&self, request: &Request, outbound: Option<Outbound>) -> Answer {
        let allowed = match outbound {
            Some(outbound) => outbound == Outbound::AllowAny,
            None => self.manifests.config.outbound_traffic_policy == OutboundTrafficPolicy::AllowAny,
        };
        if allowed {
            let mut answer = Answer::forwarded(request);
            answer.destination = Some(PASSTHROUGH.to_owned());
            answer
        } else {
            let mut answer = Answer::of_mesh(request, 502);
            answer.destination = Some(BLACK_HOLE.to_owned());
            answer
        }
    }

    /// A reference of a route, kept in `leads`.
    fn lead(&self, request: &Request, reference: &Reference, called: u16, leads: &RefCell<Vec<Named>>) -> Lead {
        let service = self.registry.of_host(&reference.host);
        let port = reference.port.unwrap_or_else(|| {
            let only = service.and_then(Service::only_port);
            only.unwrap_or(called)
        });
        let subset = reference.subset.as_deref();
        let named = match service.filter(|service| service.has_port(port)) {
            Some(service) => self.named(request, service, port, subset),
            None => Named {
                host: reference.host.to_string(),
                subset: subset.map(str::to_owned),
                port,
                answers: false,
            },
        };
        let mut leads = leads.borrow_mut();
        leads.push(named);
        let at = u32::try_from(leads.len() - 1).map_or(Leads::Nowhere, Leads::Other);
        Lead {
            target: Target {
                leads: at,
                subset: InSubset::All,
            },
            port,
        }
    }

    /// A Service's port and subset, and whether any endpoint is in it.
    fn named(&self, request: &Request, service: &Service, port: u16, subset: Option<&str>) -> Named {
        let governing = self.rules.governing(&Place {
            client: &request.namespace,
            labels: &request.labels,
            host: &service.host,
            service: &service.namespace,
            root: self.manifests.config.root_namespace(&self.system),
        });
        let answers = match subset {
            None => !service.endpoints.is_empty(),
            Some(name) => {
                let mut subsets = governing.into_iter().flat_map(|rules| &rules.subsets);
                let found = subsets.find(|subset| subset.name == name);
                found.is_some_and(|subset| {
                    let has = |pod: &mesh_core::labels::Labels| {
                        let mut labels = subset.labels.iter();
                        labels.all(|(key, value)| pod.get(key) == Some(value))
                    };
                    service.endpoints.iter().any(has)
                })
            }
        };
        Named {
            host: service.host.clone(),
            subset: subset.map(str::to_owned),
            port,
            answers,
        }
    }
}

/// What becomes of a request.
fn of_request(request: &Request, routes: &Routes, own: Option<Named>, leads: &[Named]) -> Answer {
    if routes.http.is_empty() {
        return to_itself(request, own);
    }
    let seen = Seen {
        path_and_query: &request.target,
        scheme: "http",
        method: &request.method,
        authority: &request.host,
        headers: &request.headers,
    };
    let Some(matched) = routes.http(&seen) else {
        let mut answer = Answer::of_mesh(request, 404);
        answer.took(routes, None);
        return answer;
    };
    let mut answer = through(request, &seen, &matched, leads);
    answer.took(routes, Some(matched.route));
    answer
}

/// What a route makes of a request.
fn through(request: &Request, seen: &Seen<'_>, matched: &Matched<'_>, leads: &[Named]) -> Answer {
    let route = matched.route;
    let method = Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
    let cross_origin = route.cors.as_ref().map(|cors| cors.decide(&method, &request.headers));
    if let Some(CrossOrigin::Answered(_)) = cross_origin {
        return Answer::of_mesh(request, 200);
    }
    let mut answer = match &route.action {
        Action::Redirect(redirect) => {
            let mut answer = Answer::of_mesh(request, redirect.code);
            answer.redirect = Some(redirect.location(matched, seen, request.port));
            answer
        }
        Action::Direct(direct) => Answer::of_mesh(request, direct.status),
        Action::Forward { to, rewrite } => {
            let mut answer = Answer::forwarded(request);
            let path = rewrite.path(matched, &request.target);
            answer.path = Some(path.unwrap_or_else(|| request.target.clone()));
            let heaviest = to.iter().rev().max_by_key(|to| to.weight);
            if let Some(to) = heaviest {
                answer.goes(request, route, to);
            }
            answer.leads(to, |to: &Weighted| named(leads, to.target));
            answer.timeout = answer::duration(route.timeout_of(request.grpc, &request.headers));
            answer.set_retries(route.retries.as_ref());
            answer.set_mirrors(&route.mirrors, |target| named(leads, target));
            answer
        }
    };
    answer.set_fault(&route.fault);
    answer
}

/// What becomes of a connection of opaque bytes.
fn of_connection(request: &Request, routes: &Routes, own: Option<Named>, leads: &[Named]) -> Answer {
    let to = match &request.server_name {
        Some(name) if !routes.tls.is_empty() => match routes.tls(&name.to_ascii_lowercase(), request.address) {
            Some(route) => Some(&route.to),
            None => {
                // It is closed.
                let mut answer = Answer::new(request);
                answer.took(routes, None);
                return answer;
            }
        },
        _ => routes.tcp(request.source, request.address).map(|route| &route.to),
    };
    let Some(to) = to else {
        return to_itself(request, own);
    };
    let mut answer = Answer::new(request);
    answer.leads(to, |to: &Weighted| named(leads, to.target));
    answer.status = None;
    answer.took(routes, None);
    answer
}

/// What no VirtualService says anything of.
fn to_itself(request: &Request, own: Option<Named>) -> Answer {
    let mut answer = if request.http {
        Answer::forwarded(request)
    } else {
        Answer::new(request)
    };
    match own {
        Some(own) => answer.only(own, request.http),
        None => answer.status = request.http.then_some(404),
    }
    if request.http {
        answer.set_retries(None);
    }
    answer
}

fn named(leads: &[Named], target: Target) -> Option<&Named> {
    match target.leads {
        Leads::Other(at) => leads.get(usize::try_from(at).ok()?),
        Leads::Own | Leads::Nowhere => None,
    }
}
