//! The one error of this crate: a value that was not understood, and what would have been.

use std::fmt::Display;

/// A field, annotation or label whose value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not accepted, expected {accepted}")]
pub struct Invalid {
    /// Where the value stands: a field's path such as `spec.mtls.mode`, or an annotation's name.
    pub field: String,
    /// The value as it was given, shortened when it is long.
    pub value: String,
    /// What is accepted, in words that complete "expected …".
    pub accepted: String,
}

/// How much of a refused value is repeated in its message.
const SHOWN: usize = 128;

impl Invalid {
    /// Describes a refused value.
    pub fn new(field: impl Into<String>, value: impl Display, accepted: impl Into<String>) -> Self {
        let mut value = value.to_string();
        if value.len() > SHOWN {
            let cut = (0..=SHOWN).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
            value.truncate(cut);
            value.push('…');
        }
        Self {
            field: field.into(),
            value,
            accepted: accepted.into(),
        }
    }
}

impl From<Invalid> for Vec<Invalid> {
    fn from(error: Invalid) -> Self {
        vec![error]
    }
}

/// Joins several errors into the text of one message.
#[must_use]
pub fn join(errors: &[Invalid]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_field_value_and_what_is_accepted() {
        let error = Invalid::new("spec.mtls.mode", "ON", "STRICT");
        assert_eq!(
            error.to_string(),
            "spec.mtls.mode: \"ON\" is not accepted, expected STRICT"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let error = Invalid::new("f", "é".repeat(500), "less");
        assert!(error.value.len() < 140);
        assert!(error.value.ends_with('…'));
    }
}
