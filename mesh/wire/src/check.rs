//! What conversions have in common: numbers, times and texts of messages into what they must be.

use crate::convert::ConvertError;
use std::sync::Arc;
use std::time::Duration;

/// The value of a choice; none is a choice that a later version has.
pub(crate) fn known<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Unknown(field))
}

/// At most so many of something.
pub(crate) fn bounded<T>(field: &'static str, list: &[T], most: usize) -> Result<(), ConvertError> {
    if list.len() > most {
        return Err(ConvertError::TooMany {
            field,
            count: list.len(),
            most,
        });
    }
    Ok(())
}

/// A number within bounds, which `accepted` says.
pub(crate) fn within<T: TryFrom<u32>>(
    field: &'static str,
    value: u32,
    holds: impl Fn(u32) -> bool,
    accepted: &'static str,
) -> Result<T, ConvertError> {
    holds(value)
        .then(|| T::try_from(value).ok())
        .flatten()
        .ok_or(ConvertError::Range {
            field,
            value: value.into(),
            accepted,
        })
}

/// An HTTP status.
pub(crate) fn status(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    within(field, value, |value| (100..1000).contains(&value), "100 to 999")
}

/// A number that is neither negative nor infinite.
pub(crate) fn amount(field: &'static str, value: f64) -> Result<f64, ConvertError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(ConvertError::Range {
            field,
            value,
            accepted: "0 or more",
        })
    }
}

/// An index into a list that has so many entries.
pub(crate) fn index(field: &'static str, value: u32, entries: usize) -> Result<u32, ConvertError> {
    match usize::try_from(value) {
        Ok(at) if at < entries => Ok(value),
        _ => Err(ConvertError::Index { field, value }),
    }
}

/// Indices into a list that has so many entries, each once and in ascending order.
pub(crate) fn indices(field: &'static str, values: &[u32], entries: usize) -> Result<Vec<u32>, ConvertError> {
    for (at, value) in values.iter().enumerate() {
        index(field, *value, entries)?;
        if at > 0 && values[at - 1] >= *value {
            return Err(ConvertError::Order(field));
        }
    }
    Ok(values.to_vec())
}

/// A text that must not be empty.
pub(crate) fn named(field: &'static str, text: &str) -> Result<Arc<str>, ConvertError> {
    if text.is_empty() {
        return Err(ConvertError::Empty(field));
    }
    Ok(text.into())
}

/// The error of a text that is not what its field takes.
pub(crate) fn refused(field: &'static str, value: &str, reason: impl ToString) -> ConvertError {
    ConvertError::Text {
        field,
        value: value.chars().take(100).collect(),
        reason: reason.to_string(),
    }
}

/// Each entry of a list; an error says which one.
pub(crate) fn each<M, T>(
    list: &'static str,
    entries: &[M],
    mut convert: impl FnMut(&M) -> Result<T, ConvertError>,
) -> Result<Vec<T>, ConvertError> {
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            convert(entry).map_err(|error| ConvertError::Entry {
                list,
                index,
                error: Box::new(error),
            })
        })
        .collect()
}

/// A time as nanoseconds; what is longer than centuries is cut.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn texts(list: &[Arc<str>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub(crate) fn shared(list: &[String]) -> Vec<Arc<str>> {
    list.iter().map(|text| text.as_str().into()).collect()
}
