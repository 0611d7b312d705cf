//! The API server's version, and what it is enough for.

use std::fmt;

/// A version of Kubernetes, major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The oldest API server that takes the webhook's configuration as it is written: `matchConditions` are on by default
/// since 1.28. An older one drops them without a word, and would then ask about, and hold up, every pod of the
/// cluster's unlabelled namespaces.
pub const OLDEST: Version = Version { major: 1, minor: 28 };

/// The first with native sidecars on by default.
const NATIVE_SIDECARS: Version = Version { major: 1, minor: 29 };

/// The first whose hooks can sleep by default.
const SLEEP_ACTION: Version = Version { major: 1, minor: 30 };

impl Version {
    /// Parses the texts of `/version`; managed clusters write minors such as `30+`.
    #[must_use]
    pub fn parse(major: &str, minor: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..digits].parse().ok()
        };
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    /// Whether the webhook can serve it.
    ///
    /// # Errors
    /// The message for whoever runs the cluster.
    pub fn check(self) -> Result<(), String> {
        if self >= OLDEST {
            return Ok(());
        }
        Err(format!(
            "the API server is Kubernetes {self}, at least {OLDEST} is needed: an older one ignores the matchConditions of \
             the webhook's configuration and would hold up pods that never asked for a sidecar"
        ))
    }

    /// Whether sidecars can be init containers that restart.
    #[must_use]
    pub fn has_native_sidecars(self) -> bool {
        self >= NATIVE_SIDECARS
    }

    /// Whether hooks can sleep.
    #[must_use]
    pub fn has_sleep_action(self) -> bool {
        self >= SLEEP_ACTION
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (major, minor, good, native) in [
            ("1", "27", false, false),
            ("1", "28", true, false),
            ("1", "29+", true, true),
            ("2", "0", true, true),
        ] {
            let version = Version::parse(major, minor).unwrap();
            assert_eq!(
                (version.check().is_ok(), version.has_native_sidecars()),
                (good, native),
                "{version}"
            );
        }
        assert_eq!(Version::parse("1", ""), None);
        let message = Version::parse("1", "20").unwrap().check().unwrap_err();
        assert!(message.contains("Kubernetes 1.20, at least 1.28"), "{message}");
    }
}
