//! The threads that carry traffic: one single-threaded runtime each, fed by the accepting threads.

use crate::net::listen::{self, Accepted, Direction, Slots};
use crate::worker::Worker;
use crate::{inbound, outbound};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many accepted connections may wait for a worker.
const QUEUE: usize = 1024;

/// How often pools are swept.
const SWEEP: Duration = Duration::from_secs(10);

/// Starts `count` workers, each with a context of its own from `context`.
///
/// # Errors
/// A thread or runtime cannot be made.
pub(super) fn start(count: usize, context: impl Fn() -> Arc<Worker>) -> io::Result<Vec<mpsc::Sender<Accepted>>> {
    let mut senders = Vec::with_capacity(count);
    for number in 0..count {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = context();
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || runtime.block_on(work(worker, receiver)))?;
        senders.push(sender);
    }
    Ok(senders)
}

async fn work(worker: Arc<Worker>, mut accepted: mpsc::Receiver<Accepted>) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            connection = accepted.recv() => {
                let Some(connection) = connection else { return };
                let worker = worker.clone();
                match connection.direction {
                    Direction::Inbound => drop(tokio::spawn(inbound::connection::carry(worker, connection))),
                    Direction::Outbound => drop(tokio::spawn(outbound::connection::carry(worker, connection))),
                }
            }
            _ = sweep.tick() => {
                worker.upstreams.sweep();
                worker.application.sweep();
                worker.telemetry.sweep(std::time::Instant::now());
            }
        }
    }
}

/// Starts the thread that accepts on a port.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn accept(
    listener: TcpListener,
    direction: Direction,
    slots: Slots,
    workers: Vec<mpsc::Sender<Accepted>>,
    refused: prometheus::IntCounter,
) -> io::Result<()> {
    let name = match direction {
        Direction::Inbound => "accept-inbound",
        Direction::Outbound => "accept-outbound",
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || listen::accept(&listener, direction, &slots, &workers, &refused))?;
    Ok(())
}
