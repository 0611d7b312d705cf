//! A rule, compiled: lists of fields that must all match. Whether it matches, and if not, what is nearest.

use super::aliases::Domains;
use super::decision::{Nearest, RuleRef};
use super::policy::{Condition, Operation, Rule, Source, Wanted};
use super::seen::{Header, Seen, Subject};
use super::values::{Key, Values};

/// The values of a field that are shown, the others being counted.
const SHOWN_VALUES: usize = 8;
/// The characters of what was seen that are shown.
const SHOWN_CHARACTERS: usize = 128;

/// A field of a source, an operation, or a condition.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) subject: Subject,
    any: Values,
    none: Values,
    /// As in `from[0].source.principals` and `.notPrincipals`.
    names: (String, String),
}

impl Field {
    fn matches(&self, seen: &Seen<'_>) -> bool {
        self.unmatched(seen).is_none()
    }

    /// The list that is not as it should be: its name and its values.
    fn unmatched(&self, seen: &Seen<'_>) -> Option<(&str, &Values)> {
        if !self.any.is_empty() && !self.any.matches(&self.subject, seen) {
            Some((&self.names.0, &self.any))
        } else if !self.none.is_empty() && self.none.matches(&self.subject, seen) {
            Some((&self.names.1, &self.none))
        } else {
            None
        }
    }

    /// See [`Values::keys`]; none either where it only says what must not be.
    fn keys(&self) -> Option<Vec<Key>> {
        if self.any.is_empty() { None } else { self.any.keys() }
    }
}

/// A rule of a policy that is in force.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) reference: RuleRef,
    /// One of these, if there are any.
    sources: Vec<Vec<Field>>,
    /// One of these, if there are any.
    operations: Vec<Vec<Field>>,
    /// All of these.
    conditions: Vec<Field>,
    /// Whether it asks for something that only HTTP has.
    pub(super) is_http: bool,
}

impl Compiled {
    pub(super) fn new(reference: RuleRef, rule: &Rule, domains: &Domains) -> Self {
        let sources = rule
            .from
            .iter()
            .enumerate()
            .map(|(place, from)| source(place, from, domains));
        let operations = rule.to.iter().enumerate().map(|(place, to)| operation(place, to));
        let (sources, operations): (Vec<_>, Vec<_>) = (sources.collect(), operations.collect());
        let conditions: Vec<_> = rule.when.iter().filter_map(|when| condition(when, domains)).collect();
        let mut fields = sources.iter().chain(&operations).flatten().chain(&conditions);
        Self {
            is_http: fields.any(|field| field.subject.is_http()),
            reference,
            sources,
            operations,
            conditions,
        }
    }

    /// Whether it matches. On what is not HTTP, fields that only HTTP has count as matched; a rule of an ALLOW policy that
    /// has any is not to be asked about.
    pub(super) fn matches(&self, seen: &Seen<'_>) -> bool {
        let http = seen.is_http();
        let matches = |field: &Field| !http && field.subject.is_http() || field.matches(seen);
        let one_of = |lists: &[Vec<Field>]| lists.is_empty() || lists.iter().any(|fields| fields.iter().all(matches));
        one_of(&self.sources) && one_of(&self.operations) && self.conditions.iter().all(matches)
    }

    /// For every subject of which it asks for a value: keys of which one fits whatever the rule matches.
    pub(super) fn keys(&self) -> Vec<(&Subject, Vec<Key>)> {
        let mut all: Vec<(&Subject, Vec<Key>)> = Vec::new();
        for lists in [&self.sources, &self.operations] {
            let Some((first, others)) = lists.split_first() else {
                continue;
            };
            // With several sources, a subject counts if all of them ask for it.
            for field in first {
                let of_others = others.iter().map(|fields| {
                    let same = fields.iter().find(|other| other.subject == field.subject);
                    same.and_then(Field::keys)
                });
                let keys: Option<Vec<Vec<Key>>> = std::iter::once(field.keys()).chain(of_others).collect();
                all.extend(keys.map(|keys| (&field.subject, keys.concat())));
            }
        }
        let conditions = self.conditions.iter();
        all.extend(conditions.filter_map(|field| Some((&field.subject, field.keys()?))));
        all
    }

    /// How many fields match and how many do not, of the source and the operation that come nearest; and the first that does not.
    pub(super) fn nearness<'a>(&'a self, seen: &Seen<'_>) -> Option<(Nearness, Nearest<'a>)> {
        let http = seen.is_http();
        let misses = |fields: &'a [Field]| -> Nearing<'a> {
            let unmatched = |field: &&Field| !http && field.subject.is_http() || !field.matches(seen);
            let first = fields.iter().find(unmatched);
            let misses = fields.iter().filter(unmatched).count();
            (
                Nearness {
                    misses,
                    matched: fields.len() - misses,
                },
                first,
            )
        };
        let best = |lists: &'a [Vec<Field>]| {
            let each = lists.iter().map(|fields| misses(fields));
            each.min_by_key(|(nearness, _)| nearness.rank()).unwrap_or_default()
        };
        let parts = [best(&self.sources), best(&self.operations), misses(&self.conditions)];
        let total = parts.iter().fold(Nearness::default(), |total, (part, _)| Nearness {
            misses: total.misses + part.misses,
            matched: total.matched + part.matched,
        });
        let field = parts.iter().find_map(|(_, first)| *first)?;
        let (name, values) = field.unmatched(seen).unwrap_or((&field.names.0, &field.any));
        let (mut expected, count) = values.shown(SHOWN_VALUES);
        if count > SHOWN_VALUES {
            expected.push(format!("and {} more", count - SHOWN_VALUES));
        }
        let nearest = Nearest {
            rule: &self.reference,
            field: name.to_owned(),
            expected,
            seen: shown(&field.subject, seen),
        };
        Some((total, nearest))
    }
}

type Nearing<'a> = (Nearness, Option<&'a Field>);

/// How near a rule came to matching.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Nearness {
    misses: usize,
    matched: usize,
}

impl Nearness {
    /// The least is the nearest: fewest misses, then most matches.
    pub(super) fn rank(&self) -> (usize, std::cmp::Reverse<usize>) {
        (self.misses, std::cmp::Reverse(self.matched))
    }
}

/// What a subject has, for people to read.
fn shown(subject: &Subject, seen: &Seen<'_>) -> Option<String> {
    if let Subject::Port = subject {
        return Some(seen.facts.destination.port().to_string());
    }
    if let Some(address) = seen.address(subject) {
        return Some(address.to_string());
    }
    let secret = match subject {
        Subject::Header(Header::Named(name)) => {
            let name = name.as_str();
            ["auth", "cookie", "token", "secret", "key", "password", "session"]
                .iter()
                .any(|word| name.contains(word))
        }
        _ => false,
    };
    let mut all = Vec::new();
    seen.any_text(subject, |text| {
        all.push(if secret || text.split('.').count() >= 3 && text.contains("eyJ") {
            "(hidden)".to_owned()
        } else {
            text.to_owned()
        });
        all.len() >= SHOWN_VALUES
    });
    if all.is_empty() {
        return None;
    }
    let all = all.join(", ");
    match all.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => Some(format!("{}…", &all[..end])),
        None => Some(all),
    }
}

/// A field, unless it asks for nothing.
fn field<T>(
    subject: Subject,
    names: (String, String),
    wanted: &Wanted<T>,
    values: impl Fn(&[T]) -> Values,
) -> Option<Field> {
    (!wanted.is_empty()).then(|| Field {
        subject,
        any: values(&wanted.any),
        none: values(&wanted.none),
        names,
    })
}

fn source(place: usize, source: &Source, domains: &Domains) -> Vec<Field> {
    let names = |any: &str, none: &str| {
        (
            format!("from[{place}].source.{any}"),
            format!("from[{place}].source.{none}"),
        )
    };
    // In this order they are told of.
    [
        field(
            Subject::Principal,
            names("principals", "notPrincipals"),
            &domains.principals(&source.principals),
            Values::texts,
        ),
        field(
            Subject::RequestPrincipal,
            names("requestPrincipals", "notRequestPrincipals"),
            &source.request_principals,
            Values::tokens,
        ),
        field(
            Subject::Namespace,
            names("namespaces", "notNamespaces"),
            &source.namespaces,
            Values::namespaces,
        ),
        field(
            Subject::ServiceAccount,
            names("serviceAccounts", "notServiceAccounts"),
            &source.service_accounts,
            Values::service_accounts,
        ),
        field(
            Subject::TrustDomain,
            names("trustDomains", "notTrustDomains"),
            &domains.trust_domains(&source.trust_domains),
            Values::texts,
        ),
        field(
            Subject::SourceIp,
            names("ipBlocks", "notIpBlocks"),
            &source.ip_blocks,
            |values| Values::Addresses(values.to_vec()),
        ),
        field(
            Subject::RemoteIp,
            names("remoteIpBlocks", "notRemoteIpBlocks"),
            &source.remote_ip_blocks,
            |values| Values::Addresses(values.to_vec()),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn operation(place: usize, operation: &Operation) -> Vec<Field> {
    let names = |any: &str, none: &str| {
        (
            format!("to[{place}].operation.{any}"),
            format!("to[{place}].operation.{none}"),
        )
    };
    [
        field(
            Subject::Host,
            names("hosts", "notHosts"),
            &operation.hosts,
            Values::hosts,
        ),
        field(Subject::Port, names("ports", "notPorts"), &operation.ports, |values| {
            Values::Ports(values.to_vec())
        }),
        field(
            Subject::Method,
            names("methods", "notMethods"),
            &operation.methods,
            Values::texts,
        ),
        field(
            Subject::Path,
            names("paths", "notPaths"),
            &operation.paths,
            Values::paths,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn condition(condition: &Condition, domains: &Domains) -> Option<Field> {
    let texts = Values::texts;
    let addresses = |values: &[_]| Values::Addresses(values.to_vec());
    let names = |key: &str| (format!("when[{key}].values"), format!("when[{key}].notValues"));
    match condition {
        Condition::Header(name, wanted) => {
            let names = names(&format!("request.headers[{name}]"));
            field(Subject::Header(Header::new(name)), names, wanted, texts)
        }
        Condition::SourceIp(wanted) => field(Subject::SourceIp, names("source.ip"), wanted, addresses),
        Condition::RemoteIp(wanted) => field(Subject::RemoteIp, names("remote.ip"), wanted, addresses),
        Condition::SourceNamespace(wanted) => field(
            Subject::Namespace,
            names("source.namespace"),
            wanted,
            Values::namespaces,
        ),
        Condition::SourceServiceAccount(wanted) => {
            let names = names("source.serviceAccount");
            field(Subject::ServiceAccount, names, wanted, Values::service_accounts)
        }
        Condition::SourceTrustDomain(wanted) => {
            let wanted = domains.trust_domains(wanted);
            field(Subject::TrustDomain, names("source.trustDomain"), &wanted, texts)
        }
        Condition::SourcePrincipal(wanted) => {
            let wanted = domains.principals(wanted);
            field(Subject::Principal, names("source.principal"), &wanted, texts)
        }
        Condition::RequestPrincipal(wanted) => {
            let names = names("request.auth.principal");
            field(Subject::RequestPrincipal, names, wanted, Values::tokens)
        }
        Condition::RequestAudiences(wanted) => {
            field(Subject::Audiences, names("request.auth.audiences"), wanted, texts)
        }
        Condition::RequestPresenter(wanted) => {
            field(Subject::Presenter, names("request.auth.presenter"), wanted, texts)
        }
        Condition::RequestClaim(path, wanted) => {
            let names = names(&format!("request.auth.claims[{}]", path.join("][")));
            field(Subject::Claim(path.clone()), names, wanted, texts)
        }
        Condition::DestinationIp(wanted) => field(Subject::DestinationIp, names("destination.ip"), wanted, addresses),
        Condition::DestinationPort(wanted) => field(Subject::Port, names("destination.port"), wanted, |values| {
            Values::Ports(values.to_vec())
        }),
        Condition::Sni(wanted) => field(Subject::Sni, names("connection.sni"), wanted, texts),
    }
}
