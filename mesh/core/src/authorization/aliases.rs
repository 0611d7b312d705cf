//! Trust domain aliases: a policy that names one of the mesh's trust domains means all of them.
//!
//! Istio's rules: a principal of five parts whose trust domain matches one of the mesh's, or is `cluster.local`, is taken
//! for each of them; a trust domain by itself only if it is exactly one of them.

use super::matches::TextMatch;
use super::policy::Wanted;
use crate::identity::TrustDomain;

/// What stands in principals for the mesh's own trust domain, whatever that is.
const LOCAL: &str = "cluster.local";

/// The mesh's trust domain and its aliases.
#[derive(Debug, Clone)]
pub(super) struct Domains(Vec<String>);

impl Domains {
    pub(super) fn new(trust_domain: &TrustDomain, aliases: &[TrustDomain]) -> Self {
        let all = std::iter::once(trust_domain).chain(aliases);
        Self(all.map(|domain| domain.as_str().to_owned()).collect())
    }

    pub(super) fn principals(&self, wanted: &Wanted<TextMatch>) -> Wanted<TextMatch> {
        each(wanted, |value| self.principal(&value.to_string()))
    }

    pub(super) fn trust_domains(&self, wanted: &Wanted<TextMatch>) -> Wanted<TextMatch> {
        each(wanted, |value| {
            let value = value.to_string();
            if self.0.contains(&value) {
                self.0.clone()
            } else {
                vec![value]
            }
        })
    }

    fn principal(&self, principal: &str) -> Vec<String> {
        let Some((domain, rest)) = principal.split_once('/') else {
            return vec![principal.to_owned()];
        };
        let ours = |ours: &String| domain == ours || begins(ours, domain) || ends(ours, domain);
        if rest.split('/').count() != 4 || domain == "*" || !(domain == LOCAL || self.0.iter().any(ours)) {
            return vec![principal.to_owned()];
        }
        let mut expanded = Vec::new();
        for ours in &self.0 {
            let taken = if ends(ours, domain) {
                principal.to_owned()
            } else {
                format!("{ours}/{rest}")
            };
            if !expanded.contains(&taken) {
                expanded.push(taken);
            }
        }
        expanded
    }
}

fn begins(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
}

fn ends(name: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix))
}

fn each(wanted: &Wanted<TextMatch>, expand: impl Fn(&TextMatch) -> Vec<String>) -> Wanted<TextMatch> {
    let expand = |values: &[TextMatch]| {
        let expanded = values.iter().flat_map(&expand);
        expanded.map(|value| TextMatch::parse(&value)).collect()
    };
    Wanted {
        any: expand(&wanted.any),
        none: expand(&wanted.none),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(names: &[&str]) -> Domains {
        let names: Vec<TrustDomain> = names.iter().map(|name| TrustDomain::new(name).unwrap()).collect();
        Domains::new(&names[0], &names[1..])
    }

    #[test]
    fn principals_are_taken_for_every_alias_as_in_istio() {
        for (mesh, principal, expected) in [
            (
                &["cluster.local"][..],
                "cluster.local/ns/foo/sa/bar",
                &["cluster.local/ns/foo/sa/bar"][..],
            ),
            (&["cluster.local"], "*", &["*"]),
            (&["cluster.local"], "*/ns/foo/sa/bar", &["*/ns/foo/sa/bar"]),
            (
                &["td2", "td1"],
                "td1/ns/foo/sa/bar",
                &["td2/ns/foo/sa/bar", "td1/ns/foo/sa/bar"],
            ),
            (
                &["td1", "td2"],
                "cluster.local/ns/foo/sa/*",
                &["td1/ns/foo/sa/*", "td2/ns/foo/sa/*"],
            ),
            (&["td1", "cluster.local"], "*sa/zzz", &["*sa/zzz"]),
            (
                &["td2", "foo-td1", "cluster.local"],
                "*-td1/ns/foo/sa/bar",
                &[
                    "td2/ns/foo/sa/bar",
                    "*-td1/ns/foo/sa/bar",
                    "cluster.local/ns/foo/sa/bar",
                ],
            ),
            (&["td1", "td2"], "some-td/ns/foo/sa/bar", &["some-td/ns/foo/sa/bar"]),
            (&["new-td", "old-td"], "*-td/ns/foo/sa/bar", &["*-td/ns/foo/sa/bar"]),
            (&["td1", "td2"], "/ns/foo/sa/bar", &["/ns/foo/sa/bar"]),
            (&["td1", "td2"], "td1/ns/foo", &["td1/ns/foo"]),
        ] {
            assert_eq!(domains(mesh).principal(principal), expected, "{principal} in {mesh:?}");
        }
    }

    #[test]
    fn trust_domains_only_exactly() {
        let wanted = |values: &[&str]| Wanted {
            any: values.iter().map(|value| TextMatch::parse(value)).collect(),
            none: Vec::new(),
        };
        for (value, expected) in [
            ("td1", &["td1", "td2"][..]),
            ("td2", &["td1", "td2"]),
            ("td*", &["td*"]),
            ("other", &["other"]),
            ("cluster.local", &["cluster.local"]),
        ] {
            assert_eq!(
                domains(&["td1", "td2"]).trust_domains(&wanted(&[value])),
                wanted(expected),
                "{value}"
            );
        }
    }
}
