//! Names and values of HTTP headers.

/// Whether a text may be a header's name (RFC 9110, section 5.6.2: a token).
pub(crate) fn is_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// A header's value: anything but control characters, tabs excepted.
pub(crate) fn value(text: &str) -> Option<http::HeaderValue> {
    http::HeaderValue::from_bytes(text.as_bytes()).ok()
}
