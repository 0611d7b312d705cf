//! What a worker's connections share: handles to configuration, the worker's own pools, counters. A worker is one thread
//! with a runtime of its own; nothing here is waited for.

use crate::denials::Denials;
use crate::discovery::Mesh;
use crate::ext_authz::Calls;
use crate::http::upstream::Pools;
use crate::identity::Identity;
use crate::kernel_tls::{KernelTls, Watch};
use crate::metrics::Metrics;
use crate::net::listen::{Accepted, Direction, Slot};
use crate::net::original;
use crate::origination::Originations;
use crate::refusals::{Reason, Refusals};
use crate::reports::Reports;
use crate::resolve::Names;
use crate::telemetry::Recorder;
use crate::tried::Tried;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A captured connection with the address that it was meant for.
#[derive(Debug)]
pub struct Taken {
    /// The initiator's side.
    pub client: TcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// The address and port that was dialled.
    pub address: SocketAddr,
    /// Counts it as open for as long as anything comes of it.
    pub slot: Arc<Slot>,
}

/// A worker's context.
pub struct Worker {
    /// What the operator says.
    pub mesh: Mesh,
    /// The certificate in use.
    pub identity: Identity,
    /// TLS as DestinationRules describe it.
    pub originations: Originations,
    /// Names of endpoints, and their addresses.
    pub names: Names,
    /// TLS by the kernel, where it is used.
    pub kernel_tls: Option<Arc<KernelTls>>,
    /// Connections to other pods.
    pub upstreams: Pools,
    /// Connections to the pod's own application.
    pub application: Pools,
    /// Counters.
    pub metrics: Metrics,
    /// What is told of requests and connections.
    pub telemetry: Arc<Recorder>,
    /// Why connections were refused.
    pub refusals: Refusals,
    /// What policies denied.
    pub denials: Denials,
    /// What the operator is told.
    pub reports: Reports,
    /// What candidate sets would have denied.
    pub tried: Tried,
    /// Calls to external authorizers.
    pub authorizers: Calls,
    /// Whether callers of the mesh are told the id of their denial's record.
    pub tells_denial_ids: bool,
    /// Whether clients' connections to the application are to end in order.
    pub drains_inbound: watch::Receiver<bool>,
    /// Whether the application's own connections are.
    pub drains_outbound: watch::Receiver<bool>,
    /// The ports that the redirect rules lead to: a connection that was dialled there was not captured.
    pub own_ports: [u16; 2],
}

impl Worker {
    /// Takes a captured connection: on this worker's runtime, and with the address that was dialled. One that no redirect rule
    /// brought here is refused.
    pub fn take(&self, accepted: Accepted) -> Option<Taken> {
        let Accepted {
            socket,
            peer,
            direction,
            slot,
        } = accepted;
        let client = TcpStream::from_std(socket).ok()?;
        let _ = client.set_nodelay(true);
        let address = client
            .local_addr()
            .and_then(|local| original::destination(&client, local));
        match address {
            Ok(address) if !self.own_ports.contains(&address.port()) => Some(Taken {
                client,
                peer,
                address,
                slot: Arc::new(slot),
            }),
            Ok(_) | Err(_) => {
                let detail = match direction {
                    Direction::Outbound => "dialled the outbound port itself",
                    Direction::Inbound => "dialled the inbound port itself",
                };
                self.refuse(Reason::NotCaptured, peer, None, detail);
                None
            }
        }
    }

    /// What has a connection handed to the kernel after its handshake, where that is asked for and possible.
    pub fn watch(&self, direction: Direction) -> Option<Watch> {
        Some(self.kernel_tls.as_ref()?.watch(direction))
    }

    /// Refuses a connection: counts, logs and remembers why.
    pub fn refuse(&self, reason: Reason, peer: SocketAddr, destination: Option<SocketAddr>, detail: impl Into<String>) {
        self.refusals.note(reason, peer, destination, detail.into());
    }
}
