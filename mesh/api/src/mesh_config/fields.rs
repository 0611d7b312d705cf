//! Takes fields out of a configuration one by one, collecting every error and what was left over.

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

    /// An object of its own, to be given back to [`Fields::end`].
    pub(crate) fn object(&mut self, name: &str) -> Option<Self> {
        let value = self.take(name)?;
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

    /// The paths of the fields that nobody read, sorted, or every error.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, Vec<Invalid>> {
        let left: Vec<String> = self.map.keys().map(|name| self.path(name)).collect();
        self.ignored.extend(left);
        self.ignored.sort();
        if self.errors.is_empty() {
            Ok(self.ignored)
        } else {
            Err(self.errors)
        }
    }
}

/// A value as a message shows it: text without quotes, anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
