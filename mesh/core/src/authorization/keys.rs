//! What leads from a value to the rules that it lets match.

use super::matches::{mask, number};
use super::values::Key;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

type Map<K> = HashMap<K, Members, BuildHasherDefault<Quick>>;

/// Keys of one subject.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    exact: Map<Box<[u8]>>,
    prefixes: Prefixes,
    /// Of texts turned round.
    suffixes: Prefixes,
    /// By the number of their bits.
    ranges: Vec<(u8, Map<u128>)>,
    ports: Map<u16>,
}

impl Keys {
    /// Notes that a key lets the rule at a place match.
    pub(super) fn add(&mut self, key: Key, place: usize) {
        let members = match key {
            Key::Exact(text) => self.exact.entry(text.into_bytes().into()).or_default(),
            Key::Prefix(prefix) => self.prefixes.entry(prefix.into_bytes()),
            Key::Suffix(suffix) => self.suffixes.entry(suffix.bytes().rev().collect()),
            Key::Port(port) => self.ports.entry(port).or_default(),
            Key::Range(range) => {
                let (bits, network) = range.key();
                let at = self
                    .ranges
                    .iter()
                    .position(|(size, _)| *size == bits)
                    .unwrap_or_else(|| {
                        self.ranges.push((bits, Map::default()));
                        self.ranges.len() - 1
                    });
                self.ranges[at].1.entry(network).or_default()
            }
        };
        members.0.push(place);
    }

    /// To be called once all are added.
    pub(super) fn finish(&mut self, rules: usize) {
        let ranges = self.ranges.iter_mut().flat_map(|(_, networks)| networks.values_mut());
        for members in self.exact.values_mut().chain(self.ports.values_mut()).chain(ranges) {
            members.finish(rules);
        }
        self.prefixes.finish(rules);
        self.suffixes.finish(rules);
    }

    /// Adds the rules that a text lets match.
    pub(super) fn fit_text(&self, text: &str, fitting: &mut [u64]) {
        let text = text.as_bytes();
        if let Some(members) = self.exact.get(text) {
            members.fit(fitting);
        }
        self.prefixes.fit(text, fitting);
        if !self.suffixes.0.is_empty() {
            let turned: Vec<u8> = text.iter().rev().copied().collect();
            self.suffixes.fit(&turned, fitting);
        }
    }

    /// Adds the rules that an address lets match. An IPv4 range never looks like one of IPv6's but for those of the
    /// mapped addresses, which are matched rightly later.
    pub(super) fn fit_address(&self, address: IpAddr, fitting: &mut [u64]) {
        let address = number(address);
        for (bits, networks) in &self.ranges {
            if let Some(members) = networks.get(&(address & mask(*bits))) {
                members.fit(fitting);
            }
        }
    }

    /// Adds the rules that a port lets match.
    pub(super) fn fit_port(&self, port: u16, fitting: &mut [u64]) {
        if let Some(members) = self.ports.get(&port) {
            members.fit(fitting);
        }
    }
}

/// The rules that a key lets match: their places, or if those are many a bit for each.
#[derive(Debug, Clone, Default)]
struct Members(Vec<usize>, Bits);

impl Members {
    fn finish(&mut self, rules: usize) {
        self.0.dedup();
        if self.0.len() > rules.div_ceil(64) {
            self.1 = Bits::none(rules);
            self.0.drain(..).for_each(|place| self.1.set(place));
        }
        self.0.shrink_to_fit();
    }

    fn fit(&self, fitting: &mut [u64]) {
        for place in &self.0 {
            if let Some(word) = fitting.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
        for (fitting, word) in fitting.iter_mut().zip(self.1.words()) {
            *fitting |= word;
        }
    }
}

/// Prefixes in order, each with the place of the longest other one that it begins with.
#[derive(Debug, Clone, Default)]
struct Prefixes(Vec<(Box<[u8]>, Option<usize>, Members)>);

impl Prefixes {
    fn entry(&mut self, prefix: Vec<u8>) -> &mut Members {
        let at = match self.0.binary_search_by(|(other, ..)| (**other).cmp(&prefix)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (prefix.into(), None, Members::default()));
                at
            }
        };
        &mut self.0[at].2
    }

    fn finish(&mut self, rules: usize) {
        // In order, a prefix comes before all that begin with it, so that the open ones lie on a stack.
        let mut open: Vec<usize> = Vec::new();
        for at in 0..self.0.len() {
            while let Some(&outer) = open.last()
                && !self.0[at].0.starts_with(&self.0[outer].0)
            {
                open.pop();
            }
            self.0[at].1 = open.last().copied();
            self.0[at].2.finish(rules);
            open.push(at);
        }
    }

    /// Every prefix of a text is the greatest one that is not greater than the text, or one that this begins with.
    fn fit(&self, text: &[u8], fitting: &mut [u64]) {
        let after = self.0.partition_point(|(prefix, ..)| **prefix <= *text);
        let mut next = after.checked_sub(1);
        while let Some((prefix, outer, members)) = next.and_then(|at| self.0.get(at)) {
            if text.starts_with(prefix) {
                members.fit(fitting);
            }
            next = *outer;
        }
    }
}

/// A bit for each rule.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(64)])
    }

    pub(super) fn all(rules: usize) -> Self {
        let mut all = Self::none(rules);
        Self::fill(&mut all.0, rules);
        all
    }

    /// Sets the bits of all rules.
    pub(super) fn fill(words: &mut [u64], rules: usize) {
        words.fill(u64::MAX);
        if let Some(last) = words.last_mut()
            && !rules.is_multiple_of(64)
        {
            *last = (1 << (rules % 64)) - 1;
        }
    }

    pub(super) fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub(super) fn unset(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }
}

/// Hashes eight bytes at a step. Only what policies say is ever put into the maps, so no caller can choose what collides.
#[derive(Debug, Clone, Default)]
pub(super) struct Quick(u64);

impl Quick {
    fn step(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.step(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.step(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
    }

    fn write_u16(&mut self, number: u16) {
        self.step(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.step(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(keys: &Keys, text: &str) -> u64 {
        let mut fitting = [0];
        keys.fit_text(text, &mut fitting);
        fitting[0]
    }

    #[test]
    fn every_prefix_and_suffix_of_a_text_is_found() {
        let texts = ["", "a", "ab", "abc", "b", "ba", "/a/", "/a/b", "/a/c", "/b", "é", "ab*"];
        let mut keys = Keys::default();
        for (place, text) in texts.iter().enumerate() {
            keys.add(Key::Prefix((*text).to_owned()), place);
            keys.add(Key::Suffix((*text).to_owned()), place + 16);
            keys.add(Key::Exact((*text).to_owned()), place + 32);
        }
        keys.finish(48);
        let probes = [
            "", "a", "abcd", "aab", "b", "bab", "/a/b/c", "/a/bc", "/a/c", "/bb", "zé", "é", "\u{7f}", "ab*",
        ];
        for probe in probes {
            let mut expected = 0;
            for (place, text) in texts.iter().enumerate() {
                expected |= u64::from(probe.starts_with(text)) << place;
                expected |= u64::from(probe.ends_with(text)) << (place + 16);
                expected |= u64::from(probe == *text) << (place + 32);
            }
            assert_eq!(fitting(&keys, probe), expected, "{probe:?}");
        }
    }
}
