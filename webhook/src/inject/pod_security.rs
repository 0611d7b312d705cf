//! Pod Security admission: a namespace whose label enforces `baseline` or `restricted` takes no pod with `istio-init`, whose
//! NET_ADMIN both levels forbid. The API server would refuse the injected pod after the webhook, in words that do not say
//! where the container comes from; so the webhook refuses it, and says what to do.

use std::collections::BTreeMap;

use mesh_api::labels;
use serde_json::{Value, json};

/// A level that forbids something of a sidecar's. `privileged` forbids nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `baseline`: no added capabilities beyond a list without NET_ADMIN and NET_RAW.
    Baseline,
    /// `restricted`: also a seccomp profile, and more that a sidecar has anyway.
    Restricted,
}

impl Level {
    /// Reads the value of the label [`labels::POD_SECURITY_ENFORCE`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    /// What a namespace with these labels enforces.
    #[must_use]
    pub fn of(namespace: &BTreeMap<String, String>) -> Option<Self> {
        Self::parse(namespace.get(labels::POD_SECURITY_ENFORCE)?)
    }

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// The seccomp profile that the sidecar needs besides the chart's: `restricted` asks for one in each container, unless the
/// pod has one for all.
pub(super) fn seccomp_profile(level: Option<Level>, pod: &Value) -> Option<Value> {
    let given = pod
        .pointer("/spec/securityContext/seccompProfile")
        .is_some_and(Value::is_object);
    (level == Some(Level::Restricted) && !given).then(|| json!({"type": "RuntimeDefault"}))
}
