//! Switches in Istio's proxyMetadata: texts that say yes or no.

/// What [`parse`] takes, for who gave something else.
pub const ACCEPTED: &str = "true or false";

/// Reads a switch as Istio's agent does (Go's `strconv.ParseBool`); `None` for what is no switch.
#[must_use]
pub fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_go_takes_and_nothing_else() {
        for (text, expected) in [
            ("true", Some(true)),
            ("True", Some(true)),
            ("1", Some(true)),
            ("f", Some(false)),
            ("FALSE", Some(false)),
            ("yes", None),
            ("tRUE", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
