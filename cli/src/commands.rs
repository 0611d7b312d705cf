//! The verbs, a file each.

pub(crate) mod eval;
mod migrate;
pub(crate) mod proxy_config;
mod proxy_status;
mod validate;
mod version;

use futures::StreamExt as _;
use mesh_wire::admin::Syncz;

use crate::arguments::{Command, CommandLine};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::warn;
use crate::pages::Peer;

/// How many pods are asked at once.
const AT_ONCE: usize = 8;

/// Runs the verb; the exit status.
pub(crate) async fn run(line: CommandLine) -> Result<u8, Failure> {
    let CommandLine { global, command } = line;
    match command {
        Command::ProxyStatus { proxy } => proxy_status::run(&global, proxy.as_deref()).await,
        Command::ProxyConfig { what } => proxy_config::run(&global, what).await,
        Command::Validate { files } => validate::run(&global, &files),
        Command::Migrate { files, cluster } => migrate::run(&global, &files, cluster).await,
        Command::Eval { what } => eval::run(&global, &what),
        Command::Version { remote } => version::run(&global, remote).await,
    }
}

/// What all of the operator's replicas say, and whether one of them said nothing.
pub(crate) async fn replicas(cluster: &Cluster) -> Result<(Vec<Syncz>, bool), Failure> {
    let peers = cluster
        .operators()
        .await?
        .into_iter()
        .map(|pod| Peer::operator(cluster, pod));
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    let mut asking =
        futures::stream::iter(peers.map(|peer| async move { peer.syncz().await })).buffer_unordered(AT_ONCE);
    while let Some(answer) = asking.next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    if answers.is_empty()
        && let Some(failure) = failures.pop()
    {
        return Err(failure);
    }
    for failure in &failures {
        warn(&failure.to_string());
    }
    answers.sort_by(|a, b| a.replica.cmp(&b.replica));
    Ok((answers, !failures.is_empty()))
}
