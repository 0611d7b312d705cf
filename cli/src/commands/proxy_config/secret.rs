//! `proxy-config secret`: certificates and roots, never a key.

use mesh_wire::admin::{Certificate, Certificates};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Cell, Table};
use crate::pages::Peer;

pub(crate) async fn run(global: &Global, peer: &Peer) -> Result<(), Failure> {
    let page = peer.certificates().await?;
    output::print(global.output, &page, || table(&page))
}

fn table(page: &Certificates) -> Table {
    let mut table = Table::new(&[
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
        "TRUST DOMAIN",
        "SAN",
    ]);
    for certificate in &page.certificates {
        let root = certificate.kind == "root";
        let valid: Cell = if certificate.seconds_until_expiration > 0 {
            "true".into()
        } else {
            Cell::alarm("false")
        };
        table.row([
            if root { "ROOTCA" } else { "default" }.into(),
            if root { "CA" } else { "Cert Chain" }.into(),
            "ACTIVE".into(),
            valid,
            certificate.serial.as_str().into(),
            certificate.not_after.as_str().into(),
            certificate.not_before.as_str().into(),
            page.trust_domain.as_str().into(),
            name(certificate).into(),
        ]);
    }
    table
}

/// The alternative name of a leaf; those of an authority have none.
fn name(certificate: &Certificate) -> &str {
    if certificate.identity.starts_with("spiffe://") {
        &certificate.identity
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_istios_and_the_name() {
        let certificate = |kind: &str, identity: &str, serial: &str, left| Certificate {
            kind: kind.into(),
            identity: identity.into(),
            serial: serial.into(),
            not_before: "2026-08-01T12:00:00Z".into(),
            not_after: "2026-08-02T12:00:00Z".into(),
            seconds_until_expiration: left,
            ..Certificate::default()
        };
        let page = Certificates {
            certificates: vec![
                certificate("leaf", "spiffe://cluster.local/ns/shop/sa/web", "6f2a", 60),
                certificate("root", "O=cluster.local", "01", 0),
            ],
            trust_domain: "cluster.local".into(),
            ..Certificates::default()
        };
        assert_eq!(
            table(&page).text(false),
            "\
RESOURCE NAME     TYPE           STATUS     VALID CERT     SERIAL NUMBER     NOT AFTER                NOT BEFORE               TRUST DOMAIN      SAN
default           Cert Chain     ACTIVE     true           6f2a              2026-08-02T12:00:00Z     2026-08-01T12:00:00Z     cluster.local     spiffe://cluster.local/ns/shop/sa/web
ROOTCA            CA             ACTIVE     false          01                2026-08-02T12:00:00Z     2026-08-01T12:00:00Z     cluster.local
"
        );
    }
}
