//! Decides again and again by policies of a shape and size, for `hack/bench-authorization` to count the instructions.
//!
//! `bench-authorization SHAPE RULES DECISIONS`; without arguments it lists the shapes. Each decision's request matches no
//! rule but the last, and every second one not even that.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::authorization::facts::{Facts, Http};
use mesh_core::authorization::matches::{AddressRange, PathMatch, TextMatch};
use mesh_core::authorization::policy::{Action, Condition, Operation, Policy, Rule, Source, Wanted};
use mesh_core::authorization::{Outcome, Policies};
use mesh_core::identity::{SpiffeId, TrustDomain};
use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

const SHAPES: [&str; 8] = [
    "principal",
    "namespace",
    "path",
    "prefix",
    "template",
    "host",
    "address",
    "header",
];

fn any<T>(value: T) -> Wanted<T> {
    Wanted {
        any: vec![value],
        none: Vec::new(),
    }
}

/// The rule of a number; every request here is made for the one numbered `u16::MAX`.
fn rule(shape: &str, number: u16) -> Result<Rule, Box<dyn Error>> {
    let mut source = Source::default();
    let mut operation = Operation::default();
    let mut when = Vec::new();
    match shape {
        "principal" => {
            let principal = format!("cluster.local/ns/shop/sa/account-{number}");
            source.principals = any(TextMatch::Exact(principal));
        }
        "namespace" => source.namespaces = any(TextMatch::Exact(format!("team-{number}"))),
        "path" => operation.paths = any(PathMatch::parse(&format!("/api/items/{number}"))?),
        "prefix" => operation.paths = any(PathMatch::parse(&format!("/api/items/{number}/*"))?),
        "template" => operation.paths = any(PathMatch::parse(&format!("/items-{number}/{{*}}/{{**}}"))?),
        "host" => operation.hosts = any(TextMatch::Exact(format!("shop-{number}.example.com"))),
        "address" => {
            let [high, low] = number.to_be_bytes();
            source.ip_blocks = any(AddressRange::parse(&format!("10.{high}.{low}.0/24"))?);
        }
        "header" => {
            let wanted = any(TextMatch::Exact(format!("tenant-{number}")));
            when.push(Condition::Header("x-tenant".to_owned(), wanted));
        }
        other => return Err(format!("shape {other}: expected one of {}", SHAPES.join(", ")).into()),
    }
    // As most rules do, each asks for something more that many share.
    operation.methods = any(TextMatch::Exact("GET".to_owned()));
    Ok(Rule {
        from: vec![source],
        to: vec![operation],
        when,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, rules, decisions] = arguments.as_slice() else {
        println!("{}", SHAPES.join("\n"));
        return Ok(());
    };
    let (rules, decisions): (u16, u32) = (rules.parse()?, decisions.parse()?);
    let numbers = (1..rules).chain([u16::MAX]);
    // Ten rules make a policy, half of the policies refuse.
    let numbers: Vec<u16> = numbers.collect();
    let policies = numbers.chunks(10).enumerate().map(|(place, numbers)| {
        Ok(Policy {
            namespace: "shop".to_owned(),
            name: format!("policy-{place}"),
            action: if place % 2 == 0 { Action::Allow } else { Action::Deny },
            rules: numbers
                .iter()
                .map(|number| rule(shape, *number))
                .collect::<Result<_, _>>()?,
            dry_run: false,
        })
    });
    let policies = policies.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let trust_domain = TrustDomain::new("cluster.local")?;
    let policies = Policies::compile(policies, &trust_domain, &[]);

    let last = u16::MAX;
    let identity = match shape.as_str() {
        "namespace" => SpiffeId::new(trust_domain, &format!("team-{last}"), "web")?,
        _ => SpiffeId::new(trust_domain, "shop", &format!("account-{last}"))?,
    };
    let path = match shape.as_str() {
        "template" => format!("/items-{last}/a/b"),
        "prefix" => format!("/api/items/{last}/a"),
        _ => format!("/api/items/{last}"),
    };
    let host = format!("shop-{last}.example.com");
    let mut headers = HeaderMap::new();
    for name in ["accept", "user-agent", "x-request-id", "traceparent", "content-type"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("something"));
    }
    headers.insert("x-tenant", HeaderValue::from_str(&format!("tenant-{last}"))?);
    let source = IpAddr::from([10, 255, 255, 7]);
    let facts = |method| Facts {
        identity: Some(&identity),
        source,
        remote: source,
        destination: SocketAddr::from(([10, 0, 0, 9], 8080)),
        server_name: None,
        http: Some(Http {
            method,
            path: &path,
            host: &host,
            headers: &headers,
            claims: None,
        }),
    };
    let (get, post) = (facts("GET"), facts("POST"));
    let mut matched = 0;
    for decision in 0..decisions {
        let facts = if decision % 2 == 0 { &get } else { &post };
        let outcome = black_box(policies.decide(black_box(facts)).outcome);
        matched += u32::from(matches!(
            outcome,
            Outcome::Allowed { by: Some(_) } | Outcome::Denied { by: Some(_) }
        ));
    }
    if matched != decisions.div_ceil(2) {
        return Err(format!("{matched} of {decisions} decisions named a rule, and not every second").into());
    }
    Ok(())
}
