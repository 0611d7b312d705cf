//! What a request is before anything is decided about it.

use std::fmt;

/// `meshConfig.pathNormalization.normalization`: how paths are normalised before anything is decided about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Not at all.
    None,
    /// As RFC 3986 has it, and `\` becomes `/`.
    #[default]
    Base,
    /// Likewise, and several slashes become one.
    MergeSlashes,
    /// Likewise, once `%2F` and `%5C` are decoded.
    DecodeAndMergeSlashes,
}

impl Normalization {
    /// The setting of a name in the configuration; `DEFAULT` is `BASE`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "NONE" => Some(Self::None),
            "DEFAULT" | "BASE" => Some(Self::Base),
            "MERGE_SLASHES" => Some(Self::MergeSlashes),
            "DECODE_AND_MERGE_SLASHES" => Some(Self::DecodeAndMergeSlashes),
            _ => None,
        }
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Base => "BASE",
            Self::MergeSlashes => "MERGE_SLASHES",
            Self::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_istios_names() {
        for name in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] {
            assert_eq!(Normalization::named(name).unwrap().to_string(), name);
        }
        assert_eq!(Normalization::named("DEFAULT"), Some(Normalization::default()));
        assert_eq!(Normalization::named("base"), None);
    }
}
