use super::facts::{Facts, Http};
use super::matches::{AddressRange, PathMatch, TextMatch};
use super::policy::{Action, Condition, Operation, Policy, Rule, ServiceAccount, Source, Wanted};
use super::{Outcome, Policies};
use crate::identity::{SpiffeId, TrustDomain};
use crate::jwt::Claims;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// Adds `NAME=A,B` or `NAME!=A,B` to a field.
fn add<T>(wanted: &mut Wanted<T>, not: bool, values: &str, parse: impl Fn(&str) -> T) {
    let values = values.split(',').map(parse);
    if not {
        wanted.none.extend(values);
    } else {
        wanted.any.extend(values);
    }
}

fn wanted<T>(not: bool, values: &str, parse: impl Fn(&str) -> T) -> Wanted<T> {
    let mut wanted = Wanted::default();
    add(&mut wanted, not, values, parse);
    wanted
}

fn range(text: &str) -> AddressRange {
    AddressRange::parse(text).unwrap()
}

fn account(text: &str) -> ServiceAccount {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Reads a rule: words `from`, `to` and `when`, each before its fields.
pub(super) fn rule(text: &str) -> Rule {
    let mut rule = Rule::default();
    let mut when = false;
    for word in text.split_whitespace() {
        match word {
            "from" => rule.from.push(Source::default()),
            "to" => rule.to.push(Operation::default()),
            "when" => when = true,
            field => {
                let (name, values) = field.split_once('=').unwrap();
                let (name, not) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
                if when {
                    rule.when.push(condition(name, not, values));
                } else if !source_field(rule.from.last_mut(), name, not, values) {
                    operation_field(rule.to.last_mut().unwrap(), name, not, values);
                }
            }
        }
    }
    rule
}

fn source_field(source: Option<&mut Source>, name: &str, not: bool, values: &str) -> bool {
    let Some(source) = source else { return false };
    match name {
        "principals" => add(&mut source.principals, not, values, TextMatch::parse),
        "requestPrincipals" => add(&mut source.request_principals, not, values, TextMatch::parse),
        "namespaces" => add(&mut source.namespaces, not, values, TextMatch::parse),
        "serviceAccounts" => add(&mut source.service_accounts, not, values, account),
        "trustDomains" => add(&mut source.trust_domains, not, values, TextMatch::parse),
        "ipBlocks" => add(&mut source.ip_blocks, not, values, range),
        "remoteIpBlocks" => add(&mut source.remote_ip_blocks, not, values, range),
        _ => return false,
    }
    true
}

fn operation_field(operation: &mut Operation, name: &str, not: bool, values: &str) {
    match name {
        "hosts" => add(&mut operation.hosts, not, values, TextMatch::parse),
        "ports" => add(&mut operation.ports, not, values, |port| port.parse().unwrap()),
        "methods" => add(&mut operation.methods, not, values, TextMatch::parse),
        "paths" => add(&mut operation.paths, not, values, |path| {
            PathMatch::parse(path).unwrap()
        }),
        other => panic!("no field {other}"),
    }
}

fn condition(key: &str, not: bool, values: &str) -> Condition {
    let texts = || wanted(not, values, TextMatch::parse);
    match key {
        "source.ip" => Condition::SourceIp(wanted(not, values, range)),
        "remote.ip" => Condition::RemoteIp(wanted(not, values, range)),
        "source.namespace" => Condition::SourceNamespace(texts()),
        "source.serviceAccount" => Condition::SourceServiceAccount(wanted(not, values, account)),
        "source.trustDomain" => Condition::SourceTrustDomain(texts()),
        "source.principal" => Condition::SourcePrincipal(texts()),
        "request.auth.principal" => Condition::RequestPrincipal(texts()),
        "request.auth.audiences" => Condition::RequestAudiences(texts()),
        "request.auth.presenter" => Condition::RequestPresenter(texts()),
        "destination.ip" => Condition::DestinationIp(wanted(not, values, range)),
        "destination.port" => Condition::DestinationPort(wanted(not, values, |port| port.parse().unwrap())),
        "connection.sni" => Condition::Sni(texts()),
        other => {
            let (name, inner) = other.split_once('[').unwrap();
            let inner = inner.strip_suffix(']').unwrap();
            match name {
                "request.headers" => Condition::Header(inner.to_ascii_lowercase(), texts()),
                "request.auth.claims" => {
                    Condition::RequestClaim(inner.split("][").map(str::to_owned).collect(), texts())
                }
                _ => panic!("no key {other}"),
            }
        }
    }
}

pub(super) fn policy(action: Action, name: &str, rules: &[&str]) -> Policy {
    Policy {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        action,
        rules: rules.iter().map(|text| rule(text)).collect(),
        dry_run: false,
    }
}

fn compile(policies: Vec<Policy>) -> Policies {
    compile_in(policies, &["cluster.local"])
}

fn compile_in(policies: Vec<Policy>, domains: &[&str]) -> Policies {
    let domains: Vec<TrustDomain> = domains.iter().map(|domain| TrustDomain::new(domain).unwrap()).collect();
    Policies::compile(policies, &domains[0], &domains[1..])
}

/// A connection or request, as owned as its facts are borrowed.
pub(super) struct Case {
    identity: Option<SpiffeId>,
    source: IpAddr,
    remote: IpAddr,
    destination: SocketAddr,
    sni: Option<String>,
    tcp: bool,
    method: String,
    path: String,
    host: String,
    headers: HeaderMap,
    claims: Option<Claims>,
}

impl Case {
    /// Reads `tcp`, `as=PRINCIPAL`, `from=IP`, `remote=IP`, `to=ADDRESS:PORT`, `sni=NAME`, `method=`, `path=`, `host=`,
    /// `x-header:value` and `{"a": "token's payload"}` (the last, of one or more words).
    pub(super) fn new(text: &str) -> Self {
        let (words, payload) = text
            .find('{')
            .map_or((text, None), |at| (&text[..at], Some(&text[at..])));
        let mut case = Self {
            identity: None,
            source: IpAddr::from([10, 0, 0, 1]),
            remote: IpAddr::from([10, 0, 0, 1]),
            destination: SocketAddr::from(([10, 0, 0, 9], 8080)),
            sni: None,
            tcp: false,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: "web.shop".to_owned(),
            headers: HeaderMap::new(),
            claims: payload.map(|payload| {
                let names = ["scope".to_owned()];
                Claims::new(serde_json::from_str(payload).unwrap(), &names)
            }),
        };
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("as", principal)) => case.identity = Some(format!("spiffe://{principal}").parse().unwrap()),
                Some(("from", address)) => case.source = address.parse().unwrap(),
                Some(("remote", address)) => case.remote = address.parse().unwrap(),
                Some(("to", address)) => case.destination = address.parse().unwrap(),
                Some(("sni", name)) => case.sni = Some(name.to_owned()),
                Some(("method", method)) => case.method = method.to_owned(),
                Some(("path", path)) => case.path = path.to_owned(),
                Some(("host", host)) => case.host = host.to_owned(),
                None if word == "tcp" => case.tcp = true,
                _ => {
                    let (name, value) = word.split_once(':').unwrap();
                    let name: HeaderName = name.parse().unwrap();
                    case.headers.append(name, HeaderValue::from_str(value).unwrap());
                }
            }
        }
        case
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            identity: self.identity.as_ref(),
            source: self.source,
            remote: self.remote,
            destination: self.destination,
            server_name: self.sni.as_deref(),
            http: (!self.tcp).then_some(Http {
                method: &self.method,
                path: &self.path,
                host: &self.host,
                headers: &self.headers,
                claims: self.claims.as_ref(),
            }),
        }
    }
}

const A: &str = "as=cluster.local/ns/a/sa/x";

/// Whether a rule matches, asked of a DENY and of an ALLOW policy, each alone and among others.
fn matches(text: &str, case: &str) -> bool {
    let case = Case::new(&case.replace("$A", A));
    let mut answers = Vec::new();
    for others in [0, 35] {
        let mut rules = vec![text.to_owned()];
        rules.extend((0..others).map(|n| format!("from principals=never/{n} to paths=/never/{n} ports=1")));
        rules.extend((0..others).map(|n| format!("when request.headers[x-never-{n}]=y destination.ip=1.2.3.{n}")));
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let deny = compile(vec![policy(Action::Deny, "p", &rules)]);
        let allow = compile(vec![policy(Action::Allow, "p", &rules)]);
        answers.push(!deny.decide(&case.facts()).outcome.is_allowed());
        if !case.tcp {
            answers.push(allow.decide(&case.facts()).outcome.is_allowed());
        }
    }
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "{text}: ALLOW and DENY, alone and among others, agree on HTTP"
    );
    answers[0]
}

#[test]
fn every_field_matches_as_in_istio() {
    for (rule, yes, no) in [
        ("", &["$A", ""][..], &[][..]),
        ("from", &["$A", ""], &[]),
        ("from to", &["$A", ""], &[]),
        // Who.
        (
            "from principals=cluster.local/ns/a/sa/x",
            &["$A"],
            &["", "as=cluster.local/ns/a/sa/y", "as=other/ns/a/sa/x"],
        ),
        (
            "from principals=cluster.local/ns/a/*",
            &["$A"],
            &["as=cluster.local/ns/b/sa/x", ""],
        ),
        (
            "from principals=*/sa/x",
            &["$A", "as=other/ns/b/sa/x"],
            &["as=cluster.local/ns/a/sa/y", ""],
        ),
        ("from principals=*", &["$A"], &[""]),
        ("from principals=a,cluster.local/ns/a/sa/x", &["$A"], &[""]),
        ("from principals=spiffe://cluster.local/ns/a/sa/x", &[], &["$A"]),
        (
            "from principals!=cluster.local/ns/a/sa/x",
            &["", "as=cluster.local/ns/a/sa/y"],
            &["$A"],
        ),
        ("from principals!=*", &[""], &["$A"]),
        (
            "from principals=*/sa/x principals!=*/ns/a/sa/x",
            &["as=t/ns/b/sa/x"],
            &["$A", ""],
        ),
        ("from namespaces=a", &["$A"], &["", "as=cluster.local/ns/b/sa/a"]),
        ("from namespaces=*", &["$A"], &[""]),
        (
            "from namespaces=t*m",
            &["as=t/ns/team/sa/x"],
            &["$A", "as=t/ns/teams/sa/x"],
        ),
        ("from namespaces!=a", &["", "as=t/ns/b/sa/x"], &["$A"]),
        (
            "from serviceAccounts=a/x",
            &["$A", "as=other/ns/a/sa/x"],
            &["", "as=t/ns/a/sa/xx", "as=t/ns/b/sa/x"],
        ),
        ("from serviceAccounts=x", &["as=t/ns/default/sa/x"], &["$A", ""]),
        ("from serviceAccounts!=a/x", &["", "as=t/ns/b/sa/x"], &["$A"]),
        ("from trustDomains=cluster.local", &["$A"], &["", "as=other/ns/a/sa/x"]),
        ("from trustDomains=*.local", &["$A"], &["as=other/ns/a/sa/x"]),
        ("from trustDomains=*", &["$A"], &[""]),
        ("from trustDomains!=cluster.local", &["", "as=other/ns/a/sa/x"], &["$A"]),
        ("when source.principal=*/ns/a/sa/x", &["$A"], &[""]),
        ("when source.namespace!=b", &["$A", ""], &["as=t/ns/b/sa/x"]),
        ("when source.serviceAccount=a/x", &["$A"], &[""]),
        ("when source.trustDomain!=other", &["$A"], &["as=other/ns/a/sa/x"]),
        // From where.
        (
            "from ipBlocks=10.0.0.0/24",
            &["", "from=10.0.0.9", "from=::ffff:10.0.0.9"],
            &["from=10.0.1.9", "from=fd00::1"],
        ),
        (
            "from ipBlocks=10.0.0.1,fd00::/8",
            &["", "from=fd00::1"],
            &["from=10.0.0.2"],
        ),
        ("from ipBlocks!=10.0.0.0/8", &["from=11.0.0.1"], &[""]),
        (
            "from remoteIpBlocks=1.2.3.0/24",
            &["remote=1.2.3.4"],
            &["", "from=1.2.3.4"],
        ),
        ("from remoteIpBlocks!=1.2.3.4", &[""], &["remote=1.2.3.4"]),
        ("when source.ip=10.0.0.1", &["remote=9.9.9.9"], &["from=10.0.0.2"]),
        ("when remote.ip!=10.0.0.0/8", &["remote=9.9.9.9"], &[""]),
        ("when destination.ip=10.0.0.9", &[""], &["to=10.0.0.8:8080"]),
        (
            "when destination.port=8080,9090",
            &["", "to=10.0.0.9:9090"],
            &["to=10.0.0.9:80"],
        ),
        ("when destination.port!=8080", &["to=10.0.0.9:80"], &[""]),
        ("when connection.sni=*.svc", &["sni=a.svc"], &["", "sni=a"]),
        ("when connection.sni=*", &["sni=a"], &[""]),
        ("when connection.sni!=a.svc", &["", "sni=b"], &["sni=a.svc"]),
        // To what.
        (
            "to hosts=Web.Shop",
            &["", "host=WEB.shop"],
            &["host=web.shop:8080", "host=other"],
        ),
        ("to hosts=web.shop*", &["", "host=web.SHOP:8080"], &["host=xweb.shop"]),
        (
            "to hosts=*.SHOP",
            &["", "host=a.b.shop"],
            &["host=shop", "host=web.shop:80"],
        ),
        ("to hosts=*", &["", "host="], &[]),
        ("to hosts!=web.shop", &["host=web.shop:80"], &["", "host=WEB.SHOP"]),
        ("to ports=8080", &[""], &["to=10.0.0.9:80"]),
        ("to ports!=8080,81", &["to=10.0.0.9:80"], &["", "to=10.0.0.9:81"]),
        ("to methods=GET", &[""], &["method=get", "method=POST"]),
        ("to methods=P*", &["method=POST", "method=PUT"], &[""]),
        ("to methods=*T", &["method=GET"], &["method=DELETE"]),
        ("to methods!=GET", &["method=POST"], &[""]),
        ("to paths=/a", &["path=/a"], &["", "path=/A", "path=/a/", "path=/a/b"]),
        ("to paths=/a*", &["path=/a", "path=/a/b", "path=/ab"], &["path=/"]),
        ("to paths=*.html", &["path=/x.html"], &["path=/x.htm"]),
        ("to paths=*", &[""], &[]),
        ("to paths=/a/{*}/c", &["path=/a/b/c"], &["path=/a/c", "path=/a/b/b/c"]),
        (
            "to paths=/a/{**}",
            &["path=/a/b/c", "path=/a/"],
            &["path=/a", "path=/b"],
        ),
        (
            "to paths=/a*  paths!=/a/{**},/ab",
            &["path=/a", "path=/abc"],
            &["path=/a/b", "path=/ab", "path=/b"],
        ),
        ("to paths!=/a*", &["path=/b"], &["path=/a"]),
        // Headers: every value of a repeated one counts.
        (
            "when request.headers[X-A]=1",
            &["x-a:1", "x-a:2 x-a:1"],
            &["", "x-a:2", "x-a:1,2", "x-b:1"],
        ),
        ("when request.headers[x-a]=1*", &["x-a:12"], &["x-a:2"]),
        ("when request.headers[x-a]=*1", &["x-a:21"], &["x-a:2"]),
        ("when request.headers[x-a]=*", &["x-a:1", "x-a:"], &["", "x-b:1"]),
        (
            "when request.headers[x-a]!=1",
            &["", "x-a:2"],
            &["x-a:1", "x-a:2 x-a:1"],
        ),
        ("when request.headers[x-a]!=*", &["", "x-b:1"], &["x-a:1", "x-a:"]),
        ("when request.headers[host]=web.shop", &["", "host:other"], &["host=x"]),
        (
            "when request.headers[:authority]=web.shop",
            &[""],
            &["host=x", "host=WEB.shop"],
        ),
        ("when request.headers[:method]=GET", &[""], &["method=POST"]),
        ("when request.headers[:path]=/a", &["path=/a"], &["path=/b"]),
        ("when request.headers[no_such(name)]=1", &[], &["", "x-a:1"]),
        // Tokens.
        (
            "from requestPrincipals=https://i/s",
            &[r#"{"iss": "https://i", "sub": "s"}"#],
            &[
                "",
                "$A",
                r#"{"iss": "https://i", "sub": "t"}"#,
                r#"{"iss": "https://i"}"#,
                r#"{"sub": "s"}"#,
            ],
        ),
        (
            "from requestPrincipals=*",
            &[r#"{"iss": "https://i", "sub": "s"}"#],
            &["", r#"{"iss": "https://i"}"#],
        ),
        (
            "from requestPrincipals!=*",
            &["", r#"{"iss": "i"}"#],
            &[r#"{"iss": "i", "sub": "s"}"#],
        ),
        (
            "when request.auth.principal=i/*",
            &[r#"{"iss": "i", "sub": "s"}"#],
            &["", r#"{"iss": "j", "sub": "s"}"#],
        ),
        (
            "when request.auth.audiences=a",
            &[r#"{"aud": "a"}"#, r#"{"aud": ["b", "a"]}"#],
            &["", r#"{"aud": "b"}"#],
        ),
        (
            "when request.auth.audiences!=a",
            &["", r#"{"aud": ["b"]}"#],
            &[r#"{"aud": ["b", "a"]}"#],
        ),
        (
            "when request.auth.presenter=p*",
            &[r#"{"azp": "ps"}"#],
            &["", r#"{"azp": "q"}"#],
        ),
        (
            "when request.auth.claims[groups]=g",
            &[r#"{"groups": ["h", "g"]}"#, r#"{"groups": "g"}"#],
            &["", r#"{"groups": "h g"}"#, r#"{"groups": {"g": "g"}}"#],
        ),
        (
            "when request.auth.claims[scope]=read",
            &[r#"{"scope": "write read"}"#],
            &[r#"{"scope": "readers"}"#],
        ),
        (
            "when request.auth.claims[a][b]=c",
            &[r#"{"a": {"b": ["c"]}}"#],
            &[r#"{"a": {"b": "d"}}"#, r#"{"a": "c"}"#],
        ),
        (
            "when request.auth.claims[a]!=b",
            &["", r#"{"a": "c"}"#],
            &[r#"{"a": ["c", "b"]}"#],
        ),
        // Everything together.
        (
            "from namespaces=b from namespaces=a to paths=/x to paths=/y",
            &["$A path=/x", "$A path=/y"],
            &["$A", "path=/x"],
        ),
        (
            "from namespaces=a principals!=*/sa/y to methods=GET paths=/x when source.ip=10.0.0.1",
            &["$A path=/x"],
            &[
                "$A path=/x method=POST",
                "$A path=/x from=10.0.0.2",
                "as=t/ns/a/sa/y path=/x",
            ],
        ),
        (
            "when request.headers[x-a]=1 request.headers[x-b]=2 request.headers[x-a]!=3",
            &["x-a:1 x-b:2"],
            &["x-a:1", "x-b:2", "x-a:1 x-b:2 x-a:3"],
        ),
        (
            "from namespaces=a from ipBlocks=1.1.1.1",
            &["$A", "from=1.1.1.1"],
            &[""],
        ),
    ] {
        for case in yes {
            assert!(matches(rule, case), "{rule:?} matches {case:?}");
        }
        for case in no {
            assert!(!matches(rule, case), "{rule:?} does not match {case:?}");
        }
    }
}

#[test]
fn without_http_a_rule_denies_by_the_rest_and_allows_never() {
    for (rule, case, denies, allows) in [
        ("", "tcp", true, true),
        ("to ports=8080", "tcp", true, true),
        ("to ports=80", "tcp", false, false),
        ("to paths=/a", "tcp", true, false),
        ("to ports=8080 paths=/a", "tcp", true, false),
        ("to ports=80 paths=/a", "tcp", false, false),
        ("to paths!=/a", "tcp", true, false),
        ("to ports=8080 to methods=GET", "tcp", true, false),
        ("from requestPrincipals=*", "tcp", true, false),
        ("from namespaces=a to methods=GET", "tcp $A", true, false),
        ("from namespaces=b to methods=GET", "tcp $A", false, false),
        ("from namespaces=a", "tcp $A", true, true),
        ("from namespaces=a when request.headers[x]=1", "tcp $A", true, false),
        ("when request.auth.claims[a]=b", "tcp", true, false),
        ("when request.headers[:method]=GET", "tcp", true, false),
        ("when connection.sni=a", "tcp sni=a", true, true),
        ("to hosts=a", "tcp", true, false),
    ] {
        let case = Case::new(&case.replace("$A", A));
        for others in [0, 35] {
            let mut rules = vec![rule.to_owned()];
            rules.extend((0..others).map(|n| format!("from principals=never to paths=/never/{n} ports=1")));
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            let of = |action| compile(vec![policy(action, "p", &rules)]);
            let denied = !of(Action::Deny).decide(&case.facts()).outcome.is_allowed();
            let allowed = of(Action::Allow).decide(&case.facts()).outcome.is_allowed();
            assert_eq!((denied, allowed), (denies, allows), "{rule:?}");
            let custom = of(Action::Custom("p".to_owned()));
            let asked = custom.custom(&case.facts(), |_| true).is_some();
            let asked_of_http_alone = custom.custom(&case.facts(), |_| false).is_some();
            assert_eq!(asked_of_http_alone, allows, "{rule:?}");
            let audited = !of(Action::Audit).decide(&case.facts()).audits.is_empty();
            assert_eq!((asked, audited), (denies, denies), "{rule:?}");
        }
    }
}

fn told(policies: &Policies, case: &str) -> String {
    let case = Case::new(&case.replace("$A", A));
    let facts = case.facts();
    let custom = policies
        .custom(&facts, |_| true)
        .map(|custom| format!("{} asked by {}; ", custom.provider, custom.rule));
    let tell = |outcome: Outcome<'_>| match outcome {
        Outcome::Allowed { by } => format!("allowed by {}", by.map_or("none".to_owned(), ToString::to_string)),
        Outcome::Denied { .. } => outcome.detail().unwrap(),
    };
    let decision = policies.decide(&facts);
    let audits: Vec<String> = decision.audits.iter().map(ToString::to_string).collect();
    let audits = if audits.is_empty() {
        String::new()
    } else {
        format!("; audited {}", audits.join(" "))
    };
    let shadow = decision.shadow.map(|outcome| format!("; would be {}", tell(outcome)));
    [
        custom.unwrap_or_default(),
        tell(decision.outcome),
        audits,
        shadow.unwrap_or_default(),
    ]
    .concat()
}

#[test]
fn the_order_and_what_is_empty_are_istios() {
    let (allow, deny, audit) = (Action::Allow, Action::Deny, Action::Audit);
    let custom = |provider: &str| Action::Custom(provider.to_owned());
    for (policies, case, expected) in [
        (vec![], "", "allowed by none"),
        (
            vec![policy(allow.clone(), "p", &[])],
            "",
            "rbac_access_denied_matched_policy[none]",
        ),
        (
            vec![policy(allow.clone(), "p", &[""])],
            "",
            "allowed by ns[shop]-policy[p]-rule[0]",
        ),
        (vec![policy(deny.clone(), "p", &[])], "", "allowed by none"),
        (
            vec![policy(deny.clone(), "p", &[""])],
            "",
            "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]",
        ),
        (
            vec![policy(audit.clone(), "p", &["to paths=/x"])],
            "",
            "allowed by none",
        ),
        (
            vec![policy(audit.clone(), "p", &["to paths=/x", "", "to methods=GET"])],
            "",
            "allowed by none; audited ns[shop]-policy[p]-rule[1] ns[shop]-policy[p]-rule[2]",
        ),
        (vec![policy(custom("z"), "p", &["to paths=/x"])], "", "allowed by none"),
        (
            vec![policy(custom("z"), "p", &[""]), policy(custom("a"), "q", &[""])],
            "",
            "a asked by ns[shop]-policy[q]-rule[0]; allowed by none",
        ),
        (
            vec![
                policy(allow.clone(), "a", &[""]),
                policy(deny.clone(), "d", &["to paths=/x", "to paths=/"]),
            ],
            "",
            "rbac_access_denied_matched_policy[ns[shop]-policy[d]-rule[1]]",
        ),
        (
            vec![
                policy(allow.clone(), "b", &["to paths=/"]),
                policy(allow.clone(), "a", &["to paths=/x"]),
            ],
            "",
            "allowed by ns[shop]-policy[b]-rule[0]",
        ),
        (
            vec![
                policy(allow.clone(), "b", &["to paths=/"]),
                policy(allow.clone(), "a", &["to paths=/*"]),
            ],
            "",
            "allowed by ns[shop]-policy[a]-rule[0]",
        ),
        (
            vec![
                policy(allow.clone(), "a", &["to paths=/x"]),
                policy(deny, "d", &["to paths=/x"]),
            ],
            "",
            "rbac_access_denied_matched_policy[none]",
        ),
    ] {
        assert_eq!(told(&compile(policies), case), expected);
    }
    assert!(compile(vec![]).is_empty() && Policies::default().is_empty());
    assert!(!compile(vec![policy(allow, "p", &[])]).is_empty());
}

#[test]
fn dry_run_policies_tell_what_they_would_change() {
    let dry = |action, name: &str, rules: &[&str]| Policy {
        dry_run: true,
        ..policy(action, name, rules)
    };
    for (policies, case, expected) in [
        (
            vec![dry(Action::Deny, "d", &["to paths=/x"])],
            "path=/x",
            "allowed by none; would be rbac_access_denied_matched_policy[ns[shop]-policy[d]-rule[0]]",
        ),
        (
            vec![dry(Action::Deny, "d", &["to paths=/x"])],
            "",
            "allowed by none; would be allowed by none",
        ),
        (
            vec![dry(Action::Allow, "a", &["to paths=/x"])],
            "",
            "allowed by none; would be rbac_access_denied_matched_policy[none]",
        ),
        (
            vec![dry(Action::Allow, "a", &["to paths=/x"])],
            "path=/x",
            "allowed by none; would be allowed by ns[shop]-policy[a]-rule[0]",
        ),
        (
            vec![
                dry(Action::Allow, "a", &["to paths=/x"]),
                policy(Action::Allow, "b", &["to paths=/y"]),
            ],
            "path=/x",
            "rbac_access_denied_matched_policy[none]; would be allowed by ns[shop]-policy[a]-rule[0]",
        ),
        (
            vec![
                dry(Action::Allow, "a", &["to paths=/x"]),
                policy(Action::Allow, "b", &["to paths=/y"]),
            ],
            "path=/y",
            "allowed by ns[shop]-policy[b]-rule[0]; would be allowed by ns[shop]-policy[b]-rule[0]",
        ),
        (
            vec![dry(Action::Allow, "a", &[""]), policy(Action::Deny, "b", &[""])],
            "",
            "rbac_access_denied_matched_policy[ns[shop]-policy[b]-rule[0]]; would be rbac_access_denied_matched_policy[ns[shop]-policy[b]-rule[0]]",
        ),
        (
            vec![
                dry(Action::Audit, "a", &[""]),
                dry(Action::Custom("c".to_owned()), "c", &[""]),
            ],
            "",
            "allowed by none",
        ),
    ] {
        assert_eq!(told(&compile(policies), case), expected);
    }
}

#[test]
fn aliases_are_one_trust_domain() {
    let deny = |text| vec![policy(Action::Deny, "p", &[text])];
    for (rule, case, expected) in [
        ("from principals=td1/ns/a/sa/x", "as=td2/ns/a/sa/x", false),
        ("from principals=cluster.local/ns/a/sa/x", "as=td2/ns/a/sa/x", false),
        ("from principals=other/ns/a/sa/x", "as=td2/ns/a/sa/x", true),
        ("from principals!=td2/ns/a/sa/x", "as=td1/ns/a/sa/x", true),
        ("from trustDomains=td2", "as=td1/ns/a/sa/x", false),
        ("from trustDomains=cluster.local", "as=td1/ns/a/sa/x", true),
        ("when source.trustDomain!=td1", "as=td2/ns/a/sa/x", true),
        ("when source.principal=td1/ns/a/*", "as=td2/ns/a/sa/x", true),
        ("when source.principal=td1/ns/a/sa/*", "as=td2/ns/a/sa/x", false),
    ] {
        let policies = compile_in(deny(rule), &["td1", "td2"]);
        let case = Case::new(case);
        assert_eq!(policies.decide(&case.facts()).outcome.is_allowed(), expected, "{rule}");
    }
}

#[test]
fn the_nearest_rule_is_told_with_its_first_field_that_does_not_match() {
    let token = r#"{"iss": "i", "sub": "s", "groups": ["a", "b"]}"#;
    for (rules, case, expected) in [
        (&[][..], "", None),
        (&[""], "", None),
        (
            &[
                "from principals=cluster.local/ns/b/sa/y to paths=/x",
                "from namespaces=a to paths=/x",
            ],
            "$A",
            Some(r#"ns[shop]-policy[p]-rule[1]: to[0].operation.paths ["/x"] does not match "/""#),
        ),
        (
            &["from principals=b to paths=/x", "to paths=/y"],
            "path=/x",
            Some(r#"ns[shop]-policy[p]-rule[0]: from[0].source.principals ["b"] finds nothing to match"#),
        ),
        (
            &["from principals=b from namespaces=a principals!=*/x"],
            "$A",
            Some(
                r#"ns[shop]-policy[p]-rule[0]: from[1].source.notPrincipals ["*/x"] does not match "cluster.local/ns/a/sa/x""#,
            ),
        ),
        (
            &["to paths=/x when request.headers[x-a]=1"],
            "path=/x x-a:2 x-a:3",
            Some(r#"ns[shop]-policy[p]-rule[0]: when[request.headers[x-a]].values ["1"] does not match "2, 3""#),
        ),
        (
            &["when request.headers[authorization]=1"],
            "authorization:Bearer-abc",
            Some(
                r#"ns[shop]-policy[p]-rule[0]: when[request.headers[authorization]].values ["1"] does not match "(hidden)""#,
            ),
        ),
        (
            &["when request.headers[x]=1"],
            "x:eyJhbGciOi.eyJpc3Mi.c2ln",
            Some(r#"ns[shop]-policy[p]-rule[0]: when[request.headers[x]].values ["1"] does not match "(hidden)""#),
        ),
        (
            &["when request.auth.claims[groups]=c"],
            token,
            Some(r#"ns[shop]-policy[p]-rule[0]: when[request.auth.claims[groups]].values ["c"] does not match "a, b""#),
        ),
        (
            &["from requestPrincipals=j/*"],
            token,
            Some(r#"ns[shop]-policy[p]-rule[0]: from[0].source.requestPrincipals ["j/*"] does not match "i/s""#),
        ),
        (
            &["to ports=1,2,3,4,5,6,7,8,9,10"],
            "",
            Some(
                r#"ns[shop]-policy[p]-rule[0]: to[0].operation.ports ["1", "2", "3", "4", "5", "6", "7", "8", "and 2 more"] does not match "8080""#,
            ),
        ),
        (
            &["from ipBlocks=1.0.0.0/8 to ports=8080"],
            "",
            Some(r#"ns[shop]-policy[p]-rule[0]: from[0].source.ipBlocks ["1.0.0.0/8"] does not match "10.0.0.1""#),
        ),
        (
            &["to ports=8080 methods=GET"],
            "tcp",
            Some(r#"ns[shop]-policy[p]-rule[0]: to[0].operation.methods ["GET"] finds nothing to match"#),
        ),
    ] {
        let policies = compile(vec![policy(Action::Allow, "p", rules)]);
        let case = Case::new(&case.replace("$A", A));
        let nearest = policies.explain(&case.facts()).map(|nearest| nearest.to_string());
        assert_eq!(nearest.as_deref(), expected, "{rules:?}");
    }
}

/// Numbers that look drawn, the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

#[test]
fn the_index_finds_what_matching_every_rule_finds() {
    let from = [
        "principals=cluster.local/ns/a/sa/x",
        "principals=*/sa/x",
        "principals!=*/ns/a/*",
        "namespaces=a",
        "namespaces=*",
        "namespaces!=b,c",
        "serviceAccounts=a/x,b/y",
        "trustDomains=cluster.local",
        "ipBlocks=10.0.0.0/8,1.1.1.1",
        "ipBlocks!=10.0.0.1",
        "remoteIpBlocks=::/0",
        "requestPrincipals=i/s",
        "requestPrincipals=*",
        "requestPrincipals=i*",
        "requestPrincipals=i",
        "principals=*",
    ];
    let to = [
        "paths=/a",
        "paths=/a*",
        "paths=*/b",
        "paths=/a/{*}",
        "paths=/{**}/b",
        "paths!=/a/b",
        "methods=GET",
        "methods=P*",
        "methods!=POST",
        "hosts=web.shop",
        "hosts=*.SHOP",
        "ports=8080,80",
        "ports!=80",
        "paths=/c,/a/b",
        "paths=*",
    ];
    let when = [
        "request.headers[x-a]=1",
        "request.headers[x-b]=*",
        "request.headers[x-a]!=2",
        "request.headers[:method]=GET",
        "request.auth.claims[g]=a",
        "request.auth.claims[g]!=b",
        "request.auth.claims[h][i]=j",
        "connection.sni=s",
        "destination.ip=10.0.0.9",
        "source.namespace=b",
        "request.auth.audiences=w",
        "request.auth.presenter=z",
    ];
    let cases = [
        "",
        "tcp",
        "$A",
        "tcp $A sni=s",
        "$A path=/a/b x-a:1",
        "as=cluster.local/ns/b/sa/y path=/a method=POST x-b:7 x-a:2 x-a:1",
        "path=/c/b host=WEB.SHOP to=10.0.0.9:80",
        "from=1.1.1.1 remote=fd00::1 method=PUT path=/a/b/c",
        r#"$A {"iss": "i", "sub": "s", "g": ["a"], "aud": "w"}"#,
        r#"path=/a {"iss": "i", "g": "b", "h": {"i": "j"}, "azp": "z"}"#,
        r#"$A path=/a/b x-a:1 {"iss": "i", "sub": ""}"#,
        "as=other/ns/c/sa/x path=/ab host=a.shop x-b:",
    ];
    let mut draw = Draw(1);
    let mut matched = 0;
    for round in 0..24 {
        let rules: Vec<String> = (0..[5, 70, 300][round % 3])
            .map(|_| {
                let mut text = String::new();
                for (word, fields) in [("from", &from[..]), ("to", &to)] {
                    for _ in 0..draw.below(3) {
                        text = format!("{text} {word}");
                        for _ in 0..=draw.below(2) {
                            text = format!("{text} {}", draw.one(fields));
                        }
                    }
                }
                text.push_str(" when");
                for _ in 0..draw.below(3) {
                    text = format!("{text} {}", draw.one(&when));
                }
                text
            })
            .collect();
        let domains = super::Domains::new(&TrustDomain::new("cluster.local").unwrap(), &[]);
        let compiled: Vec<super::Compiled> = rules
            .iter()
            .enumerate()
            .map(|(place, text)| {
                let reference = super::RuleRef {
                    namespace: String::new(),
                    name: String::new(),
                    rule: place,
                };
                super::Compiled::new(reference, &rule(text), &domains)
            })
            .collect();
        let table = super::Table::new(compiled);
        for case in cases {
            let case = Case::new(&case.replace("$A", A));
            let facts = case.facts();
            let seen = super::Seen::new(&facts);
            for strict in [false, true] {
                let mut found = Vec::new();
                table.each(&seen, strict, |rule| {
                    found.push(rule.reference.rule);
                    true
                });
                let all = table
                    .rules()
                    .iter()
                    .filter(|rule| !(strict && case.tcp && rule.is_http));
                let expected: Vec<usize> = all
                    .filter(|rule| rule.matches(&seen))
                    .map(|rule| rule.reference.rule)
                    .collect();
                assert_eq!(found, expected);
                matched += expected.len();
            }
        }
    }
    assert!(matched > 1000, "{matched} matches are too few to say anything");
}
