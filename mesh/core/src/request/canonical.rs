//! A path's normal form: the one of RFC 3986 and the WHATWG's URL standard, as browsers and Envoy compute it.
//!
//! Dot segments are resolved, escaped or not. Escapes of letters, digits, `-`, `.`, `_` and `~` are undone, all others stay
//! as written. A backslash is a slash. Characters that a path must not have are escaped. A `%` that begins no escape stays,
//! unless unescaping what follows would make it begin one: then it is escaped itself.

use super::Refused;

/// Whether a character stays as it is wherever it stands, but for dots after a slash.
pub(super) fn stands(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,/:;=@[]".contains(&byte)
}

/// Unescaped where they are escaped.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Normalises a path without query, of printable ASCII.
pub(super) fn canonical(path: &str) -> Result<String, Refused> {
    let bytes = path.as_bytes();
    let mut normal = Normal::default();
    let mut at = 0;
    if !matches!(bytes.first(), Some(b'/' | b'\\')) {
        normal.text.push('/');
    }
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if let Some(length) = dot(rest) {
            at += length;
            if normal.text.ends_with('/') {
                at += normal.segment_of_dots(&rest[length..]);
            } else {
                normal.text.push('.');
                normal.unescaped(byte == b'%', bytes.get(at));
            }
            continue;
        }
        at += 1;
        match (byte, escaped(rest)) {
            (b'\\', _) => normal.text.push('/'),
            (b'%', Some(0)) => return Err(Refused::Null),
            (b'%', Some(value)) if is_unreserved(value) => {
                at += 2;
                normal.text.push(char::from(value));
                normal.unescaped(true, bytes.get(at));
            }
            (b'%', Some(_)) => {
                normal.text.push_str(&path[at - 1..at + 2]);
                at += 2;
            }
            (b'%', None) => {
                normal.lone_percent = Some(normal.text.len());
                normal.text.push('%');
            }
            (byte, _) if stands(byte) => normal.text.push(char::from(byte)),
            (byte, _) => normal.text.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(normal.text)
}

/// The length of a dot at the beginning, escaped or not.
fn dot(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    }
}

/// The character of an escape at the beginning.
fn escaped(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => {
            let (high, low) = (char::from(*high).to_digit(16)?, char::from(*low).to_digit(16)?);
            u8::try_from(high * 16 + low).ok()
        }
        _ => None,
    }
}

/// A normal form that is being written.
#[derive(Default)]
struct Normal {
    text: String,
    /// The place of the last `%` that began no escape.
    lone_percent: Option<usize>,
}

impl Normal {
    /// Goes on after a dot that follows a slash. Returns how much of what follows belonged to it.
    fn segment_of_dots(&mut self, after: &[u8]) -> usize {
        let second = dot(after).unwrap_or(0);
        let length = match after.get(second) {
            None => second,
            Some(b'/' | b'\\') => second + 1,
            // Only a name that begins with a dot.
            Some(_) => {
                self.text.push('.');
                return 0;
            }
        };
        if second > 0 {
            let before = self.text.len().saturating_sub(1);
            let parent = self.text[..before].rfind('/').unwrap_or(0);
            self.text.truncate(parent + 1);
            self.lone_percent = self.lone_percent.filter(|at| *at < self.text.len());
        }
        length
    }

    /// Looks at the last character, which may have been unescaped: if together with a lone `%` before it, and with what
    /// follows, it looks like an escape, the `%` is escaped.
    fn unescaped(&mut self, was_escaped: bool, next: Option<&u8>) {
        let Some(percent) = self.lone_percent.filter(|_| was_escaped) else {
            return;
        };
        let mut looks_like = self.text.as_bytes()[percent..].to_vec();
        if looks_like.len() == 2 {
            looks_like.extend(next);
        }
        if looks_like.len() == 3 && escaped(&looks_like).is_some() {
            self.text.insert_str(percent + 1, "25");
            self.lone_percent = None;
        }
    }
}
