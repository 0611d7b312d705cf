//! `proxy-config endpoints`.

use clap::Args;
use mesh_wire::admin::Cluster;
use serde::Serialize;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Cell, Table};
use crate::pages::Peer;

/// Which endpoints.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only this cluster, by its whole name.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Only this IP address.
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// Only this port.
    #[arg(long)]
    port: Option<u16>,
    /// Only endpoints of this status: healthy, unhealthy or draining.
    #[arg(long)]
    status: Option<String>,
}

/// An endpoint of a cluster.
#[derive(Debug, Serialize)]
struct Row {
    endpoint: String,
    status: String,
    outlier_check: &'static str,
    cluster: String,
    mutual_tls: bool,
    identity: String,
    workload: String,
}

impl Filter {
    fn takes(&self, row: &Row) -> bool {
        let (address, port) = row.endpoint.rsplit_once(':').unwrap_or((&row.endpoint, ""));
        let address = address.trim_matches(['[', ']']);
        self.cluster.as_ref().is_none_or(|cluster| row.cluster == *cluster)
            && self.address.as_ref().is_none_or(|wanted| address == wanted)
            && self.port.is_none_or(|wanted| port == wanted.to_string())
            && self
                .status
                .as_ref()
                .is_none_or(|status| row.status.eq_ignore_ascii_case(status))
    }
}

pub(crate) async fn run(global: &Global, peer: &Peer, filter: &Filter) -> Result<(), Failure> {
    let mut rows = rows(peer.clusters().await?.clusters);
    rows.retain(|row| filter.takes(row));
    output::print(global.output, &rows, || table(&rows))
}

fn rows(clusters: Vec<Cluster>) -> Vec<Row> {
    let of = |cluster: Cluster| {
        let name = cluster.name;
        cluster.endpoints.into_iter().map(move |endpoint| Row {
            endpoint: endpoint.address,
            status: endpoint.status,
            outlier_check: if endpoint.ejected { "FAILED" } else { "OK" },
            cluster: name.clone(),
            mutual_tls: endpoint.mutual_tls,
            identity: endpoint.identity.unwrap_or_default(),
            workload: endpoint.workload,
        })
    };
    let mut rows: Vec<Row> = clusters.into_iter().flat_map(of).collect();
    rows.sort_by(|a, b| (&a.endpoint, &a.cluster).cmp(&(&b.endpoint, &b.cluster)));
    rows
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER", "IDENTITY"]);
    for row in rows {
        let status: Cell = if row.status == "HEALTHY" {
            row.status.as_str().into()
        } else {
            Cell::warning(row.status.as_str())
        };
        let identity = if row.mutual_tls { row.identity.as_str() } else { "-" };
        table.row([
            row.endpoint.as_str().into(),
            status,
            row.outlier_check.into(),
            row.cluster.as_str().into(),
            identity.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_wire::admin::Endpoint;

    fn clusters() -> Vec<Cluster> {
        let endpoint = |address: &str, mutual_tls: bool| Endpoint {
            address: address.into(),
            status: "HEALTHY".into(),
            ejected: !mutual_tls,
            mutual_tls,
            identity: mutual_tls.then(|| "spiffe://cluster.local/ns/shop/sa/web".into()),
            workload: "web".into(),
        };
        vec![Cluster {
            name: "outbound|80||web.shop.svc.cluster.local".into(),
            endpoints: vec![endpoint("10.0.0.2:8080", false), endpoint("10.0.0.1:8080", true)],
            ..Cluster::default()
        }]
    }

    #[test]
    fn the_columns_are_istios_and_the_identity() {
        assert_eq!(
            table(&rows(clusters())).text(false),
            "\
ENDPOINT          STATUS      OUTLIER CHECK     CLUSTER                                     IDENTITY
10.0.0.1:8080     HEALTHY     OK                outbound|80||web.shop.svc.cluster.local     spiffe://cluster.local/ns/shop/sa/web
10.0.0.2:8080     HEALTHY     FAILED            outbound|80||web.shop.svc.cluster.local     -
"
        );
    }

    #[test]
    fn filters_add_up() {
        let count = |filter: &Filter| rows(clusters()).iter().filter(|row| filter.takes(row)).count();
        let mut filter = Filter {
            port: Some(8080),
            status: Some("healthy".into()),
            ..Filter::default()
        };
        assert_eq!(count(&filter), 2);
        filter.address = Some("10.0.0.1".into());
        assert_eq!(count(&filter), 1);
        filter.cluster = Some("outbound|81||web".into());
        assert_eq!(count(&filter), 0);
    }
}
