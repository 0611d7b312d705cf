//! What a service does on SIGTERM or SIGINT: drain, or exit at once.
//!
//! As process 1 of a container there is no default action for signals, so every service installs a handler.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a draining service goes on accepting: its peers need that long to learn that the pod is leaving.
const KEEP_ACCEPTING: Duration = Duration::from_secs(5);

/// How long requests in flight may take once nothing is accepted any more. With [`KEEP_ACCEPTING`] it stays within
/// Kubernetes' default grace period of 30 seconds.
pub(crate) const FINISH: Duration = Duration::from_secs(20);

/// How a service takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTerminate {
    /// Go on accepting for a while, then stop, and finish what is in flight.
    Drain,
    /// Exit at once: what is in flight is cut.
    Exit,
}

/// Where a service stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has asked it to leave.
    Serving,
    /// It still accepts, and asks its clients to close their connections.
    Draining,
    /// It accepts nothing, and finishes what is in flight.
    Closing,
}

/// Follows the process's signals and tells the phase.
///
/// # Errors
/// When a signal handler cannot be installed.
pub(crate) fn phases(on_terminate: OnTerminate) -> io::Result<watch::Receiver<Phase>> {
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut asked = termination()?;
    tokio::spawn(async move {
        asked.recv().await;
        if on_terminate == OnTerminate::Exit {
            eprintln!("bookshop: asked to terminate: exit at once");
            std::process::exit(0);
        }
        eprintln!("bookshop: asked to terminate: drain");
        phase.send_replace(Phase::Draining);
        tokio::time::sleep(KEEP_ACCEPTING).await;
        phase.send_replace(Phase::Closing);
        // Receivers take a vanished sender for an error, so it stays as long as somebody listens.
        phase.closed().await;
    });
    Ok(phases)
}

/// SIGTERM and SIGINT in one.
pub(crate) struct Termination {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Termination {
    /// Waits for either signal.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Installs handlers for SIGTERM and SIGINT.
///
/// # Errors
/// When a handler cannot be installed.
pub(crate) fn termination() -> io::Result<Termination> {
    Ok(Termination {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}
