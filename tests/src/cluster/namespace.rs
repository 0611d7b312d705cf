//! A namespace of one test: made with a name of its own, removed at the end, and shown when the test fails.

use std::fmt::Write as _;
use std::mem::ManuallyDrop;
use std::time::Duration;

use serde_json::{Value, json};

use super::kubectl::{Said, kubectl, must, must_with};
use super::wait::until;

/// A namespace that goes when it is dropped.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// One whose pods are injected.
    #[must_use]
    pub fn injected(purpose: &str) -> Self {
        Self::new(&super::unique(purpose), &[("istio-injection", "enabled")])
    }

    /// One without any label.
    #[must_use]
    pub fn plain(purpose: &str) -> Self {
        Self::new(&super::unique(purpose), &[])
    }

    /// One with labels and a fixed name, which must be free.
    #[must_use]
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        let labels: serde_json::Map<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        must_with(&["create", "-f", "-"], &namespace.to_string());
        let made = Self { name: name.to_owned() };
        until("the namespace's own service account", Duration::from_secs(30), || {
            made.kubectl(&["get", "serviceaccount", "default"]).ok()
        });
        made
    }

    /// One that is there already, and stays.
    #[must_use]
    pub fn borrowed(name: &str) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self { name: name.to_owned() })
    }

    /// Runs kubectl in this namespace.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        kubectl(&[&["--namespace", &self.name], arguments].concat(), "")
    }

    /// Runs kubectl in this namespace; it must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        must(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Creates or changes objects; they must be taken.
    pub fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        let items: Vec<Value> = objects.into_iter().collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        must_with(&["--namespace", &self.name, "apply", "-f", "-"], &list.to_string());
    }

    /// Creates an object, if it is taken.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn created(&self, object: &Value) -> Result<(), String> {
        let said = kubectl(&["--namespace", &self.name, "create", "-f", "-"], &object.to_string());
        said.ok().map(drop)
    }

    /// What becomes of a new object, which is not kept.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn would_create(&self, object: &Value) -> Result<Value, String> {
        let arguments = [
            "--namespace",
            &self.name,
            "create",
            "--dry-run=server",
            "-o",
            "json",
            "-f",
            "-",
        ];
        let said = kubectl(&arguments, &object.to_string());
        if said.good {
            serde_json::from_str(&said.out).map_err(|error| error.to_string())
        } else {
            Err(said.all())
        }
    }

    /// An object as it stands.
    ///
    /// # Errors
    /// What kubectl says, as when there is none.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value, String> {
        let text = self.kubectl(&["get", kind, name, "-o", "json"]).ok()?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Waits until a pod is Ready, and gives it.
    pub fn ready(&self, pod: &str, limit: Duration) -> Value {
        until(&format!("pod {}/{pod} is Ready", self.name), limit, || {
            let pod = self.get("pod", pod)?;
            if condition(&pod, "Ready") == Some("True") {
                Ok(pod)
            } else {
                Err(pod["status"].to_string())
            }
        })
    }

    /// A Ready pod's address.
    pub fn address(&self, pod: &str) -> String {
        self.ready(pod, super::START)["status"]["podIP"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Runs a tool of the bookshop's binary in the container `app` of a pod.
    #[must_use]
    pub fn bookshop(&self, pod: &str, arguments: &[&str]) -> Said {
        self.kubectl(&[&["exec", pod, "-c", "app", "--", "/bookshop"], arguments].concat())
    }

    /// Fetches a URL of an echo from a pod, and gives what the echo saw.
    ///
    /// # Errors
    /// What the tool said.
    pub fn echoed(&self, pod: &str, url: &str) -> Result<Value, String> {
        let out = self.bookshop(pod, &["get", url, "--body", "--timeout", "5000"]).ok()?;
        let body = out.split_once('\n').map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|error| format!("{error} in {out}"))
    }

    /// Waits until a resource's condition has a reason; whether it holds, and its message.
    pub fn condition(&self, kind: &str, name: &str, type_: &str, reason: &str) -> (bool, String) {
        let what = format!("{kind} {}/{name}: {type_} is for {reason}", self.name);
        until(&what, super::POLICY, || {
            let object = self.get(kind, name)?;
            let conditions = object["status"]["conditions"].as_array().ok_or("no conditions")?;
            let found = conditions.iter().find(|c| c["type"] == type_);
            let found = found.ok_or_else(|| format!("no condition {type_}"))?;
            match (found["reason"].as_str(), found["message"].as_str()) {
                (Some(why), Some(message)) if why == reason => Ok((found["status"] == "True", message.to_owned())),
                _ => Err(found.to_string()),
            }
        })
    }

    /// What a person would look at after a failure: objects, events, and the end of every log.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut shown = format!("--- namespace {}\n", self.name);
        for arguments in [
            &[
                "get",
                "pods,services,secrets,peerauthentications,destinationrules,sidecars,virtualservices",
                "-o",
                "wide",
            ][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "--selector",
                "app",
                "--all-containers",
                "--ignore-errors",
                "--prefix",
                "--tail",
                "15",
            ],
        ] {
            let _ = writeln!(shown, "{}", self.kubectl(arguments).all());
        }
        shown
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.shown());
        }
        let said = kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
        if !said.good {
            eprintln!("namespace {} is left: {}", self.name, said.all());
        }
    }
}

/// The status of a condition of an object.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == kind)?["status"].as_str()
}
