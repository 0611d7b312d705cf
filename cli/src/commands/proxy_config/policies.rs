//! `proxy-config policies`: what holds on each port, which calls are taken and whose tokens are believed, and what decided
//! it.

use mesh_wire::admin::Policies;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Cell, Table, warn};
use crate::pages::Peer;

pub(crate) async fn run(global: &Global, peer: &Peer) -> Result<(), Failure> {
    let page = peer.policies().await?;
    if !page.received {
        warn(&format!(
            "{} has not received its policies yet, and refuses every connection until it has",
            peer.name()
        ));
    }
    output::print(global.output, &page, || table(&page))
}

fn table(page: &Policies) -> Table {
    let mut table = Table::new(&["KIND", "PORT", "MODE", "DECIDED BY", "RULES"]);
    for policy in &page.policies {
        let port = policy.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        let decided = match &policy.decided_by[..] {
            [] => "the mesh's default".to_owned(),
            several => several.join(", "),
        };
        table.row([
            policy.kind.as_str().into(),
            port.into(),
            policy.mode.as_str().into(),
            decided.into(),
            "".into(),
        ]);
    }
    for policy in &page.authorization_policies {
        let mut mode = policy.action.clone();
        if !policy.provider.is_empty() {
            mode = format!("{mode} {}", policy.provider);
        }
        if policy.dry_run {
            mode.push_str(" (dry run)");
        }
        let rules = match policy.rules {
            0 => "none: matches nothing".to_owned(),
            1 => "1 rule".to_owned(),
            several => format!("{several} rules"),
        };
        table.row([
            "AuthorizationPolicy".into(),
            "*".into(),
            mode.into(),
            policy.name.as_str().into(),
            rules.into(),
        ]);
    }
    for policy in &page.request_authentications {
        for rule in &policy.rules {
            let rules: Cell = match &rule.keys_missing {
                None => rule.issuer.as_str().into(),
                Some(reason) => Cell::warning(format!("{}: no keys: {reason}", rule.issuer)),
            };
            table.row([
                "RequestAuthentication".into(),
                "*".into(),
                "JWT".into(),
                policy.name.as_str().into(),
                rules,
            ]);
        }
    }
    for set in &page.candidate_sets {
        let tried = |mode: &str| format!("{mode} (candidate set {})", set.name);
        for policy in &set.policies {
            let port = policy.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
            table.row([
                policy.kind.as_str().into(),
                port.into(),
                tried(&policy.mode).into(),
                policy.decided_by.join(", ").into(),
                "".into(),
            ]);
        }
        for candidate in &set.candidates {
            let (kind, name) = candidate.split_once('/').unwrap_or(("", candidate));
            if kind != "PeerAuthentication" || set.policies.is_empty() {
                table.row([kind.into(), "*".into(), tried("tried").into(), name.into(), "".into()]);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_wire::admin::{AuthorizationPolicy, CandidateSet, JwtRule, Policy, RequestAuthentication};

    #[test]
    fn what_decided_is_named() {
        let policy = |port, mode: &str, decided_by: &[&str]| Policy {
            kind: "PeerAuthentication".into(),
            port,
            mode: mode.into(),
            decided_by: decided_by.iter().map(|it| (*it).to_owned()).collect(),
        };
        let authorization = |name: &str, action: &str, provider: &str, rules| AuthorizationPolicy {
            name: name.into(),
            action: action.into(),
            provider: provider.into(),
            rules,
            dry_run: name == "shop/tried",
        };
        let jwt = |issuer: &str, missing: Option<&str>| JwtRule {
            issuer: issuer.into(),
            audiences: Vec::new(),
            keys_missing: missing.map(str::to_owned),
        };
        let page = Policies {
            policies: vec![
                policy(None, "STRICT", &["shop/web", "shop/default"]),
                policy(Some(9000), "DISABLE", &["shop/web"]),
            ],
            authorization_policies: vec![
                authorization("istio-system/none", "ALLOW", "", 0),
                authorization("shop/ask", "CUSTOM", "opa", 1),
                authorization("shop/tried", "DENY", "", 2),
            ],
            request_authentications: vec![RequestAuthentication {
                name: "shop/jwt".into(),
                rules: vec![jwt("https://a.example", None), jwt("b", Some("refused"))],
            }],
            candidate_sets: vec![CandidateSet {
                name: "go".into(),
                candidates: vec![
                    "PeerAuthentication/shop/new".into(),
                    "AuthorizationPolicy/shop/next".into(),
                ],
                policies: vec![policy(None, "STRICT", &["shop/new"])],
            }],
            ..Policies::default()
        };
        assert_eq!(
            table(&page).text(false),
            "\
KIND                      PORT     MODE                          DECIDED BY                 RULES
PeerAuthentication        *        STRICT                        shop/web, shop/default
PeerAuthentication        9000     DISABLE                       shop/web
AuthorizationPolicy       *        ALLOW                         istio-system/none          none: matches nothing
AuthorizationPolicy       *        CUSTOM opa                    shop/ask                   1 rule
AuthorizationPolicy       *        DENY (dry run)                shop/tried                 2 rules
RequestAuthentication     *        JWT                           shop/jwt                   https://a.example
RequestAuthentication     *        JWT                           shop/jwt                   b: no keys: refused
PeerAuthentication        *        STRICT (candidate set go)     shop/new
AuthorizationPolicy       *        tried (candidate set go)      shop/next
"
        );
        let defaults = Policies {
            policies: vec![policy(None, "PERMISSIVE", &[])],
            ..Policies::default()
        };
        assert!(table(&defaults).text(false).contains("the mesh's default"));
    }
}
