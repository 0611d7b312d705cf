//! What can go wrong, by exit status, each with what to do about it. The statuses are part of the interface: scripts rely on them.

use std::fmt;

/// The command did what it was asked to.
pub(crate) const DONE: u8 = 0;
/// It was done in part: some replica or proxy did not answer.
pub(crate) const IN_PART: u8 = 5;

/// The exit statuses, for the help.
pub(crate) const STATUSES: &str = "Exit statuses:
  0  done
  1  failed for a reason that has no status of its own; validate: a resource is not accepted; migrate: something is to be done
  2  the command line is not understood
  3  the cluster cannot be reached, or refuses
  4  what was named does not exist, or has no sidecar
  5  the control plane or a proxy does not answer; what others answered was printed";

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    what: String,
    advice: Option<String>,
}

impl Failure {
    /// Without a status of its own.
    pub(crate) fn other(what: impl Into<String>) -> Self {
        Self::new(1, what)
    }

    /// A value on the command line.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(2, what)
    }

    /// The cluster does not answer or refuses.
    pub(crate) fn cluster(what: impl Into<String>) -> Self {
        Self::new(3, what)
    }

    /// What was named is not there.
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::new(4, what)
    }

    /// A proxy or an operator does not answer.
    pub(crate) fn silent(what: impl Into<String>) -> Self {
        Self::new(IN_PART, what)
    }

    fn new(status: u8, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
            advice: None,
        }
    }

    /// Says what to do about it.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// An answer of the API server, or that there was none, to an attempt at `what`.
    pub(crate) fn of_kube(what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::missing(format!("{what}: {}", status.message)),
            kube::Error::Api(status) if status.code == 403 => Self::cluster(format!("{what}: {}", status.message))
                .advise(
                    "ask an administrator of the cluster for this right; docs/cli.md lists the rights that are needed",
                ),
            kube::Error::Api(status) => Self::cluster(format!("{what}: {} ({})", status.message, status.code)),
            kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(code)) => {
                match code.as_u16() {
                    404 => Self::missing(format!("{what}: it is gone")),
                    401 | 403 => Self::cluster(format!("{what}: the API server refuses ({code})"))
                        .advise("the verbs get and create on pods/portforward are needed"),
                    _ => Self::silent(format!("{what}: the API server answers {code}"))
                        .advise("is the pod running? kubectl get pods"),
                }
            }
            other => Self::cluster(format!("{what}: {}", chain(other)))
                .advise("is the cluster of this kubeconfig running? kubectl cluster-info"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.advice {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

/// An error with what caused it, without saying the same twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16) -> kube::Error {
        let status = kube::core::Status {
            code,
            message: "said so".into(),
            ..kube::core::Status::default()
        };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn each_kind_has_its_status_and_advice() {
        for (error, status, words) in [
            (api(404), 4, "said so"),
            (api(403), 3, "docs/cli.md"),
            (api(500), 3, "500"),
            (kube::Error::TlsRequired, 3, "kubectl cluster-info"),
            (upgrade(403), 3, "pods/portforward"),
            (upgrade(404), 4, "gone"),
            (upgrade(500), 5, "kubectl get pods"),
        ] {
            let failure = Failure::of_kube("pod web-1.shop", &error);
            assert_eq!(failure.status(), status, "{error}");
            let text = failure.to_string();
            assert!(
                text.starts_with("error: pod web-1.shop: ") && text.contains(words),
                "{text}"
            );
        }
    }

    fn upgrade(code: u16) -> kube::Error {
        let code = http::StatusCode::from_u16(code).unwrap();
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(code))
    }
}
