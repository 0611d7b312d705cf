//! The mesh as a release of helm's: changed for a test, and put back at its end.

use std::time::Duration;

use super::kubectl::{must, run};
use super::{SYSTEM, skipped};

/// The chart of this checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pinnace");

/// How long helm may take, with a rollout that it waits for.
const HELM: Duration = Duration::from_secs(180);

/// Runs helm in the mesh's namespace.
///
/// # Errors
/// What it says.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    run("helm", &[&["--namespace", SYSTEM], arguments].concat(), "", HELM).ok()
}

/// Whether helm is there; says so where it is not.
#[must_use]
pub fn has_helm() -> bool {
    let there = std::process::Command::new("helm").arg("version").output().is_ok();
    if !there {
        skipped("helm is not on the PATH; hack/test puts it there");
    }
    there
}

/// The release `pinnace` as it is now, put back when this is dropped.
pub struct Release {
    revision: String,
    changed: bool,
}

impl Release {
    /// The release; `None`, and said so, where the mesh is none of helm's.
    #[must_use]
    pub fn now() -> Option<Self> {
        if !has_helm() {
            return None;
        }
        let history = match helm(&["history", "pinnace", "--max", "1", "-o", "json"]) {
            Ok(history) => history,
            Err(reason) => {
                skipped(&format!("the mesh is not a release of helm named pinnace: {reason}"));
                return None;
            }
        };
        let history: serde_json::Value = serde_json::from_str(&history).unwrap();
        Some(Self {
            revision: history[0]["revision"].to_string(),
            changed: false,
        })
    }

    /// Changes values, as arguments of `helm upgrade`, and waits until the control plane has them.
    pub fn upgrade(&mut self, values: &[&str]) {
        self.changed = true;
        helm(&[&["upgrade", "pinnace", CHART, "--reuse-values"], values].concat()).unwrap();
        rolled_out();
    }

    /// Puts it back now.
    pub fn roll_back(&mut self) {
        self.changed = false;
        helm(&["rollback", "pinnace", &self.revision]).unwrap();
        rolled_out();
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if self.changed {
            let _ = helm(&["rollback", "pinnace", &self.revision, "--wait"]);
        }
    }
}

fn rolled_out() {
    for name in ["pinnace-operator", "pinnace-webhook"] {
        must(&[
            "--namespace",
            SYSTEM,
            "rollout",
            "status",
            &format!("deployment/{name}"),
            "--timeout=110s",
        ]);
    }
}
