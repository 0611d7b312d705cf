//! The AdmissionReview exchange (admission.k8s.io/v1): bytes in, the verdict's bytes out, whatever the bytes are.

use base64::{Engine, prelude::BASE64_STANDARD};
use mesh_api::authorization_policy::DRY_RUN;
use mesh_api::candidate::REPLACES;
use mesh_api::labels::CANDIDATE;
use serde_json::{Value, json};

use crate::{
    inject::{self, Config, Namespace, Outcome},
    metrics::Metrics,
    state::State,
    validate::{self, Verdict},
};

/// A review that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReview {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Json(String),
    /// Not an AdmissionReview of the version that is served.
    #[error("expected an AdmissionReview of admission.k8s.io/v1 with a request")]
    Kind,
}

/// What a review ended with, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Allowed as it is.
    Allowed,
    /// Allowed with a patch.
    Patched,
    /// Refused.
    Refused,
    /// Refused since the webhook does not know enough yet.
    NotReady,
}

impl Ended {
    /// One word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Patched => "patched",
            Self::Refused => "refused",
            Self::NotReady => "not_ready",
        }
    }
}

/// The part of a review that is answered.
struct Request<'a> {
    uid: &'a str,
    fields: &'a Value,
}

impl<'a> Request<'a> {
    fn of(review: &'a Value) -> Result<Self, BadReview> {
        let text = |field: &str| review.get(field).and_then(Value::as_str);
        if (text("apiVersion"), text("kind")) != (Some("admission.k8s.io/v1"), Some("AdmissionReview")) {
            return Err(BadReview::Kind);
        }
        let fields = review.get("request").ok_or(BadReview::Kind)?;
        let uid = fields
            .get("uid")
            .and_then(Value::as_str)
            .filter(|uid| !uid.is_empty())
            .ok_or(BadReview::Kind)?;
        Ok(Self { uid, fields })
    }

    fn text(&self, pointer: &str) -> &'a str {
        self.fields.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn allow(&self, warnings: &[String]) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": true});
        if !warnings.is_empty() {
            response["warnings"] = json!(warnings);
        }
        response
    }

    fn refuse(&self, code: u16, reason: &str, message: &str) -> Value {
        json!({
            "uid": self.uid,
            "allowed": false,
            "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
        })
    }

    fn not_ready(&self, state: &State) -> Value {
        let missing = state.missing().join(", ");
        self.refuse(
            503,
            "ServiceUnavailable",
            &format!("pinnace's webhook has not read {missing} yet; try again"),
        )
    }
}

fn decode(body: &[u8]) -> Result<Value, BadReview> {
    serde_json::from_slice(body).map_err(|error| BadReview::Json(error.to_string()))
}

fn review(response: Value) -> Vec<u8> {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        .to_string()
        .into_bytes()
}

/// Answers `/inject`.
///
/// # Errors
/// When the body is no review. Everything else is an answer.
pub fn inject(body: &[u8], state: &State, metrics: &Metrics) -> Result<(Vec<u8>, Ended), BadReview> {
    let decoded = decode(body)?;
    let request = Request::of(&decoded)?;
    let pod = request.fields.get("object").unwrap_or(&Value::Null);
    let is_pod = (request.text("/kind/group"), request.text("/kind/kind")) == ("", "Pod");
    if !is_pod || request.text("/operation") != "CREATE" {
        return Ok((review(request.allow(&[])), Ended::Allowed));
    }
    metrics.injection_requests.inc();
    let (mesh, values, version) = (state.mesh.load(), state.values.load(), state.version.load());
    let (Some(mesh), Some(values), Some(version)) = (mesh.as_deref(), values.as_deref(), version.as_deref()) else {
        return Ok((review(request.not_ready(state)), Ended::NotReady));
    };
    let config = Config {
        values,
        mesh,
        native_sidecars: version.has_native_sidecars(),
        sleep_action: version.has_sleep_action(),
    };
    let name = request.text("/namespace");
    let namespace = Namespace {
        name,
        labels: None,
        enforces: state.pod_security.load().get(name).copied(),
    };
    let (response, ended) = match inject::inject(pod, &namespace, &config) {
        Ok(Outcome::Injected(injected)) => {
            metrics.injection_success.inc();
            let mut response = request.allow(&injected.warnings);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64_STANDARD.encode(json!(injected.patch).to_string()));
            (response, Ended::Patched)
        }
        Ok(Outcome::Skipped(skip)) => {
            metrics.injection_skip.with_label_values(&[skip.as_str()]).inc();
            (request.allow(&[]), Ended::Allowed)
        }
        Err(refusal) => {
            metrics.injection_failure.with_label_values(&[refusal.as_str()]).inc();
            tracing::info!(
                namespace = namespace.name,
                reason = refusal.as_str(),
                "pod refused: {refusal}"
            );
            (
                request.refuse(422, "Invalid", &format!("sidecar injection: {refusal}")),
                Ended::Refused,
            )
        }
    };
    Ok((review(response), ended))
}

/// Answers `/validate`.
///
/// # Errors
/// As [`inject`].
pub fn validate(body: &[u8], state: &State, own_namespace: &str) -> Result<(Vec<u8>, Ended), BadReview> {
    let decoded = decode(body)?;
    let request = Request::of(&decoded)?;
    let object = request.fields.get("object").unwrap_or(&Value::Null);
    if !matches!(request.text("/operation"), "CREATE" | "UPDATE") || leaves_the_spec(&request, object) {
        return Ok((review(request.allow(&[])), Ended::Allowed));
    }
    let mesh = state.mesh.load();
    let Some(mesh) = mesh.as_deref() else {
        return Ok((review(request.not_ready(state)), Ended::NotReady));
    };
    let (group, kind) = (request.text("/kind/group"), request.text("/kind/kind"));
    Ok(match validate::validate(group, kind, object, mesh, own_namespace) {
        Verdict::Accepted(warnings) => (review(request.allow(&warnings)), Ended::Allowed),
        Verdict::Foreign => (review(request.allow(&[])), Ended::Allowed),
        Verdict::Refused(message) => (review(request.refuse(422, "Invalid", &message)), Ended::Refused),
    })
}

/// An update that changes nothing that means something must pass even when the object is bad, or nobody could remove its
/// finalizers.
fn leaves_the_spec(request: &Request<'_>, object: &Value) -> bool {
    fn meaning(object: &Value) -> [Option<&Value>; 4] {
        let of = |field: &str, key: &str| object.get("metadata")?.get(field)?.get(key);
        [
            object.get("spec"),
            of("annotations", DRY_RUN),
            of("annotations", REPLACES),
            of("labels", CANDIDATE),
        ]
    }
    let old = request.fields.get("oldObject").filter(|old| old.is_object());
    old.is_some_and(|old| meaning(old) == meaning(object))
}
