//! One opaque connection's record: begun when it is clear that the connection is one, counted while bytes pass, and logged when
//! it is dropped.

use super::client::Client;
use super::facts::{Facts, Way};
use super::flags::Flags;
use super::labels::{Outside, Service};
use super::recorder::Recorder;
use super::series::{Base, Connections, Key, Series};
use crate::cluster::Cluster;
use crate::net::relay::Count;
use crate::refusals::Reason;
use mesh_core::destination::Endpoint;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Under which labels a connection is counted.
#[derive(Debug)]
enum Counted {
    Nowhere,
    Under(Arc<Base>),
    From(Arc<Client>),
}

/// A connection's record.
#[derive(Debug)]
pub struct Connection(Option<Box<State>>);

#[derive(Debug)]
struct State {
    recorder: Arc<Recorder>,
    started: Instant,
    counted: Counted,
    opened: bool,
    flags: Flags,
    denied: bool,
    facts: Facts,
}

impl State {
    fn key(&self) -> Key {
        // The flags of an end come too late for a series that was opened under.
        Key::tcp(if self.opened { Flags::NONE } else { self.flags })
    }

    fn count(&self, base: &Base, count: impl FnOnce(&Connections)) {
        if let Series::Connections(connections) = self.recorder.series(base, self.key()) {
            count(connections);
        }
    }
}

impl Connection {
    /// Begins. `peer` is the client's address, `dialled` what it dialled.
    #[must_use]
    pub fn begin(recorder: &Arc<Recorder>, way: Way, peer: SocketAddr, dialled: SocketAddr) -> Self {
        Self(Some(Box::new(State {
            recorder: recorder.clone(),
            started: Instant::now(),
            counted: Counted::Nowhere,
            opened: false,
            flags: Flags::NONE,
            denied: false,
            facts: Facts {
                way,
                peer: Some(peer),
                dialled: Some(dialled),
                upstream: (way == Way::In).then_some(dialled),
                ..Facts::default()
            },
        })))
    }

    /// The connection comes from a client; `server_name` is what its TLS asked for.
    pub fn from_client(&mut self, client: &Arc<Client>, server_name: Option<&Arc<str>>) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::From(client.clone());
        state.facts.identity = client.identity().cloned();
        state.facts.server_name = server_name.cloned();
    }

    /// The name that the client's own TLS asks for.
    pub fn asks_for(&mut self, server_name: Option<&Arc<str>>) {
        if let Some(state) = &mut self.0 {
            state.facts.server_name = server_name.cloned();
        }
    }

    /// The connection is for a destination, whether or not it has an endpoint.
    pub fn to_destination(&mut self, cluster: &Arc<Cluster>) {
        let Some(state) = &mut self.0 else { return };
        state.facts.destination = Some(cluster.clone());
        state.counted = Counted::Under(state.recorder.to_service(Service::of(cluster)));
    }

    /// It goes to an endpoint of the destination.
    pub fn to_endpoint(&mut self, cluster: &Arc<Cluster>, endpoint: &Endpoint) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::Under(state.recorder.to_endpoint(cluster.destination(), endpoint));
        state.facts.upstream = Some(endpoint.address);
    }

    /// It is for what is no destination; the server's address, where it is sent on.
    pub fn to_outside(&mut self, outside: Outside, upstream: Option<SocketAddr>) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::Under(state.recorder.to_outside(outside, ""));
        state.facts.cluster = Some(outside.as_str());
        state.facts.upstream = upstream;
    }

    /// The server was reached; `local` is the proxy's address there.
    pub fn reached(&mut self, local: Option<SocketAddr>) {
        let Some(state) = &mut self.0 else { return };
        state.flags = Flags::NONE;
        state.facts.failure.clear();
        state.facts.upstream_local = local;
    }

    /// Bytes may pass.
    pub fn opened(&mut self) {
        let Some(state) = &mut self.0 else { return };
        if !state.opened {
            state.opened = true;
            let key = state.key();
            match &state.counted {
                Counted::Nowhere => {}
                Counted::Under(base) => state.count(base, |it| it.opened.add(1)),
                Counted::From(client) => client.opened(key),
            }
        }
    }

    /// An attempt failed, or the connection was refused; `detail` is what exactly, for the log.
    pub fn failed(&mut self, reason: Reason, detail: &str) {
        let Some(state) = &mut self.0 else { return };
        state.flags = Flags::from(reason);
        state.denied = reason == Reason::Plaintext;
        match reason {
            Reason::Plaintext => state.facts.details = "filter_chain_not_found".into(),
            Reason::Unreachable | Reason::ServerHandshake | Reason::NoCertificate => {
                state.flags = state.flags.and(Flags::URX);
                detail.clone_into(&mut state.facts.failure);
            }
            _ => {}
        }
    }

    /// A policy denied it, in Envoy's words of why.
    pub fn denied(&mut self, details: impl Into<Cow<'static, str>>) {
        if let Some(state) = &mut self.0 {
            state.denied = true;
            state.facts.termination = details.into();
        }
    }

    /// Says more of what went wrong.
    pub fn flagged(&mut self, flags: Flags) {
        if let Some(state) = &mut self.0 {
            state.flags = state.flags.and(flags);
        }
    }

    /// It is no opaque connection after all.
    pub fn discard(mut self) {
        self.0 = None;
    }

    fn passed(&mut self, received: u64, sent: u64) {
        let Some(state) = &mut self.0 else { return };
        state.facts.received += received;
        state.facts.sent += sent;
        let key = state.key();
        match &state.counted {
            Counted::Nowhere => {}
            Counted::Under(base) => state.count(base, |it| {
                it.received.add(received);
                it.sent.add(sent);
            }),
            Counted::From(client) => client.passed(key, received, sent),
        }
    }
}

impl Count for Connection {
    fn up(&mut self, bytes: u64) {
        self.passed(bytes, 0);
    }

    fn down(&mut self, bytes: u64) {
        self.passed(0, bytes);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        let key = state.key();
        let opened = state.opened;
        match &state.counted {
            Counted::Nowhere => {}
            Counted::Under(base) => state.count(base, |it| {
                if !opened {
                    it.opened.add(1);
                }
                it.closed.add(1);
            }),
            Counted::From(client) => {
                if !opened {
                    client.opened(key);
                }
                client.closed(key);
            }
        }
        let log = state.recorder.telemetry().log();
        if log.takes_all() || !state.flags.is_empty() || state.denied {
            state.facts.elapsed = state.started.elapsed();
            state.facts.began = SystemTime::now().checked_sub(state.facts.elapsed);
            state.facts.flags = state.flags;
            log.line(&state.facts);
        }
    }
}
