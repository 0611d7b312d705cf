//! Opaque bytes to the application.

use super::authorization::{self, Caller};
use super::connection::Facts;
use super::custom::Consent;
use super::standing;
use super::tls::Peer;
use crate::net::dial;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::{Client, Connection, Way};
use crate::worker::Worker;

/// Connects to the application and relays until both ends have closed; without an application, and where a policy denies it,
/// the client is reset. It lasts no longer than the policies take it; without a `peer` it came in the clear.
pub async fn relay(worker: &Worker, mut client: Stream, facts: &Facts, peer: Option<&Peer>) {
    let mut record = record(worker, facts, peer);
    let caller = Caller::new(facts, peer);
    let mut consent = Consent::default();
    if let Err(denied) = authorization::connection(worker, &caller, &mut consent, true).await {
        denied.end(&mut record);
        return client.reset();
    }
    let Some(mut application) = open(worker, facts, &mut record).await else {
        return client.reset();
    };
    record.opened();
    let (client, application, record) = (&mut client, &mut application, &mut record);
    standing::join(worker, facts, &caller, consent, client, application, record).await;
}

/// The record of an opaque connection.
#[must_use]
pub fn record(worker: &Worker, facts: &Facts, peer: Option<&Peer>) -> Connection {
    let mut record = Connection::begin(&worker.telemetry, Way::In, facts.peer, facts.address);
    let identity = peer.map(|peer| &peer.identity);
    let client = Client::new(&worker.telemetry, facts.peer.ip(), identity, facts.address.port());
    record.from_client(&client, peer.and_then(|peer| peer.server_name.as_ref()));
    record
}

/// Connects to the application; where that fails the refusal is noted.
pub async fn open(worker: &Worker, facts: &Facts, record: &mut Connection) -> Option<Stream> {
    match dial::application(facts.address).await {
        Ok(stream) => {
            record.reached(stream.local_addr().ok());
            Some(Stream::Plain(stream))
        }
        Err(error) => {
            let detail = format!("the application: {error}");
            record.failed(Reason::Unreachable, &detail);
            worker.refuse(Reason::Unreachable, facts.peer, Some(facts.address), detail);
            None
        }
    }
}
