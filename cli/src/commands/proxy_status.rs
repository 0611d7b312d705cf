//! `proxy-status`: one row per live proxy.

use std::collections::BTreeMap;
use std::time::SystemTime;

use mesh_wire::admin::{ProxyStatus, Sync, Syncz, TypeStatus};
use serde::Serialize;

use crate::arguments::Global;
use crate::cluster::Cluster;
use crate::commands::replicas;
use crate::failure::{DONE, Failure, IN_PART};
use crate::output::{self, Cell, Table, age, rfc3339, warn};
use crate::pages::Peer;

/// The name of the only cluster, as Istio names it where nobody has.
const CLUSTER: &str = "Kubernetes";

/// The columns of the resource types.
const TYPES: [(&str, &str); 6] = [
    ("TRUST", "TrustBundle"),
    ("WORKLOAD", "Workload"),
    ("POLICY", "InboundPolicy"),
    ("AUTHORIZATION", "AuthorizationPolicies"),
    ("TOKENS", "RequestAuthentications"),
    ("DESTINATIONS", "Destination"),
];

/// One proxy, as it is printed for programs.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    cluster: &'static str,
    identity: String,
    operator: String,
    version: String,
    connected_since: String,
    #[serde(skip)]
    since: u64,
    types: BTreeMap<String, Type>,
}

/// One resource type of it.
#[derive(Debug, Serialize)]
struct Type {
    status: &'static str,
    #[serde(flatten)]
    details: TypeStatus,
}

pub(crate) async fn run(global: &Global, proxy: Option<&str>) -> Result<u8, Failure> {
    let (answers, in_part) = match &global.forwarded {
        Some(address) => (vec![Peer::Address(address.clone()).syncz().await?], false),
        None => replicas(&Cluster::connect(global).await?).await?,
    };
    for rejection in answers.iter().flat_map(|answer| &answer.rejections) {
        if meant(&rejection.proxy, proxy, global.namespace.as_deref()) {
            let at = rfc3339(rejection.at);
            warn(&format!(
                "{at} {} rejected {}: {}",
                rejection.proxy, rejection.kind, rejection.reason
            ));
        }
    }
    let mut rows = merged(answers);
    rows.retain(|row| meant(&row.name, proxy, global.namespace.as_deref()));
    if let Some(proxy) = proxy.filter(|_| rows.is_empty()) {
        return Err(Failure::missing(format!("no proxy {proxy} is connected to the control plane")).advise(
            "its own view: pinnace proxy-config policies POD.NAMESPACE; kubectl logs POD -c istio-proxy says why it is not",
        ));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    output::print(global.output, &rows, || table(&rows, now))?;
    Ok(if in_part { IN_PART } else { DONE })
}

/// Whether a proxy is one that was asked for: by the beginning of its name, and by namespace.
fn meant(name: &str, wanted: Option<&str>, namespace: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name.starts_with(wanted))
        && namespace.is_none_or(|namespace| name.rsplit_once('.').is_some_and(|(_, of)| of == namespace))
}

/// The proxies of all replicas, by name. One that changes between two is with the one to which it came last.
fn merged(answers: Vec<Syncz>) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for answer in answers {
        for proxy in answer.proxies {
            if rows
                .get(&proxy.name)
                .is_none_or(|held| held.since < proxy.connected_since)
            {
                rows.insert(proxy.name.clone(), row(proxy, &answer.replica));
            }
        }
    }
    rows.into_values().collect()
}

fn row(proxy: ProxyStatus, replica: &str) -> Row {
    let types = proxy.types.into_iter().map(|(name, details)| {
        let status = details.sync().as_str();
        (name, Type { status, details })
    });
    Row {
        name: proxy.name,
        cluster: CLUSTER,
        identity: proxy.identity,
        operator: replica.to_owned(),
        version: proxy.version,
        connected_since: rfc3339(proxy.connected_since),
        since: proxy.connected_since,
        types: types.collect(),
    }
}

fn table(rows: &[Row], now: u64) -> Table {
    let types = TYPES.map(|(column, _)| column);
    let heading: Vec<&str> = ["NAME", "CLUSTER"]
        .into_iter()
        .chain(types)
        .chain(["OPERATOR", "VERSION", "CONNECTED"])
        .collect();
    let mut table = Table::new(&heading);
    for row in rows {
        let types = TYPES.map(|(_, name)| row.types.get(name).map_or_else(|| Sync::NotSent.as_str().into(), cell));
        table.row(
            [row.name.as_str().into(), CLUSTER.into()]
                .into_iter()
                .chain(types)
                .chain([
                    row.operator.as_str().into(),
                    row.version.as_str().into(),
                    age(now.saturating_sub(row.since)).into(),
                ]),
        );
    }
    table
}

fn cell(of: &Type) -> Cell {
    // Of the others there is one.
    let text = match of.details.subscribed {
        0 | 1 => of.status.to_owned(),
        many => format!("{} ({many})", of.status),
    };
    match of.details.sync() {
        Sync::Rejected => Cell::alarm(text),
        Sync::Stale => Cell::warning(text),
        Sync::Synced | Sync::NotSent => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, proxies: &str) -> Syncz {
        let text = format!(r#"{{"replica": "{name}", "proxies": {proxies}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn replicas_are_merged_into_one_row_per_proxy() {
        let synced = r#"{"subscribed": 1, "sent": 2, "acknowledged": 2}"#;
        let answers = vec![
            replica(
                "pinnace-operator-7c9-aaaaa",
                &format!(
                    r#"[{{"name": "web-1.shop", "version": "0.1.0", "connected_since": 100}},
                        {{"name": "cart-1.shop", "version": "0.1.0", "connected_since": 940,
                          "types": {{"TrustBundle": {synced}, "Workload": {synced},
                                     "InboundPolicy": {{"subscribed": 1, "sent": 2, "acknowledged": 1,
                                                        "refused": {{"response": 2, "reason": "bad"}}}},
                                     "AuthorizationPolicies": {synced},
                                     "Destination": {{"subscribed": 12, "sent": 3, "acknowledged": 3}}}}}}]"#
                ),
            ),
            replica(
                "pinnace-operator-7c9-bbbbb",
                &format!(
                    r#"[{{"name": "web-1.shop", "version": "0.1.0", "connected_since": 200,
                          "types": {{"TrustBundle": {synced}, "Workload": {{"subscribed": 1, "sent": 1}}}}}}]"#
                ),
            ),
        ];
        let rows = merged(answers);
        assert_eq!(
            table(&rows, 1000).text(false),
            "\
NAME            CLUSTER        TRUST      WORKLOAD     POLICY       AUTHORIZATION     TOKENS       DESTINATIONS     OPERATOR                       VERSION     CONNECTED
cart-1.shop     Kubernetes     SYNCED     SYNCED       REJECTED     SYNCED            NOT SENT     SYNCED (12)      pinnace-operator-7c9-aaaaa     0.1.0       1m0s
web-1.shop      Kubernetes     SYNCED     STALE        NOT SENT     NOT SENT          NOT SENT     NOT SENT         pinnace-operator-7c9-bbbbb     0.1.0       13m20s
"
        );
        let shown = serde_json::to_value(&rows).unwrap();
        assert_eq!(shown[0]["types"]["InboundPolicy"]["status"], "REJECTED");
        assert_eq!(shown[0]["types"]["InboundPolicy"]["refused"]["reason"], "bad");
        assert_eq!(shown[1]["connected_since"], "1970-01-01T00:03:20Z");
    }

    #[test]
    fn proxies_are_chosen_by_name_and_namespace() {
        for (wanted, namespace, expected) in [
            (None, None, true),
            (Some("web-1.shop"), None, true),
            (Some("web"), Some("shop"), true),
            (Some("cart"), None, false),
            (None, Some("bank"), false),
        ] {
            assert_eq!(
                meant("web-1.shop", wanted, namespace),
                expected,
                "{wanted:?} {namespace:?}"
            );
        }
    }
}
