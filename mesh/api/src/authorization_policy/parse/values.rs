//! The values that the fields of rules and conditions take.

use std::fmt::Display;

use mesh_core::authorization::matches::{AddressRange, PathMatch, TextMatch};
use mesh_core::authorization::policy::{ServiceAccount, Wanted};

use super::super::resource::MOST_SERVICE_ACCOUNTS;
use crate::Invalid;

/// The longest service account (Istio's CRD), in characters.
const LONGEST_SERVICE_ACCOUNT: usize = 320;
/// What the value of a namespace must be.
pub(super) const NAMESPACES: &str = "the name of a namespace, with at most one wildcard, at its beginning or end";
/// What the value of a trust domain must be.
pub(super) const TRUST_DOMAINS: &str = "a trust domain, with at most one wildcard, at its beginning or end";
const NOT_EMPTY: &str = "text that is not empty";
const SERVICE_ACCOUNT: &str =
    "NAMESPACE/SERVICE_ACCOUNT, or SERVICE_ACCOUNT in the policy's namespace, without wildcard";

/// A list of the resource and the one that negates it, each with its path.
pub(super) struct Lists<'a> {
    /// The path and values of which one must match.
    pub any: (String, &'a [String]),
    /// The path and values of which none may.
    pub none: (String, &'a [String]),
}

impl<'a> Lists<'a> {
    /// The fields `name` and `notName` at a path.
    pub(super) fn of(path: &str, name: &str, any: Option<&'a Vec<String>>, none: Option<&'a Vec<String>>) -> Self {
        let (first, rest) = name.split_at(1);
        Self {
            any: (format!("{path}.{name}"), any.map_or(&[], |values| values)),
            none: (
                format!("{path}.not{}{rest}", first.to_ascii_uppercase()),
                none.map_or(&[], |values| values),
            ),
        }
    }

    /// Whether neither has a value.
    pub(super) fn is_empty(&self) -> bool {
        self.any.1.is_empty() && self.none.1.is_empty()
    }

    /// Both lists, with each value read by `read`, which says of a value that it does not accept what it would.
    pub(super) fn read<T>(&self, errors: &mut Vec<Invalid>, read: impl Fn(&str) -> Result<T, String>) -> Wanted<T> {
        let mut one = |(path, values): &(String, &[String])| {
            let mut parsed = Vec::with_capacity(values.len());
            for (at, value) in values.iter().enumerate() {
                let read = if value.is_empty() {
                    Err(NOT_EMPTY.to_owned())
                } else {
                    read(value)
                };
                match read {
                    Ok(value) => parsed.push(value),
                    Err(accepted) => errors.push(Invalid::new(format!("{path}[{at}]"), value, accepted)),
                }
            }
            parsed
        };
        Wanted {
            any: one(&self.any),
            none: one(&self.none),
        }
    }

    /// Texts.
    pub(super) fn texts(&self, errors: &mut Vec<Invalid>) -> Wanted<TextMatch> {
        self.read(errors, |value| Ok(TextMatch::parse(value)))
    }

    /// Texts whose wildcard stands at one end: names, in which a `*` elsewhere is a mistake.
    pub(super) fn names(&self, errors: &mut Vec<Invalid>, accepted: &str) -> Wanted<TextMatch> {
        self.read(errors, |value| {
            if wildcard_inside(value) || value.contains('/') {
                Err(accepted.to_owned())
            } else {
                Ok(TextMatch::parse(value))
            }
        })
    }

    /// Addresses and ranges of them.
    pub(super) fn addresses(&self, errors: &mut Vec<Invalid>) -> Wanted<AddressRange> {
        self.read(errors, |value| {
            AddressRange::parse(value).map_err(|_| "an IP address, or a range such as 10.1.0.0/16".to_owned())
        })
    }

    /// Ports.
    pub(super) fn ports(&self, errors: &mut Vec<Invalid>) -> Wanted<u16> {
        self.read(errors, |value| {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let port = if digits { value.parse().ok() } else { None };
            port.ok_or_else(|| "a port from 0 to 65535".to_owned())
        })
    }

    /// Paths and templates of them.
    pub(super) fn paths(&self, errors: &mut Vec<Invalid>) -> Wanted<PathMatch> {
        self.read(errors, |value| PathMatch::parse(value).map_err(reason))
    }

    /// Service accounts, of the policy's namespace where they have none.
    pub(super) fn service_accounts(&self, namespace: &str, errors: &mut Vec<Invalid>) -> Wanted<ServiceAccount> {
        for (path, values) in [&self.any, &self.none] {
            if values.len() > MOST_SERVICE_ACCOUNTS {
                let number = format!("{} values", values.len());
                errors.push(Invalid::new(path, number, format!("at most {MOST_SERVICE_ACCOUNTS}")));
            }
        }
        self.read(errors, |value| {
            let (of, name) = value.split_once('/').unwrap_or((namespace, value));
            let bad = value.contains('*')
                || name.contains('/')
                || name.is_empty()
                || value.starts_with('/')
                || value.chars().count() > LONGEST_SERVICE_ACCOUNT;
            if bad {
                return Err(SERVICE_ACCOUNT.to_owned());
            }
            Ok(ServiceAccount {
                namespace: of.to_owned(),
                name: name.to_owned(),
            })
        })
    }
}

/// Whether a text has a wildcard elsewhere than at one end, or more than one.
pub(in crate::authorization_policy) fn wildcard_inside(text: &str) -> bool {
    let inner = text
        .strip_prefix('*')
        .or_else(|| text.strip_suffix('*'))
        .unwrap_or(text);
    inner.contains('*')
}

fn reason(error: impl Display) -> String {
    error.to_string()
}
