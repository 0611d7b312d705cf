//! `proxy-config listeners`.

use clap::Args;
use mesh_wire::admin::Listener;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Table, warn};
use crate::pages::Peer;

/// Which listeners.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only this address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Only this port.
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) async fn run(global: &Global, peer: &Peer, filter: &Filter) -> Result<(), Failure> {
    let page = peer.listeners().await?;
    if page.listeners.len() < page.total {
        warn(&format!(
            "the first {} of {} listeners",
            page.listeners.len(),
            page.total
        ));
    }
    let mut listeners = page.listeners;
    listeners.retain(|it| {
        filter.address.as_ref().is_none_or(|address| it.address == *address)
            && filter.port.is_none_or(|port| it.port == port)
    });
    output::print(global.output, &listeners, || table(&listeners))
}

fn table(listeners: &[Listener]) -> Table {
    let mut table = Table::new(&["ADDRESSES", "PORT", "MATCH", "DESTINATION"]);
    for it in listeners {
        table.row([
            it.address.as_str().into(),
            it.port.to_string().into(),
            it.matches.as_str().into(),
            it.destination.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_istios() {
        let listener = |address: &str, port, matches: &str, destination: &str| Listener {
            port,
            address: address.into(),
            matches: matches.into(),
            destination: destination.into(),
            hosts: Vec::new(),
        };
        let listeners = [
            listener("0.0.0.0", 80, "Trans: raw_buffer; App: http/1.1,h2c", "Route: 80"),
            listener(
                "10.96.0.1",
                9000,
                "ALL",
                "Cluster: outbound|9000||db.shop.svc.cluster.local",
            ),
            listener("0.0.0.0", 15006, "Trans: tls; Addr: *:8080", "Cluster: inbound|8080||"),
        ];
        assert_eq!(
            table(&listeners).text(false),
            "\
ADDRESSES     PORT      MATCH                                    DESTINATION
0.0.0.0       80        Trans: raw_buffer; App: http/1.1,h2c     Route: 80
10.96.0.1     9000      ALL                                      Cluster: outbound|9000||db.shop.svc.cluster.local
0.0.0.0       15006     Trans: tls; Addr: *:8080                 Cluster: inbound|8080||
"
        );
    }
}
