//! What the administration pages see of the running sidecar.

use crate::admin::{Certificate, CertificateKind, Readiness, View};
use crate::denials::Denials;
use crate::discovery::Mesh;
use crate::identity::Identity;
use crate::refusals::Refusals;
use crate::sidecar::shown;
use crate::telemetry::Telemetry;
use crate::tried::Tried;
use mesh_wire::admin::{self, Clusters, DiscoveryState, Listeners, Policies, page};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Handles to what is shown.
pub(super) struct SidecarView {
    pub(super) mesh: Mesh,
    pub(super) identity: Identity,
    pub(super) refusals: Refusals,
    pub(super) denials: Denials,
    pub(super) tried: Tried,
    pub(super) telemetry: Telemetry,
}

impl View for SidecarView {
    fn readiness(&self) -> Readiness {
        let certificate = self.identity.tls().is_some_and(|tls| tls.not_after > SystemTime::now());
        Readiness {
            certificate,
            configuration: self.mesh.is_ready(),
        }
    }

    fn certificates(&self) -> Vec<Certificate> {
        let Some(tls) = self.identity.tls() else {
            return Vec::new();
        };
        let chain = tls
            .material
            .certified_key
            .cert
            .iter()
            .enumerate()
            .map(|(at, certificate)| {
                let kind = if at == 0 {
                    CertificateKind::Leaf
                } else {
                    CertificateKind::Intermediate
                };
                let identity = (at == 0).then(|| tls.material.identity.to_string());
                shown(kind, identity, certificate, "tls.crt")
            });
        let roots = tls
            .trust
            .roots
            .iter()
            .map(|root| shown(CertificateKind::Root, None, root, "trust bundle"));
        chain.chain(roots).flatten().collect()
    }

    fn metrics(&self, page: &mut String) {
        self.telemetry.page(page);
    }

    fn config_dump(&self) -> Value {
        let refusals: Vec<Value> = self
            .refusals
            .last()
            .iter()
            .map(|refusal| {
                let at = refusal.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                json!({
                    "at": at.as_secs(),
                    "reason": refusal.reason.as_str(),
                    "flag": refusal.reason.flag(),
                    "peer": refusal.peer.to_string(),
                    "destination": refusal.destination.map(|address| address.to_string()),
                    "detail": refusal.detail,
                })
            })
            .collect();
        json!({ "discovery": self.mesh.snapshot(), "refusals": refusals })
    }

    fn trust_domains(&self) -> Vec<String> {
        let Some(tls) = self.identity.tls() else {
            return Vec::new();
        };
        let own = std::iter::once(&tls.trust.trust_domain);
        own.chain(&tls.trust.aliases)
            .map(|domain| domain.as_str().to_owned())
            .collect()
    }

    fn clusters(&self, after: Option<&str>, limit: usize) -> Clusters {
        let all = shown::clusters(&self.mesh.workload(), self.mesh.found());
        let total = all.len();
        let (chosen, next) = page(all, |it| &it.name, shown::Destined::bytes, after, limit);
        let tls = self.identity.tls();
        Clusters {
            clusters: chosen.into_iter().map(|it| it.shown(tls.as_deref())).collect(),
            total,
            next,
        }
    }

    fn listeners(&self) -> Listeners {
        shown::listeners(
            &self.mesh.workload(),
            self.mesh.inbound_policy().as_deref(),
            &self.mesh.found(),
        )
    }

    fn policies(&self) -> Policies {
        let calls = self.mesh.authorization_resources();
        let calls = calls.as_ref().map(|(policies, tokens)| (&**policies, &**tokens));
        let version = self.mesh.own_versions().inbound;
        let mut policies = shown::policies(self.mesh.inbound_policy().as_deref(), calls, version);
        policies.candidate_sets = self
            .mesh
            .candidates()
            .map(|sets| shown::candidate_sets(&sets))
            .unwrap_or_default();
        policies
    }

    fn denials(&self) -> admin::Denials {
        let (tried, tried_total) = self.tried.last();
        admin::Denials {
            tried,
            tried_total,
            ..self.denials.last()
        }
    }

    fn discovery(&self) -> DiscoveryState {
        self.mesh.discovery_state()
    }
}

fn shown(
    kind: CertificateKind,
    identity: Option<String>,
    certificate: &CertificateDer<'_>,
    source: &str,
) -> Option<Certificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(Certificate {
        kind,
        identity: identity.unwrap_or_else(|| parsed.subject().to_string()),
        serial: format!("{:x}", parsed.serial),
        not_before: time(parsed.validity().not_before.timestamp()),
        not_after: time(parsed.validity().not_after.timestamp()),
        source: source.to_owned(),
    })
}
