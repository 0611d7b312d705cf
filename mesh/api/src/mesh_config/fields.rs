//! Takes fields out of a configuration one by one, collecting every error and what was left over.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Invalid;

/// The fields of one object of the configuration that have not been read yet.
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
    errors: Vec<Invalid>,
    ignored: Vec<String>,
}

impl Fields {
    /// Opens an object; `null` is one without fields.
    pub(crate) fn new(path: &str, value: Value) -> Result<Self, Invalid> {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => {
                let name = if path.is_empty() { "mesh" } else { path };
                return Err(Invalid::new(name, shown(&other), "fields"));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            map,
            errors: Vec::new(),
            ignored: Vec::new(),
        })
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field whose value `convert` understands; otherwise an error that says what is accepted.
    pub(crate) fn value<T>(
        &mut self,
        name: &str,
        accepted: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let converted = convert(&value);
        if converted.is_none() {
            self.errors.push(Invalid::new(self.path(name), shown(&value), accepted));
        }
        converted
    }

    /// As [`Fields::value`], of a field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        accepted: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.errors.push(Invalid::new(self.path(name), "", accepted));
            return None;
        }
        self.value(name, accepted, convert)
    }

    /// A text that `parse` understands.
    pub(crate) fn parsed<T>(&mut self, name: &str, accepted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.value(name, accepted, |value| value.as_str().and_then(parse))
    }

    /// Any text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.parsed(name, "text", |text| Some(text.to_owned()))
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.value(name, "true or false", Value::as_bool)
    }

    /// A list of texts that `parse` understands; absent is empty.
    pub(crate) fn list<T>(&mut self, name: &str, accepted: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let Some(items) = self.value(name, "a list", |value| value.as_array().cloned()) else {
            return Vec::new();
        };
        let mut parsed = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_str().and_then(&parse) {
                Some(item) => parsed.push(item),
                None => {
                    self.errors.push(Invalid::new(
                        format!("{}[{index}]", self.path(name)),
                        shown(item),
                        accepted,
                    ));
                }
            }
        }
        parsed
    }

    /// A whole number that `convert` accepts, written as a number or, as protobuf's JSON allows, as text.
    pub(crate) fn number<T>(
        &mut self,
        name: &str,
        accepted: &str,
        convert: impl FnOnce(u64) -> Option<T>,
    ) -> Option<T> {
        self.value(name, accepted, |value| {
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            number.and_then(convert)
        })
    }

    /// Texts by name, if `good` accepts them; absent is empty.
    pub(crate) fn texts(
        &mut self,
        name: &str,
        accepted: &str,
        good: impl FnOnce(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let entries = self.value(name, accepted, |value| {
            let entries = value.as_object()?.iter();
            entries
                .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect::<Option<_>>()
                .filter(good)
        });
        entries.unwrap_or_default()
    }

    /// A field that is known and does nothing: its value must be of its kind all the same.
    pub(crate) fn ignore(&mut self, name: &str, accepted: &str, good: impl FnOnce(&Value) -> bool) {
        if self.value(name, accepted, |value| good(value).then_some(())).is_some() {
            self.ignored.push(self.path(name));
        }
    }

    /// Takes over errors whose paths are whole already.
    pub(crate) fn refused(&mut self, errors: Vec<Invalid>) {
        self.errors.extend(errors);
    }

    /// Refuses a value that was taken before.
    pub(crate) fn refuse(&mut self, name: &str, value: &str, accepted: impl Into<String>) {
        self.errors.push(Invalid::new(self.path(name), value, accepted));
    }

    /// An object of its own, to be given back to [`Fields::end`].
    pub(crate) fn object(&mut self, name: &str) -> Option<Self> {
        let value = self.take(name)?;
        self.opened(name, value)
    }

    /// A value that was taken before, as an object, likewise.
    pub(crate) fn opened(&mut self, name: &str, value: Value) -> Option<Self> {
        match Self::new(&self.path(name), value) {
            Ok(fields) => Some(fields),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// Takes over what an inner object reported and what nobody read of it.
    pub(crate) fn end(&mut self, inner: Self) {
        self.ignored.extend(inner.map.keys().map(|name| inner.path(name)));
        self.ignored.extend(inner.ignored);
        self.errors.extend(inner.errors);
    }

    /// The paths of the fields that do nothing, known or not, sorted, or every error.
    pub(crate) fn finish(self) -> Result<Vec<String>, Vec<Invalid>> {
        let (mut ignored, unknown) = self.finish_apart()?;
        ignored.extend(unknown);
        ignored.sort();
        Ok(ignored)
    }

    /// The paths of the known fields that do nothing, and of those that nobody knows, each sorted, or every error.
    pub(crate) fn finish_apart(mut self) -> Result<(Vec<String>, Vec<String>), Vec<Invalid>> {
        let mut unknown: Vec<String> = self.map.keys().map(|name| self.path(name)).collect();
        unknown.sort();
        self.ignored.sort();
        if self.errors.is_empty() {
            Ok((self.ignored, unknown))
        } else {
            Err(self.errors)
        }
    }
}

/// A value as a message shows it: text without quotes, anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
