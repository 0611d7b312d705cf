//! Durations as people write them in Istio's configuration: `45s`, `1.5s`, `1h30m`, `250ms`.

use std::time::Duration;

/// What [`parse`] accepts, for messages.
pub(crate) const ACCEPTED: &str = "a duration such as 45s, 250ms or 1h30m";

/// Parses a sequence of decimal numbers with units (h, m, s, ms, us, ns), as Go does. Negative, empty and absurdly
/// long (over 100 years) durations are `None`.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    const LIMIT: f64 = 100.0 * 365.0 * 86_400.0;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[letters..];
        seconds += number * unit;
    }
    (seconds.is_finite() && seconds <= LIMIT).then(|| Duration::from_secs_f64(seconds))
}

/// What [`whole_milliseconds`] accepts, for messages.
pub(crate) const WHOLE_MILLISECONDS: &str =
    "a duration of at least 1ms, in whole milliseconds, such as 250ms, 45s or 1h30m";

/// Parses a duration of at least a millisecond and of whole ones, as Istio's validation asks for.
pub(crate) fn whole_milliseconds(text: &str) -> Option<Duration> {
    parse(text).filter(|duration| duration.as_nanos().is_multiple_of(1_000_000) && !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("45s", Some(Duration::from_secs(45))),
            ("0s", Some(Duration::ZERO)),
            ("0", Some(Duration::ZERO)),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("1h30m", Some(Duration::from_secs(5400))),
            ("250ms", Some(Duration::from_millis(250))),
            ("", None),
            ("45", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
            ("1e3s", None),
            ("99999999999999999999h", None),
            ("1..5s", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
