//! The kinds of value that annotations hold: booleans, ports, address ranges, quantities, small numbers.

use std::fmt;

use ipnet::IpNet;

use crate::{Invalid, duration};

/// A list of ports, or every port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `*`.
    All,
    /// These ports; none when the annotation is empty.
    List(Vec<u16>),
}

/// A list of address ranges, or every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpRanges {
    /// `*`.
    All,
    /// These ranges; none when the annotation is empty.
    List(Vec<IpNet>),
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::List(ports) => comma_separated(f, ports),
        }
    }
}

impl fmt::Display for IpRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::List(ranges) => comma_separated(f, ranges),
        }
    }
}

fn comma_separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// A boolean in one of the spellings that Go's `strconv.ParseBool` takes, as Istio does.
pub(super) fn boolean(name: &str, value: &str) -> Result<bool, Invalid> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Invalid::new(name, value, "true or false")),
    }
}

/// Ports separated by commas.
pub(super) fn ports(name: &str, value: &str) -> Result<Ports, Invalid> {
    port_list(value)
        .map(Ports::List)
        .ok_or_else(|| Invalid::new(name, value, "ports 1 to 65535 separated by commas"))
}

/// Ports separated by commas, or `*`.
pub(super) fn ports_or_all(name: &str, value: &str) -> Result<Ports, Invalid> {
    if value.trim() == "*" {
        return Ok(Ports::All);
    }
    port_list(value)
        .map(Ports::List)
        .ok_or_else(|| Invalid::new(name, value, "* or ports 1 to 65535 separated by commas"))
}

fn port_list(value: &str) -> Option<Vec<u16>> {
    if value.trim().is_empty() {
        return Some(Vec::new());
    }
    value
        .split(',')
        .map(|port| port.trim().parse().ok().filter(|port| *port > 0))
        .collect()
}

/// CIDR ranges separated by commas.
pub(super) fn ranges(name: &str, value: &str) -> Result<IpRanges, Invalid> {
    range_list(value)
        .map(IpRanges::List)
        .ok_or_else(|| Invalid::new(name, value, "CIDR ranges such as 10.0.0.0/8 separated by commas"))
}

/// CIDR ranges separated by commas, or `*`.
pub(super) fn ranges_or_all(name: &str, value: &str) -> Result<IpRanges, Invalid> {
    if value.trim() == "*" {
        return Ok(IpRanges::All);
    }
    range_list(value)
        .map(IpRanges::List)
        .ok_or_else(|| Invalid::new(name, value, "* or CIDR ranges such as 10.0.0.0/8 separated by commas"))
}

fn range_list(value: &str) -> Option<Vec<IpNet>> {
    if value.trim().is_empty() {
        return Some(Vec::new());
    }
    value.split(',').map(|range| range.trim().parse().ok()).collect()
}

/// Names of network interfaces separated by commas, returned without blanks: what `proxy capture` takes.
pub(super) fn interfaces(name: &str, value: &str) -> Result<String, Invalid> {
    // The kernel's limit is 15 bytes; a + (as for iptables) or * (as for nft) behind a name means all that begin so.
    let good = |text: &str| {
        let plain = text.strip_suffix(['+', '*']).unwrap_or(text);
        (1..=15).contains(&plain.len())
            && plain != "."
            && plain != ".."
            && plain
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'*' | b'\\'))
    };
    let names: Vec<&str> = parts(value).collect();
    if names.iter().all(|name| good(name)) {
        Ok(names.join(","))
    } else {
        Err(Invalid::new(
            name,
            value,
            "names of network interfaces of 1 to 15 characters separated by commas, with + behind one for all that begin so",
        ))
    }
}

/// The parts between commas, without blanks and empty ones.
pub(super) fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A duration of whole seconds, at least one.
pub(super) fn seconds(name: &str, value: &str) -> Result<u32, Invalid> {
    duration::parse(value)
        .filter(|duration| duration.subsec_nanos() == 0)
        .and_then(|duration| u32::try_from(duration.as_secs()).ok())
        .filter(|seconds| (1..=MOST_SECONDS).contains(seconds))
        .ok_or_else(|| Invalid::new(name, value, "a duration of whole seconds from 1s to 1h, such as 5s"))
}

/// Nobody waits for longer.
const MOST_SECONDS: u32 = 3600;

/// A whole number of at most 32 bits, at least `least`.
pub(super) fn number(name: &str, value: &str, least: u32) -> Result<u32, Invalid> {
    value
        .parse::<u32>()
        .ok()
        .filter(|number| *number >= least && i32::try_from(*number).is_ok())
        .ok_or_else(|| Invalid::new(name, value, format!("a whole number from {least} to {}", i32::MAX)))
}

/// A Kubernetes quantity that is not negative. Its text is kept: the API server normalises it.
pub(super) fn quantity(name: &str, value: &str) -> Result<String, Invalid> {
    if is_quantity(value) {
        Ok(value.to_owned())
    } else {
        Err(Invalid::new(
            name,
            value,
            "a Kubernetes quantity such as 100m, 0.5, 128Mi or 1Gi",
        ))
    }
}

fn is_quantity(value: &str) -> bool {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let dots = number.matches('.').count();
    if number.len() == dots || dots > 1 {
        return false;
    }
    match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => true,
        _ => suffix
            .strip_prefix(['e', 'E'])
            .is_some_and(|exponent| exponent.parse::<i8>().is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, good) in [
            ("100m", true),
            ("0.5", true),
            (".5", true),
            ("5.", true),
            ("1Gi", true),
            ("2e3", true),
            ("2E-3", true),
            ("1E", true),
            ("", false),
            (".", false),
            ("-1", false),
            ("1 Gi", false),
            ("1GB", false),
            ("lots", false),
            ("1.2.3", false),
            ("1\n", false),
        ] {
            assert_eq!(quantity("q", text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn port_lists() {
        assert_eq!(ports("p", "80, 443").unwrap(), Ports::List(vec![80, 443]));
        assert_eq!(ports("p", "").unwrap(), Ports::List(vec![]));
        assert_eq!(ports_or_all("p", "*").unwrap().to_string(), "*");
        assert_eq!(ports("p", "80,443").unwrap().to_string(), "80,443");
        for bad in ["*", "0", "65536", "80,", "http", "80-90", "-1"] {
            assert!(ports("p", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_lists() {
        assert_eq!(
            interfaces("i", "net1, net1.5,veth+,tap*").unwrap(),
            "net1,net1.5,veth+,tap*"
        );
        assert_eq!(interfaces("i", "").unwrap(), "");
        for bad in ["a b", "+", "eth0/x", "e*h", "..", "an-interface-name-too-long"] {
            assert!(interfaces("i", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_seconds() {
        assert_eq!(seconds("s", "5s"), Ok(5));
        assert_eq!(seconds("s", "1m30s"), Ok(90));
        for bad in ["", "5", "0s", "500ms", "1.5s", "2h", "-5s", "soon"] {
            assert!(seconds("s", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn range_lists() {
        assert_eq!(
            ranges("r", "10.0.0.0/8,fd00::/8").unwrap().to_string(),
            "10.0.0.0/8,fd00::/8"
        );
        assert_eq!(ranges_or_all("r", "*").unwrap(), IpRanges::All);
        for bad in ["*", "10.0.0.1", "10.0.0.0/33", "10.0.0.0/8;11.0.0.0/8", "net"] {
            assert!(ranges("r", bad).is_err(), "{bad}");
        }
    }
}
