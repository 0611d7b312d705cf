//! What a parser finds on its way through a resource.

use std::fmt::Display;

use crate::{Invalid, duration};

/// What is wrong, and what is worth a word.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What is refused.
    pub(crate) errors: Vec<Invalid>,
    /// What is accepted and worth a word, one sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn refuse(&mut self, field: impl Into<String>, value: impl Display, accepted: impl Into<String>) {
        self.errors.push(Invalid::new(field, value, accepted));
    }

    pub(crate) fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// Refuses a text that is there and no duration of at least a millisecond, in whole milliseconds.
    pub(crate) fn duration(&mut self, field: impl Into<String>, value: Option<&str>) {
        let Some(text) = value else { return };
        if duration::whole_milliseconds(text).is_none() {
            self.refuse(field, text, duration::WHOLE_MILLISECONDS);
        }
    }

    /// Refuses a number that is there and outside a range.
    pub(crate) fn range(&mut self, field: impl Into<String>, value: Option<i64>, least: i64, most: i64) {
        if let Some(number) = value.filter(|number| !(least..=most).contains(number)) {
            self.refuse(field, number, format!("{least} to {most}"));
        }
    }

    /// Refuses a text that is there and none of a list.
    pub(crate) fn one_of(&mut self, field: impl Into<String>, value: Option<&str>, accepted: &[&str]) {
        if let Some(text) = value.filter(|text| !accepted.contains(text)) {
            self.refuse(field, text, format!("one of {}", accepted.join(", ")));
        }
    }
}
