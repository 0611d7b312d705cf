//! What a connection speaks, told from the first bytes of its client.

use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A TLS record that begins a handshake.
    Tls,
    /// An HTTP/1.x request.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113, section 3.3).
    Http2,
    /// Anything else.
    Opaque,
}

/// The methods by which HTTP/1.x is told from other protocols: those of the IANA registry that are in use. `CONNECT` is not
/// among them: what follows it is a tunnel, and passes as opaque bytes.
const METHODS: [&str; 21] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "MERGE",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
];

/// How an HTTP/2 connection begins (RFC 9113, section 3.4); what follows is looked at by whoever speaks it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Tells the protocol, or `None` while the bytes can still become several.
#[must_use]
pub fn tell(bytes: &[u8]) -> Option<Spoken> {
    match bytes {
        [] => None,
        [0x16] => None,
        // ContentType handshake, legacy version 3.x (RFC 8446, section 5.1).
        [0x16, 0x03, ..] => Some(Spoken::Tls),
        _ if bytes.starts_with(HTTP2_PREFACE) => Some(Spoken::Http2),
        _ => {
            let mut possible = HTTP2_PREFACE.starts_with(bytes);
            for method in METHODS {
                let method = method.as_bytes();
                if let Some(rest) = bytes.strip_prefix(method) {
                    match rest {
                        [] => possible = true,
                        [b' ', ..] => return Some(Spoken::Http1),
                        _ => {}
                    }
                } else if method.starts_with(bytes) {
                    possible = true;
                }
            }
            if possible { None } else { Some(Spoken::Opaque) }
        }
    }
}

/// What [`read`] reads into.
#[must_use]
pub fn buffer() -> BytesMut {
    BytesMut::with_capacity(1024)
}

/// Reads until the protocol is clear. A connection that ends before is opaque, with what it sent. What was read is in `ahead`
/// even where this is given up before its end.
///
/// # Errors
/// That of the read.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut) -> io::Result<Spoken> {
    loop {
        if let Some(spoken) = tell(ahead) {
            return Ok(spoken);
        }
        if stream.read_buf(ahead).await? == 0 {
            return Ok(Spoken::Opaque);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_protocols_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"G", None),
            (b"GET", None),
            (b"GET ", Some(Spoken::Http1)),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"POST /x HTTP/1.0\r\n", Some(Spoken::Http1)),
            (b"PROPFIND /", Some(Spoken::Http1)),
            (b"UNSUBSCRIBE", None),
            (b"GETX", Some(Spoken::Opaque)),
            (b"get / HTTP/1.1", Some(Spoken::Opaque)),
            (b"PRI", None),
            (b"PRI * HTTP/2.0\r", None),
            (b"PRI * HTTP/2.0\r\n", Some(Spoken::Http2)),
            (b"PRI * HTTP/3.0\r\n", Some(Spoken::Opaque)),
            (b"CONNECT a:1 HTTP/1.1", Some(Spoken::Opaque)),
            (b"*1\r\n$4\r\nPING", Some(Spoken::Opaque)),
            (b"PING\r\n", Some(Spoken::Opaque)),
            (b"\x16", None),
            (b"\x16\x03\x01", Some(Spoken::Tls)),
            (b"\x16\x04", Some(Spoken::Opaque)),
            (b"\x00", Some(Spoken::Opaque)),
        ] {
            assert_eq!(tell(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
