//! What users and dashboards are told: events about certificates that cannot be issued, and the gauges.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::runtime::events::{Event, EventType};
use tracing::warn;

use super::{Account, Context, journal};
use crate::certificates::held::seconds;
use crate::certificates::{Refusal, secret};
use crate::index::changes::Named;

/// How often gauges are brought up to date.
const MEASURE: Duration = Duration::from_secs(5);

/// The first pods of a service account stand for all in events.
const REPORTED_PODS: usize = 5;

/// Keeps the gauges of what is remembered, and forgets what no longer matters.
pub(super) async fn measure(context: &Context) {
    loop {
        let used: HashSet<Named> = context.index.read(|world, _| world.accounts().cloned().collect());
        let (nearest, foreign) = context.remember(|memory| {
            memory.refused.retain(|account, _| used.contains(account));
            let secrets = &memory.secrets;
            memory
                .failures
                .retain(|account, _| used.contains(account) || secrets.contains_key(account));
            let foreign = memory
                .refused
                .values()
                .filter(|refusal| **refusal == Refusal::Foreign)
                .count();
            (memory.ends.values().min().copied(), foreign)
        });
        context
            .metrics
            .foreign_secrets
            .set(i64::try_from(foreign).unwrap_or(i64::MAX));
        #[allow(clippy::cast_precision_loss)]
        let seconds = nearest.map_or(f64::INFINITY, |nearest| (nearest - seconds(SystemTime::now())) as f64);
        context.metrics.nearest_expiry.set(seconds);
        journal::flush(context);
        tokio::time::sleep(MEASURE).await;
    }
}

/// Says in the log and in events, on the ServiceAccount and on its pods, why there is no certificate.
pub(super) async fn report(context: &Context, account: &Account, name: &Named, refusal: Refusal) {
    warn!(namespace = &*name.0, service_account = &*name.1, %refusal, "no certificate is issued");
    let event = Event {
        type_: EventType::Warning,
        reason: match refusal {
            Refusal::Foreign => "CertificateSecretNotOurs",
            Refusal::NameTooLong => "ServiceAccountNameTooLong",
            Refusal::OutsideNamespaces => "NamespaceWithoutCertificates",
        }
        .to_owned(),
        note: Some(match refusal {
            Refusal::Foreign => format!("Secret {}: {refusal}", secret::name(&name.1)),
            _ => refusal.to_string(),
        }),
        action: "IssueCertificate".to_owned(),
        secondary: None,
    };
    let mut about = Vec::new();
    // An event is named after its object, so one about an overlong name cannot be made.
    if refusal != Refusal::NameTooLong {
        about.push(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ServiceAccount".to_owned()),
            name: Some(name.1.to_string()),
            namespace: Some(name.0.to_string()),
            uid: account.uid(),
            ..ObjectReference::default()
        });
    }
    let pods: Vec<String> = context.index.read(|world, _| {
        world
            .users(name)
            .take(REPORTED_PODS)
            .map(|(pod, _)| pod.to_string())
            .collect()
    });
    about.extend(pods.into_iter().map(|pod| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod),
        namespace: Some(name.0.to_string()),
        ..ObjectReference::default()
    }));
    for object in about {
        if let Err(error) = context.events.publish(&event, &object).await {
            warn!(kind = object.kind, name = object.name, %error, "an event could not be written");
        }
    }
}
