//! Destinations that are fetched before the application calls them: those that a Sidecar resource declares.

use mesh_core::destination::Query;

use super::mesh::Mesh;

/// Asks for what the operator says is to be fetched ahead, and again whenever that changes. Never ends.
pub(super) async fn run(mesh: &Mesh) {
    let mut changes = mesh.workload_changes();
    loop {
        changes.mark_unchanged();
        for query in &mesh.workload().ahead {
            match query {
                Query::Host { host, port } => mesh.fetch_host(host, *port).await,
                Query::Address(address) => mesh.fetch_address(*address).await,
                Query::Peer(_) | Query::Name(_) => {}
            }
        }
        // The mesh holds the sender.
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
