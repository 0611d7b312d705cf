//! Finds the rules that may match without looking at the others.
//!
//! For each subject that rules ask for, the index knows which rules each value lets match, and which do not ask. What is
//! left when the subjects have been gone through is matched rule by rule. A rule that asks for a value which is not there
//! costs no more than its bit in a few words, so a decision's cost hardly grows with the number of rules.

use super::keys::{Bits, Keys};
use super::rule::Compiled;
use super::seen::{Header, Seen, Subject};
use http::HeaderName;
use std::collections::HashMap;

/// Up to this many rules are matched one by one, which costs less.
const FEW: usize = 6;
/// When no more than so many rules are left, they are matched, and no further subject is looked up.
const LEFT: u32 = 2;
/// Words of bits that are kept on the stack: 4,096 rules.
const WORDS: usize = 64;
/// Beyond so many names of headers, a request's own are gone through instead.
const NAMES: usize = 16;

/// Rules of one action, in the order in which they are told of.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    rules: Vec<Compiled>,
    /// The rules that ask for nothing that only HTTP has.
    without_http: Bits,
    groups: Vec<Group>,
}

/// What rules ask of one subject, or of one each of several of a kind.
#[derive(Debug, Clone)]
struct Group {
    /// The rules that do not ask.
    open: Bits,
    asked: Asked,
}

#[derive(Debug, Clone)]
enum Asked {
    One(Subject, Keys),
    Headers(HashMap<HeaderName, Keys>),
    Claims(HashMap<Vec<String>, Keys>),
}

impl Table {
    pub(super) fn new(mut rules: Vec<Compiled>) -> Self {
        // Envoy goes through rules by their names.
        rules.sort_by_cached_key(|rule| rule.reference.to_string());
        let mut without_http = Bits::none(rules.len());
        let mut groups: HashMap<Kind, Group> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            if !rule.is_http {
                without_http.set(place);
            }
            let mut grouped = Vec::new();
            for (subject, keys) in rule.keys() {
                let kind = Kind::of(subject);
                // One header, one claim is enough to find a rule by. What it says of others is found when it is matched.
                if !matches!(kind, Kind::One(_)) && grouped.contains(&kind) {
                    continue;
                }
                let group = groups
                    .entry(kind.clone())
                    .or_insert_with(|| Group::new(subject, rules.len()));
                group.open.unset(place);
                for key in keys {
                    group.keys_of(subject).add(key, place);
                }
                grouped.push(kind);
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.iter_mut().for_each(|group| group.finish(rules.len()));
        // What most rules ask for leaves the fewest.
        groups.sort_by_key(|group| group.open.count());
        Self {
            rules,
            without_http,
            groups,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn rules(&self) -> &[Compiled] {
        &self.rules
    }

    /// The first rule that matches. Where there is no HTTP, rules that ask for what only HTTP has are passed over if
    /// `strict` says so, and else match by what else they ask for.
    pub(super) fn first(&self, seen: &Seen<'_>, strict: bool) -> Option<&Compiled> {
        let mut first = None;
        self.each(seen, strict, |rule| {
            first = Some(rule);
            false
        });
        first
    }

    /// Calls back with each rule that matches, while that says to go on.
    pub(super) fn each<'a>(&'a self, seen: &Seen<'_>, strict: bool, mut found: impl FnMut(&'a Compiled) -> bool) {
        let strict = strict && !seen.is_http();
        if self.rules.len() <= FEW {
            let asked = self.rules.iter().filter(|rule| !(strict && rule.is_http));
            asked.filter(|rule| rule.matches(seen)).all(found);
            return;
        }
        let words = self.rules.len().div_ceil(64);
        let (mut near, mut far);
        let left = if words <= WORDS / 2 {
            near = [0; WORDS];
            &mut near[..2 * words]
        } else {
            far = vec![0; 2 * words];
            &mut far[..]
        };
        let (left, fitting) = left.split_at_mut(words);
        if strict {
            left.copy_from_slice(self.without_http.words());
        } else {
            Bits::fill(left, self.rules.len());
        }
        for group in &self.groups {
            if !seen.is_http() && group.is_http() {
                continue;
            }
            fitting.copy_from_slice(group.open.words());
            group.fit(seen, fitting);
            let mut count = 0;
            for (left, fitting) in left.iter_mut().zip(fitting.iter()) {
                *left &= fitting;
                count += left.count_ones();
            }
            if count <= LEFT {
                break;
            }
        }
        for (word, bits) in left.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(rule) = self.rules.get(place)
                    && rule.matches(seen)
                    && !found(rule)
                {
                    return;
                }
            }
        }
    }
}

/// The group that a subject belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    One(Subject),
    Headers,
    Claims,
}

impl Kind {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Header(Header::Named(_)) => Self::Headers,
            Subject::Claim(_) => Self::Claims,
            other => Self::One(other.clone()),
        }
    }
}

impl Group {
    fn new(subject: &Subject, rules: usize) -> Self {
        Self {
            open: Bits::all(rules),
            asked: match subject {
                Subject::Header(Header::Named(_)) => Asked::Headers(HashMap::new()),
                Subject::Claim(_) => Asked::Claims(HashMap::new()),
                other => Asked::One(other.clone(), Keys::default()),
            },
        }
    }

    fn keys_of(&mut self, subject: &Subject) -> &mut Keys {
        match (&mut self.asked, subject) {
            (Asked::Headers(names), Subject::Header(Header::Named(name))) => names.entry(name.clone()).or_default(),
            (Asked::Claims(paths), Subject::Claim(path)) => paths.entry(path.clone()).or_default(),
            (Asked::One(_, keys), _) => keys,
            // Kinds and groups go together; what came here otherwise would only be matched more often.
            (Asked::Headers(names), _) => names.entry(http::header::HOST).or_default(),
            (Asked::Claims(paths), _) => paths.entry(Vec::new()).or_default(),
        }
    }

    fn finish(&mut self, rules: usize) {
        match &mut self.asked {
            Asked::One(_, keys) => keys.finish(rules),
            Asked::Headers(names) => names.values_mut().for_each(|keys| keys.finish(rules)),
            Asked::Claims(paths) => paths.values_mut().for_each(|keys| keys.finish(rules)),
        }
    }

    fn is_http(&self) -> bool {
        match &self.asked {
            Asked::One(subject, _) => subject.is_http(),
            Asked::Headers(_) | Asked::Claims(_) => true,
        }
    }

    /// Adds the rules that what was seen lets match.
    fn fit(&self, seen: &Seen<'_>, fitting: &mut [u64]) {
        match &self.asked {
            Asked::One(Subject::Port, keys) => keys.fit_port(seen.facts.destination.port(), fitting),
            Asked::One(subject, keys) => match seen.address(subject) {
                Some(address) => keys.fit_address(address, fitting),
                None => fit_texts(keys, seen, subject, fitting),
            },
            Asked::Headers(names) => {
                let Some(http) = &seen.facts.http else { return };
                let mut fit = |keys: &Keys, name: &HeaderName| {
                    for value in http.headers.get_all(name) {
                        keys.fit_text(&String::from_utf8_lossy(value.as_bytes()), fitting);
                    }
                };
                if names.len() <= NAMES {
                    names.iter().for_each(|(name, keys)| fit(keys, name));
                } else {
                    let known = http.headers.keys().filter_map(|name| Some((name, names.get(name)?)));
                    known.for_each(|(name, keys)| fit(keys, name));
                }
            }
            Asked::Claims(paths) => {
                let Some(claims) = seen.facts.http.and_then(|http| http.claims) else {
                    return;
                };
                for (path, keys) in paths {
                    claims.claim(path).for_each(|text| keys.fit_text(text, fitting));
                }
            }
        }
    }
}

fn fit_texts(keys: &Keys, seen: &Seen<'_>, subject: &Subject, fitting: &mut [u64]) {
    seen.any_text(subject, |text| {
        keys.fit_text(text, fitting);
        false
    });
}
