//! `proxy-config`: what is in force in one sidecar, as it says itself.

pub(crate) mod clusters;
pub(crate) mod endpoints;
pub(crate) mod listeners;
pub(crate) mod log;
mod policies;
mod secret;

use crate::arguments::{Global, ProxyConfig, Workload};
use crate::cluster::{Cluster, Target};
use crate::failure::{DONE, Failure};
use crate::pages::Peer;

/// Runs the part that was asked for; the exit status.
pub(crate) async fn run(global: &Global, what: ProxyConfig) -> Result<u8, Failure> {
    match what {
        ProxyConfig::Clusters { of, filter } => clusters::run(global, &one(global, &of).await?, &filter).await?,
        ProxyConfig::Listeners { of, filter } => listeners::run(global, &one(global, &of).await?, &filter).await?,
        ProxyConfig::Endpoints { of, filter } => endpoints::run(global, &one(global, &of).await?, &filter).await?,
        ProxyConfig::Secret { of } => secret::run(global, &one(global, &of).await?).await?,
        ProxyConfig::Policies { of } => policies::run(global, &one(global, &of).await?).await?,
        ProxyConfig::Log { of, change } => return log::run(global, all(global, &of).await?, &change).await,
    }
    Ok(DONE)
}

/// The sidecar that is meant: of several pods of a Deployment, the first by name.
async fn one(global: &Global, of: &Workload) -> Result<Peer, Failure> {
    let mut peers = all(global, of).await?;
    peers.truncate(1);
    peers.pop().ok_or_else(|| Failure::missing("no pod is meant"))
}

/// All sidecars that are meant.
async fn all(global: &Global, of: &Workload) -> Result<Vec<Peer>, Failure> {
    if let Some(address) = &global.forwarded {
        return Ok(vec![Peer::Address(address.clone())]);
    }
    let target = Target::parse(of.name.as_deref().unwrap_or_default())?;
    let cluster = Cluster::connect(global).await?;
    let pods = target.pods(&cluster).await?;
    Ok(pods.into_iter().map(|pod| Peer::sidecar(&cluster, pod)).collect())
}

/// The parts of a cluster's name: direction, port, subset, host.
pub(crate) struct Named<'a> {
    pub(crate) direction: &'a str,
    pub(crate) port: &'a str,
    pub(crate) subset: &'a str,
    pub(crate) host: &'a str,
}

/// Takes `outbound|PORT|SUBSET|HOST` apart; another name is the host's column, as in istioctl.
pub(crate) fn named(name: &str) -> Named<'_> {
    let mut parts = name.splitn(4, '|');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(direction), Some(port), Some(subset), Some(host)) => Named {
            direction,
            port,
            subset,
            host,
        },
        _ => Named {
            direction: "",
            port: "",
            subset: "",
            host: name,
        },
    }
}

/// A column without a value.
pub(crate) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
