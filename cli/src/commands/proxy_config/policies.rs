//! `proxy-config policies`: what holds on each port, and what decided it.

use mesh_wire::admin::Policy;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Table, warn};
use crate::pages::Peer;

pub(crate) async fn run(global: &Global, peer: &Peer) -> Result<(), Failure> {
    let page = peer.policies().await?;
    if !page.received {
        warn(&format!(
            "{} has received no policy yet, and refuses every connection until it has",
            peer.name()
        ));
    }
    output::print(global.output, &page, || table(&page.policies))
}

fn table(policies: &[Policy]) -> Table {
    let mut table = Table::new(&["KIND", "PORT", "MODE", "DECIDED BY"]);
    for policy in policies {
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
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decided_is_named() {
        let policy = |port, mode: &str, decided_by: &[&str]| Policy {
            kind: "PeerAuthentication".into(),
            port,
            mode: mode.into(),
            decided_by: decided_by.iter().map(|it| (*it).to_owned()).collect(),
        };
        let policies = [
            policy(None, "STRICT", &["shop/web", "shop/default"]),
            policy(Some(9000), "DISABLE", &["shop/web"]),
        ];
        assert_eq!(
            table(&policies).text(false),
            "\
KIND                   PORT     MODE        DECIDED BY
PeerAuthentication     *        STRICT      shop/web, shop/default
PeerAuthentication     9000     DISABLE     shop/web
"
        );
        assert!(
            table(&[policy(None, "PERMISSIVE", &[])])
                .text(false)
                .contains("the mesh's default")
        );
    }
}
