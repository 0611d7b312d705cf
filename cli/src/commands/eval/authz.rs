//! `eval authz`: each request goes the sidecar's way: PeerAuthentication, the path's normal form, RequestAuthentication,
//! and the AuthorizationPolicies in their order.

use std::collections::HashMap;
use std::time::SystemTime;

use http::Method;
use mesh_api::request_authentication::RequestAuthenticationPolicy;
use mesh_core::authorization::facts::{Facts, Http};
use mesh_core::authorization::policy::Policy;
use mesh_core::authorization::{Outcome, Policies, RuleRef};
use mesh_core::candidates;
use mesh_core::ext_authz::{DEFAULT_STATUS_ON_ERROR, Providers};
use mesh_core::jwt::{Authenticator, KeySource, Keys};
use mesh_core::labels::Labels;
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_core::request::{headers, path_of};
use serde::Serialize;
use serde_json::Value;

use super::Authz;
use super::manifests::{Manifests, Places};
use super::request::{Asked, Protocol, Request};
use crate::arguments::Global;
use crate::failure::{DONE, Failure};
use crate::files;
use crate::output::{self, Cell, Format, Table};

/// The domain of the cluster that the files are for: it is not among them.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// A line of the answer.
#[derive(Debug, Serialize)]
struct Answer {
    id: Value,
    /// `allow`, `deny` or `unauthenticated`.
    decision: &'static str,
    /// What the caller gets: 200 where the application is asked; none of a connection that is not HTTP, or not spoken on.
    status: Option<u16>,
    /// The policy that decided, `namespace/name`.
    policy: Option<String>,
    /// Its rule, from 0.
    rule: Option<usize>,
    /// The response code detail of a denial, or why it is none.
    reason: String,
    /// Why a CUSTOM policy's provider is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Of what no ALLOW rule lets through: the rule that came nearest.
    nearest: Option<Nearest>,
}

#[derive(Debug, Serialize)]
struct Nearest {
    policy: String,
    rule: usize,
    field: String,
    expected: Vec<String>,
    seen: Option<String>,
}

impl Answer {
    fn new(id: Value, decision: &'static str, status: Option<u16>, by: Option<&RuleRef>, reason: String) -> Self {
        Self {
            id,
            decision,
            status,
            policy: by.map(RuleRef::policy),
            rule: by.map(|by| by.rule),
            reason,
            problem: None,
            nearest: None,
        }
    }
}

/// What is in force on a workload.
struct InForce {
    peer: Effective,
    tokens: Authenticator,
    policies: Policies,
    authorizers: Providers,
}

impl InForce {
    /// The answer to what a CUSTOM policy matches, with which nobody can ask its provider here: that it may not pass.
    fn unasked(&self, name: &str) -> (u16, String) {
        let (code, why) = match self.authorizers.get(name) {
            _ if self.policies.providers().count() > 1 => (
                DEFAULT_STATUS_ON_ERROR,
                "is one of several that the workload's policies name, and it may have one",
            ),
            Some(Ok(provider)) => (provider.settings.status_on_error, "is not asked offline"),
            Some(Err(problem)) => (DEFAULT_STATUS_ON_ERROR, problem.as_str()),
            None => (DEFAULT_STATUS_ON_ERROR, "is none of meshConfig.extensionProviders"),
        };
        (code, format!("provider {name}: {why}"))
    }
}

/// The resources, and what they make for the workloads that were asked about.
struct Mesh {
    manifests: Manifests,
    system: String,
    keys: HashMap<String, Keys>,
    workloads: HashMap<(String, Labels), InForce>,
}

/// Runs the verb; the exit status.
pub(super) fn run(global: &Global, arguments: &Authz) -> Result<u8, Failure> {
    let namespace = global.namespace.as_deref().unwrap_or("default");
    let system = global.system.as_str();
    let mut manifests = Manifests::read(files::documents(&arguments.files)?, Places { namespace, system })?;
    if let Some(set) = &arguments.candidate {
        manifests = manifests.with(set)?;
    }
    let mut keys = HashMap::new();
    for (uri, file) in &arguments.jwks_uri {
        let parsed =
            Keys::parse(&files::text(file)?).map_err(|error| Failure::other(format!("{}: {error}", file.display())))?;
        keys.insert(uri.clone(), parsed);
    }
    let mut mesh = Mesh::new(manifests, system, keys);
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
        output::print(global.output, &answers, || table(&answers))?;
    }
    Ok(DONE)
}

impl Mesh {
    fn new(manifests: Manifests, system: &str, keys: HashMap<String, Keys>) -> Self {
        Self {
            manifests,
            system: system.to_owned(),
            keys,
            workloads: HashMap::new(),
        }
    }

    /// Answers a line.
    fn answer(&mut self, line: &str, namespace: &str) -> Result<Answer, String> {
        let asked: Asked = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let id = asked.id.clone();
        let mut request = Request::new(asked, namespace)?;
        let workload = (request.namespace.clone(), request.labels.clone());
        if !self.workloads.contains_key(&workload) {
            let in_force = self.in_force(&workload.0, &workload.1);
            self.workloads.insert(workload.clone(), in_force);
        }
        let config = &self.manifests.config;
        let in_force = self.workloads.get(&workload).ok_or("no such workload")?;
        let denied = |status, reason: String| Answer::new(id.clone(), "deny", status, None, reason);

        let mode = in_force.peer.on_port(request.destination.port());
        let mut http = request.protocol != Protocol::Tcp;
        match mode {
            PortMode::Strict if !request.mutual_tls => {
                let by = in_force.peer.decided_by.join(", ");
                return Ok(denied(
                    None,
                    format!("plaintext where PeerAuthentication {by} says STRICT"),
                ));
            }
            // TLS that a client brings is the application's own there, and nothing is seen inside of it.
            PortMode::Disable if request.mutual_tls => {
                request.identity = None;
                http = false;
            }
            PortMode::Disable | PortMode::Permissive | PortMode::Strict => {}
        }

        let mut claims = None;
        let mut remote = request.remote;
        if http {
            let (domain, account) = (&config.trust_domain, &request.service_account);
            let own = format!("spiffe://{domain}/ns/{}/sa/{account}", request.namespace);
            if !request.settle(&own) {
                return Ok(denied(Some(400), "exactly one Host is needed".to_owned()));
            }
            remote = remote.or_else(|| headers::remote(&request.headers, config.trusted_proxies));
            match config.path_normalization.normalize(&request.target) {
                Ok(normal) => request.target = normal.into_owned(),
                Err(refused) => return Ok(denied(Some(400), refused.to_string())),
            }
            let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| format!("method: {error}"))?;
            let tokens = &in_force.tokens;
            let authenticated = tokens.authenticate(&method, &request.headers, &request.target, SystemTime::now());
            let authenticated = match authenticated {
                Ok(authenticated) => authenticated,
                Err(refusal) => {
                    let (status, reason) = (Some(refusal.status()), refusal.detail());
                    return Ok(Answer::new(id, "unauthenticated", status, None, reason));
                }
            };
            authenticated.edits.apply(&mut request.headers);
            if let Some(target) = authenticated.edits.path_and_query() {
                request.target = target.to_owned();
            }
            claims = authenticated.claims;
        }

        let facts = Facts {
            identity: request.identity.as_ref(),
            source: request.source,
            remote: remote.unwrap_or(request.source),
            destination: request.destination,
            server_name: request.server_name.as_deref(),
            http: http.then_some(Http {
                method: &request.method,
                path: path_of(&request.target),
                host: &request.host,
                headers: &request.headers,
                claims: claims.as_deref(),
            }),
        };
        let policies = &in_force.policies;
        let status = |status| http.then_some(status);
        let asked = policies.custom(&facts, |provider| {
            let found = in_force.authorizers.get(provider).and_then(|found| found.as_ref().ok());
            found.is_none_or(|provider| provider.settings.knows_connections())
        });
        if let Some(custom) = asked {
            let (code, problem) = in_force.unasked(custom.provider);
            let reason = "ext_authz_error".to_owned();
            let mut answer = Answer::new(id, "deny", status(code), Some(custom.rule), reason);
            answer.problem = Some(problem);
            return Ok(answer);
        }
        let outcome = policies.decide(&facts).outcome;
        Ok(match outcome {
            Outcome::Allowed { by } => {
                let reason = by.map_or("no ALLOW policy".to_owned(), |by| format!("allowed by {by}"));
                Answer::new(id, "allow", status(200), by, reason)
            }
            Outcome::Denied { by } => {
                let mut answer = Answer::new(id, "deny", status(403), by, outcome.detail().unwrap_or_default());
                let nearest = if by.is_none() { policies.explain(&facts) } else { None };
                answer.nearest = nearest.map(|nearest| Nearest {
                    policy: nearest.rule.policy(),
                    rule: nearest.rule.rule,
                    field: nearest.field,
                    expected: nearest.expected,
                    seen: nearest.seen,
                });
                answer
            }
        })
    }

    fn in_force(&self, namespace: &str, labels: &Labels) -> InForce {
        let manifests = &self.manifests;
        let config = &manifests.config;
        let root = config.root_namespace(&self.system);
        // As the operator sends them: the root namespace's first, each by name.
        let mut policies: Vec<Policy> = manifests
            .authorization
            .iter()
            .filter(|(target, policy)| target.is_for(&policy.namespace, root, namespace, labels))
            .map(|(_, policy)| policy.clone())
            .collect();
        policies.sort_by(|a, b| (a.namespace != root, &a.name).cmp(&(b.namespace != root, &b.name)));
        let mut rules: Vec<&RequestAuthenticationPolicy> = manifests
            .request
            .iter()
            .filter(|(target, policy)| target.is_for(&policy.namespace, root, namespace, labels))
            .map(|(_, policy)| policy)
            .collect();
        rules.sort_by(|a, b| (a.namespace != root, &a.name).cmp(&(b.namespace != root, &b.name)));
        let rules = rules.into_iter().flat_map(|policy| &policy.rules).map(|rule| {
            let given = |name: &String| {
                let given = self.keys.get(name).cloned();
                given.unwrap_or_else(|| Keys::not_fetched("no file was given for it (--jwks-uri)"))
            };
            let keys = match &rule.keys {
                KeySource::Inline(jwks) => Keys::parse(jwks).unwrap_or_else(|error| Keys::unusable(&error.to_string())),
                KeySource::Uri(uri) => given(uri),
                KeySource::Discovery => given(&rule.issuer),
            };
            (rule.clone(), keys)
        });
        InForce {
            peer: candidates::effective(&manifests.peer, &manifests.tried, root, namespace, labels),
            tokens: Authenticator::new(rules.collect()),
            policies: Policies::compile(policies, &config.trust_domain, &config.trust_domain_aliases),
            authorizers: config.authorizers(&self.system, CLUSTER_DOMAIN),
        }
    }
}

fn table(answers: &[Answer]) -> Table {
    let mut table = Table::new(&["ID", "DECISION", "STATUS", "POLICY", "RULE", "REASON", "NEAREST"]);
    for answer in answers {
        let id = answer.id.as_str().map_or_else(|| answer.id.to_string(), str::to_owned);
        let number = |number: Option<String>| number.unwrap_or_default();
        let nearest = answer.nearest.as_ref().map(|nearest| {
            let seen = nearest.seen.as_deref().unwrap_or("nothing");
            format!("{} rule {}: {} is {seen}", nearest.policy, nearest.rule, nearest.field)
        });
        table.row([
            Cell::from(id),
            answer.decision.into(),
            number(answer.status.map(|status| status.to_string())).into(),
            answer.policy.clone().unwrap_or_default().into(),
            number(answer.rule.map(|rule| rule.to_string())).into(),
            answer.reason.clone().into(),
            nearest.unwrap_or_default().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: td.org
    extensionProviders:
    - {name: opa, envoyExtAuthzGrpc: {service: opa.shop.svc.cluster.local, port: 9191, failOpen: true, statusOnError: '503'}}
    pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: strict}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: api, namespace: shop}
  spec:
    selector: {matchLabels: {app: backend}}
    rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]
      to: [{operation: {paths: [/api/*]}}]
- apiVersion: security.istio.io/v1beta1
  kind: AuthorizationPolicy
  metadata: {name: no-admin, namespace: istio-system}
  spec:
    action: DENY
    rules: [{to: [{operation: {paths: [/admin]}}]}]
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: ask, namespace: shop}
  spec:
    action: CUSTOM
    provider: {name: opa}
    rules: [{to: [{operation: {paths: [/ask]}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: users}
spec: {jwtRules: [{issuer: https://i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
"#;

    fn manifests(file: &str, text: &str) -> Result<Manifests, Failure> {
        let mut documents = Vec::new();
        files::split(text, file, &mut documents);
        let places = Places {
            namespace: "shop",
            system: "istio-system",
        };
        Manifests::read(documents, places)
    }

    #[test]
    fn a_request_goes_the_sidecars_way() {
        let manifests = manifests("test", MANIFESTS).unwrap();
        let mut mesh = Mesh::new(manifests, "istio-system", HashMap::new());
        let backend = r#""destination": {"labels": {"app": "backend"}}"#;
        let web = r#""source": {"principal": "td.org/ns/shop/sa/web", "mtls": true}"#;
        let deny = "rbac_access_denied_matched_policy";
        let admin = format!("deny 403 istio-system/no-admin 0 {deny}[ns[istio-system]-policy[no-admin]-rule[0]]");
        for (line, expected) in [
            (format!(r#"{{{backend}, {web}, "path": "/api/x?q"}}"#), "allow 200 shop/api 0 allowed by ns[shop]-policy[api]-rule[0]".to_owned()),
            (format!(r#"{{{backend}, {web}, "path": "//api%2fx"}}"#), "allow 200 shop/api 0 allowed by ns[shop]-policy[api]-rule[0]".to_owned()),
            (format!(r#"{{{backend}, {web}, "path": "/x"}}"#), format!("deny 403 - - {deny}[none] to[0].operation.paths /x")),
            (format!(r#"{{{backend}, "path": "/api/x"}}"#), format!("deny 403 - - {deny}[none] from[0].source.principals -")),
            (
                format!(r#"{{{backend}, "source": {{"principal": "td.org/ns/shop/sa/web", "mtls": false}}, "path": "/api/x"}}"#),
                format!("deny 403 - - {deny}[none] from[0].source.principals -"),
            ),
            (r#"{"path": "/"}"#.to_owned(), "allow 200 - - no ALLOW policy".to_owned()),
            (r#"{"path": "/ask", "protocol": "grpc"}"#.to_owned(), "deny 503 shop/ask 0 ext_authz_error provider opa: is not asked offline".to_owned()),
            (r#"{"path": "/x/..;/admin"}"#.to_owned(), admin.clone()),
            (r#"{"path": "http://any.host/%61dmin"}"#.to_owned(), admin.clone()),
            (r#"{"path": "/admin#x", "protocol": "http2"}"#.to_owned(), admin.clone()),
            (r#"{"path": "/admin#"}"#.to_owned(), "deny 400 - - the path holds a fragment (#)".to_owned()),
            (
                r#"{"protocol": "tcp", "destination": {"namespace": "any"}}"#.to_owned(),
                format!("deny - istio-system/no-admin 0 {deny}[ns[istio-system]-policy[no-admin]-rule[0]]"),
            ),
            (
                r#"{"destination": {"namespace": "strict"}}"#.to_owned(),
                "deny - - - plaintext where PeerAuthentication strict/default says STRICT".to_owned(),
            ),
            (format!(r#"{{"destination": {{"namespace": "strict"}}, {web}}}"#), "allow 200 - - no ALLOW policy".to_owned()),
            (
                r#"{"destination": {"namespace": "users"}, "jwt": "x"}"#.to_owned(),
                "unauthenticated 401 - - jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}"
                    .to_owned(),
            ),
            (r#"{"destination": {"namespace": "users"}}"#.to_owned(), "allow 200 - - no ALLOW policy".to_owned()),
        ] {
            let answer = mesh.answer(&line, "shop").unwrap();
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let mut told = [
                answer.decision.to_owned(),
                or_none(answer.status.map(|status| status.to_string())),
                or_none(answer.policy),
                or_none(answer.rule.map(|rule| rule.to_string())),
                answer.reason,
            ]
            .join(" ");
            if let Some(problem) = answer.problem {
                told = format!("{told} {problem}");
            }
            if let Some(nearest) = answer.nearest {
                told = format!("{told} {} {}", nearest.field, or_none(nearest.seen));
            }
            assert_eq!(told, expected, "{line}");
        }
    }

    #[test]
    fn candidates_decide_only_where_their_set_is_asked_for() {
        const TRIED: &str = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: go, namespace: shop, labels: {policy.pinnace.dev/candidate: strict}}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: old, namespace: shop}
spec: {rules: [{to: [{operation: {paths: [/old]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: new
  namespace: shop
  labels: {policy.pinnace.dev/candidate: paths}
  annotations: {policy.pinnace.dev/replaces: old}
spec: {rules: [{to: [{operation: {paths: [/new]}}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop, labels: {policy.pinnace.dev/candidate: tokens}}
spec: {jwtRules: [{issuer: https://i}]}
"#;
        let answer = |set: Option<&str>, line: &str| {
            let mut manifests = manifests("test", TRIED).unwrap();
            if let Some(set) = set {
                manifests = manifests.with(set).unwrap();
            }
            let mut mesh = Mesh::new(manifests, "istio-system", HashMap::new());
            mesh.answer(line, "shop").unwrap().decision
        };
        let (old, new) = (r#"{"path": "/old"}"#, r#"{"path": "/new"}"#);
        let token = r#"{"path": "/old", "jwt": "x"}"#;
        for (set, line, expected) in [
            (None, old, "allow"),
            (None, new, "deny"),
            (None, token, "allow"),
            (Some("strict"), old, "deny"),
            (Some("paths"), old, "deny"),
            (Some("paths"), new, "allow"),
            (Some("tokens"), old, "allow"),
            (Some("tokens"), token, "unauthenticated"),
        ] {
            assert_eq!(answer(set, line), expected, "{set:?} {line}");
        }
        let failure = manifests("test", TRIED).unwrap().with("other").unwrap_err().to_string();
        assert!(
            failure.ends_with("no such candidate set: the files have paths, strict, tokens"),
            "{failure}"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rules: [{to: [{operation: {ports: [x]}}]}]}";
        let failure = manifests("policy.yaml", policy).unwrap_err().to_string();
        assert!(
            failure.contains("policy.yaml: shop/p: spec.rules[0].to[0].operation.ports"),
            "{failure}"
        );
        let mut mesh = Mesh::new(Manifests::default(), "istio-system", HashMap::new());
        for (line, expected) in [
            ("{", "EOF"),
            (r#"{"source": {"principal": "x"}}"#, "source.principal: "),
            (r#"{"headers": {"a b": "c"}}"#, "headers[a b]: "),
            (r#"{"protocol": "udp"}"#, "unknown variant `udp`"),
            (r#"{"source": {"ip": "x"}}"#, "invalid IP address"),
        ] {
            let error = mesh.answer(line, "shop").unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
