//! The webhook's serving certificate: a Secret like a workload's, with the DNS names of the webhook's Service.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use rustls::crypto::CryptoProvider;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::ca::{Authority, Subject};
use crate::certificates::held::seconds;
use crate::certificates::{Expected, Facts, Held, Plan, Reason, Use, plan, secret};
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::watch::follow;
use crate::metrics::Metrics;

/// How long the certificate lives. Much longer than a workload's: while it is out of date no injected pod can be made, so
/// it has to outlast any time that the operator may be away.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long after a failure the next round is.
const RETRY: Duration = Duration::from_secs(5);

/// The longest time between two rounds.
const RESYNC: Duration = Duration::from_secs(600);

/// The controller's name in metrics.
const CONTROLLER: &str = "webhook-certificate";

/// What is kept.
pub struct Serving {
    /// The API server.
    pub client: Client,
    /// The operator's namespace, which is the webhook's too.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The webhook Service's name.
    pub service: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Who signs.
    pub authority: watch::Receiver<Option<Arc<Authority>>>,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Who checks keys.
    pub provider: Arc<CryptoProvider>,
}

/// The names that the API server and the mesh call the webhook by.
#[must_use]
pub fn names(service: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{cluster_domain}"),
        format!("{service}.{namespace}"),
    ]
}

impl Serving {
    /// Keeps the Secret until this future is dropped.
    pub async fn run(&self) {
        let secrets: Api<DeserializeGuard<Secret>> = Api::namespaced(self.client.clone(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.secret));
        let changed = Notify::new();
        tokio::join!(
            follow(secrets, only, self.metrics.clone(), |_| changed.notify_one()),
            self.keep(&changed)
        );
    }

    async fn keep(&self, changed: &Notify) {
        let mut authority = self.authority.clone();
        loop {
            let root = authority.borrow_and_update().clone();
            let wait = match root {
                None => RETRY,
                Some(root) => {
                    let timer = self
                        .metrics
                        .reconcile_seconds
                        .with_label_values(&[CONTROLLER])
                        .start_timer();
                    let result = self.round(&root).await;
                    timer.observe_duration();
                    self.metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
                    result.unwrap_or_else(|reason| {
                        self.metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
                        self.metrics.certificates_failed.with_label_values(&["webhook"]).inc();
                        warn!(
                            secret = self.secret,
                            reason, "the webhook's certificate could not be kept"
                        );
                        RETRY
                    })
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                changed = authority.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(&self, authority: &Authority) -> Result<Duration, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(&self.secret).await.map_err(|error| error.to_string())?;
        let subject = Subject::Server(names(&self.service, &self.namespace, &self.cluster_domain));
        let expected = Expected {
            subject: &subject,
            owner: None,
            authority,
            ttl: LIFETIME,
        };
        let now = SystemTime::now();
        let held = Held::new(found.as_ref(), &expected, &self.provider, now);
        let facts = Facts {
            name: &self.service,
            usage: Use::Now,
            held: &held,
            now: seconds(now),
        };
        match plan(&facts) {
            Plan::Keep { renew_in, .. } => Ok(renew_in.min(RESYNC)),
            Plan::Issue(reason) => {
                if !self.leadership.held() {
                    return Ok(RETRY);
                }
                let leaf = authority
                    .issue(&subject, LIFETIME, now)
                    .map_err(|error| error.to_string())?;
                let new = secret::make(
                    &self.namespace,
                    &self.secret,
                    &leaf,
                    authority.roots_pem(),
                    None,
                    found.as_ref(),
                );
                let written = match found {
                    Some(_) => secrets.replace(&self.secret, &PostParams::default(), &new).await,
                    None => secrets.create(&PostParams::default(), &new).await,
                };
                written.map_err(|error| error.to_string())?;
                let counter = match reason {
                    Reason::Missing => &self.metrics.certificates_issued,
                    Reason::Due | Reason::Defect(_) => &self.metrics.certificates_rotated,
                };
                counter.with_label_values(&["webhook"]).inc();
                info!(
                    secret = self.secret,
                    serial = leaf.serial,
                    ?reason,
                    "wrote the webhook's certificate"
                );
                Ok(RETRY)
            }
            Plan::Refuse(refusal) => {
                error!(secret = self.secret, %refusal, "the webhook has no certificate");
                Ok(RESYNC / 10)
            }
            Plan::Nothing | Plan::Linger(_) | Plan::Remove => Ok(RESYNC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_name_is_among_them() {
        let names = names("pinnace-webhook", "istio-system", "cluster.local");
        assert!(names.contains(&"pinnace-webhook.istio-system.svc".to_owned()));
        assert!(names.contains(&"pinnace-webhook.istio-system.svc.cluster.local".to_owned()));
    }
}
