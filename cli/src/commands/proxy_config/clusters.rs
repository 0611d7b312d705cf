//! `proxy-config clusters`.

use clap::{Args, ValueEnum};
use mesh_wire::admin::Cluster;

use super::{named, or_dash};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::pages::Peer;

/// Which clusters.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only clusters of this Service, by its whole name.
    #[arg(long, value_name = "HOST")]
    fqdn: Option<String>,
    /// Only clusters of this port.
    #[arg(long)]
    port: Option<u16>,
    /// Only clusters of this subset.
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction.
    #[arg(long, value_enum)]
    direction: Option<Direction>,
}

/// Which way connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// To the application.
    Inbound,
    /// From it.
    Outbound,
}

impl Filter {
    fn takes(&self, cluster: &Cluster) -> bool {
        let parts = named(&cluster.name);
        let direction = self.direction.map(|direction| match direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        });
        self.fqdn.as_ref().is_none_or(|fqdn| parts.host == fqdn)
            && self.port.is_none_or(|port| parts.port == port.to_string())
            && self.subset.as_ref().is_none_or(|subset| parts.subset == subset)
            && direction.is_none_or(|direction| parts.direction == direction)
    }
}

pub(crate) async fn run(global: &Global, peer: &Peer, filter: &Filter) -> Result<(), Failure> {
    let mut clusters = peer.clusters().await?.clusters;
    clusters.retain(|cluster| filter.takes(cluster));
    output::print(global.output, &clusters, || table(&clusters))
}

fn table(clusters: &[Cluster]) -> Table {
    let mut table = Table::new(&[
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
    ]);
    for cluster in clusters {
        let parts = named(&cluster.name);
        table.row([
            parts.host.into(),
            or_dash(parts.port).into(),
            or_dash(parts.subset).into(),
            or_dash(parts.direction).into(),
            cluster.kind.as_str().into(),
            cluster.destination_rule.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> Vec<Cluster> {
        [
            ("PassthroughCluster", "ORIGINAL_DST", None),
            ("inbound|9080||", "ORIGINAL_DST", None),
            ("outbound|9080||reviews.shop.svc.cluster.local", "EDS", None),
            (
                "outbound|9080|v1|reviews.shop.svc.cluster.local",
                "EDS",
                Some("reviews.shop"),
            ),
        ]
        .map(|(name, kind, rule)| Cluster {
            name: name.into(),
            kind: kind.into(),
            destination_rule: rule.map(str::to_owned),
            ..Cluster::default()
        })
        .into()
    }

    #[test]
    fn the_columns_are_istios() {
        assert_eq!(
            table(&clusters()).text(false),
            "\
SERVICE FQDN                       PORT     SUBSET     DIRECTION     TYPE             DESTINATION RULE
PassthroughCluster                 -        -          -             ORIGINAL_DST
                                   9080     -          inbound       ORIGINAL_DST
reviews.shop.svc.cluster.local     9080     -          outbound      EDS
reviews.shop.svc.cluster.local     9080     v1         outbound      EDS              reviews.shop
"
        );
    }

    #[test]
    fn filters_add_up() {
        let count = |filter: Filter| clusters().iter().filter(|cluster| filter.takes(cluster)).count();
        assert_eq!(count(Filter::default()), 4);
        let port = Some(9080);
        for (filter, expected) in [
            (
                Filter {
                    port,
                    ..Filter::default()
                },
                3,
            ),
            (
                Filter {
                    port,
                    direction: Some(Direction::Outbound),
                    ..Filter::default()
                },
                2,
            ),
            (
                Filter {
                    subset: Some("v1".into()),
                    fqdn: Some("reviews.shop.svc.cluster.local".into()),
                    ..Filter::default()
                },
                1,
            ),
        ] {
            assert_eq!(count(filter), expected);
        }
    }
}
