//! Labels and the selectors that match them, as `metadata.labels` and Istio's `WorkloadSelector.matchLabels` are written.

use std::collections::BTreeMap;

/// A workload's labels.
pub type Labels = BTreeMap<String, String>;

/// Istio's `type.v1beta1.WorkloadSelector`: every entry must be present with that very value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(pub Labels);

impl Selector {
    /// Whether a workload with these labels is selected. A selector without entries selects every workload.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it has no entry, and so governs a whole scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Istio's canonical service name of a workload: the first of its labels `service.istio.io/canonical-name`,
/// `app.kubernetes.io/name` and `app`, else the owner's name.
#[must_use]
pub fn canonical_name<'a>(labels: &'a Labels, owner: &'a str) -> &'a str {
    first_label(
        labels,
        &["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"],
    )
    .unwrap_or(owner)
}

/// Istio's canonical revision of a workload: the first of its labels `service.istio.io/canonical-revision`,
/// `app.kubernetes.io/version` and `version`, else `latest`.
#[must_use]
pub fn canonical_revision(labels: &Labels) -> &str {
    first_label(
        labels,
        &[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ],
    )
    .unwrap_or("latest")
}

fn first_label<'a>(labels: &'a Labels, keys: &[&str]) -> Option<&'a str> {
    keys.iter()
        .find_map(|key| labels.get(*key))
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(entries: &[(&str, &str)]) -> Labels {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_selector_matches_when_every_entry_does() {
        let workload = labels(&[("app", "web"), ("version", "v1")]);
        for (selector, expected) in [
            (labels(&[]), true),
            (labels(&[("app", "web")]), true),
            (labels(&[("app", "web"), ("version", "v1")]), true),
            (labels(&[("app", "web"), ("version", "v2")]), false),
            (labels(&[("tier", "web")]), false),
        ] {
            assert_eq!(Selector(selector.clone()).matches(&workload), expected, "{selector:?}");
        }
    }

    #[test]
    fn canonical_names_follow_istios_order() {
        for (entries, name, revision) in [
            (&[][..], "owner", "latest"),
            (&[("app", "a"), ("version", "v")][..], "a", "v"),
            (
                &[
                    ("app", "a"),
                    ("app.kubernetes.io/name", "n"),
                    ("app.kubernetes.io/version", "w"),
                ][..],
                "n",
                "w",
            ),
            (
                &[("app", "a"), ("service.istio.io/canonical-name", "c")][..],
                "c",
                "latest",
            ),
        ] {
            let labels = labels(entries);
            assert_eq!(
                (canonical_name(&labels, "owner"), canonical_revision(&labels)),
                (name, revision)
            );
        }
    }
}
