//! Opaque bytes to the application.

use super::connection::Facts;
use super::in_the_clear;
use crate::net::stream::Stream;
use crate::net::{dial, relay};
use crate::refusals::Reason;
use crate::worker::Worker;

/// Connects to the application and relays until both ends have closed; without an application the client is reset.
/// `in_the_clear`, the connection lasts no longer than plaintext is taken.
pub async fn relay(worker: &Worker, mut client: Stream, facts: &Facts, in_the_clear: bool) {
    match open(worker, facts).await {
        Some(mut application) if in_the_clear => in_the_clear::join(worker, facts, &mut client, &mut application).await,
        Some(mut application) => relay::join(&mut client, &mut application).await,
        None => client.reset(),
    }
}

/// Connects to the application; where that fails the refusal is noted.
pub async fn open(worker: &Worker, facts: &Facts) -> Option<Stream> {
    match dial::application(facts.address).await {
        Ok(stream) => Some(Stream::Plain(stream)),
        Err(error) => {
            worker.refuse(
                Reason::Unreachable,
                facts.peer,
                Some(facts.address),
                format!("the application: {error}"),
            );
            None
        }
    }
}
