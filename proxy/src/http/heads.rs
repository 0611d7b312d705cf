//! The heads of a client's HTTP/1.x connection, looked at on their way to hyper, which reads them more kindly than a proxy
//! may: what two readers could take for different requests is refused (RFC 9112, sections 2.2, 3.2, 5.2, 6.1 and 11.2).
//!
//! A message is still read once, by hyper. A refused head arrives there with its last byte made one that no head may have, so
//! that hyper answers 400 and ends the connection.

use super::exchange::MOST_HEAD_BYTES;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a refused head ends with.
const NO_LINE_FEED: u8 = 0;

/// Why a head, or the frame of a chunked body, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Malformed {
    /// A line that ends with LF alone, or has a CR within.
    LineEnd = 1,
    /// A field that goes on in the next line.
    Folded,
    /// A target with a fragment.
    Fragment,
    /// Two lengths, or one that is no number.
    Length,
    /// A transfer coding that is not `chunked` once.
    Coding,
    /// A length and a transfer coding.
    LengthAndCoding,
    /// A chunk whose size or end is not what it should be.
    Chunk,
}

impl Malformed {
    const ALL: [Self; 7] = [
        Self::LineEnd,
        Self::Folded,
        Self::Fragment,
        Self::Length,
        Self::Coding,
        Self::LengthAndCoding,
        Self::Chunk,
    ];
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineEnd => "a line that does not end with CRLF",
            Self::Folded => "a header that is folded over two lines",
            Self::Fragment => "a target with a fragment",
            Self::Length => "a Content-Length that is no number or said twice",
            Self::Coding => "a Transfer-Encoding that is not chunked, once",
            Self::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            Self::Chunk => "a chunk that is not framed as it should be",
        })
    }
}

/// What a connection's owner knows of its heads while hyper has the connection.
#[derive(Debug, Default)]
pub struct Seen {
    malformed: AtomicU8,
    resumes: AtomicBool,
}

impl Seen {
    /// Why a head was refused.
    #[must_use]
    pub fn malformed(&self) -> Option<Malformed> {
        let number = self.malformed.load(Ordering::Relaxed);
        Malformed::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// The protocol was not changed: requests follow.
    pub fn resume(&self) {
        self.resumes.store(true, Ordering::Relaxed);
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Heads<S> {
    inner: S,
    seen: Arc<Seen>,
    reader: Reader,
}

impl<S> Heads<S> {
    /// A connection that begins with a request.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            seen: Arc::default(),
            reader: Reader::default(),
        }
    }

    /// What is known of its heads.
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        self.seen.clone()
    }
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    /// A request's line, or empty lines before it.
    #[default]
    Start,
    /// A field, or the end of the head.
    Field,
    /// So many bytes of a body.
    Body(u64),
    /// The size of a chunk.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The end of a chunk.
    DataEnd,
    /// A field after a chunked body, or the end of the message.
    Trailer,
    /// Whatever another protocol says, unless it is not agreed on.
    Other,
    /// Nothing more is looked at: hyper has been made to refuse it, or does so by itself.
    Refused,
}

/// What a head has said so far.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    /// Whether it asks for another protocol.
    switches: bool,
}

#[derive(Debug, Default)]
struct Reader {
    part: Part,
    head: Head,
    /// The beginning of a line whose end is still to come.
    begun: Vec<u8>,
}

impl Reader {
    /// Looks at what was read, and makes a refused line one that hyper refuses.
    fn pass(&mut self, bytes: &mut [u8]) -> Option<Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.len() - at;
            match &mut self.part {
                Part::Body(left) | Part::Data(left) => {
                    let taken = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                    *left -= taken as u64;
                    at += taken;
                    match self.part {
                        Part::Body(0) => self.part = self.head.next(),
                        Part::Data(0) => self.part = Part::DataEnd,
                        _ => {}
                    }
                    continue;
                }
                Part::Other | Part::Refused => return None,
                _ => {}
            }
            let Some(length) = memchr::memchr(b'\n', &bytes[at..]) else {
                self.begun.extend_from_slice(&bytes[at..]);
                if self.begun.len() > MOST_HEAD_BYTES {
                    // Longer than hyper takes.
                    (self.part, self.begun) = (Part::Refused, Vec::new());
                }
                return None;
            };
            let end = at + length;
            let sized = self.part == Part::Size;
            let result = if self.begun.is_empty() {
                line(&mut self.part, &mut self.head, &bytes[at..end])
            } else {
                self.begun.extend_from_slice(&bytes[at..end]);
                let begun = std::mem::take(&mut self.begun);
                line(&mut self.part, &mut self.head, &begun)
            };
            if let Err(malformed) = result {
                // Of a chunk's size hyper refuses LF alone by itself, and takes anything else in its place.
                if !sized || malformed != Malformed::LineEnd {
                    bytes[end] = NO_LINE_FEED;
                }
                self.part = Part::Refused;
                return Some(malformed);
            }
            at = end + 1;
        }
        None
    }
}

impl Head {
    /// What follows the message.
    fn next(self) -> Part {
        if self.switches { Part::Other } else { Part::Start }
    }
}

/// Takes a line, without its LF.
fn line(part: &mut Part, head: &mut Head, text: &[u8]) -> Result<(), Malformed> {
    let text = match text.split_last() {
        Some((b'\r', text)) if !text.contains(&b'\r') => text,
        _ => return Err(Malformed::LineEnd),
    };
    match part {
        Part::Start if text.is_empty() => {}
        Part::Start => {
            if text.contains(&b'#') {
                return Err(Malformed::Fragment);
            }
            *head = Head {
                switches: text.starts_with(b"CONNECT "),
                ..Head::default()
            };
            *part = Part::Field;
        }
        Part::Field if text.is_empty() => {
            *part = match (head.length, head.chunked) {
                (Some(_), true) => return Err(Malformed::LengthAndCoding),
                (None, true) => Part::Size,
                (Some(length @ 1..), false) => Part::Body(length),
                (Some(0) | None, false) => head.next(),
            };
        }
        Part::Field => field(head, text)?,
        Part::Size => {
            *part = match size(text).ok_or(Malformed::Chunk)? {
                0 => Part::Trailer,
                size => Part::Data(size),
            };
        }
        Part::DataEnd if text.is_empty() => *part = Part::Size,
        Part::DataEnd => return Err(Malformed::Chunk),
        Part::Trailer if text.is_empty() => *part = head.next(),
        Part::Trailer if folded(text) => return Err(Malformed::Folded),
        Part::Trailer | Part::Body(_) | Part::Data(_) | Part::Other | Part::Refused => {}
    }
    Ok(())
}

fn folded(text: &[u8]) -> bool {
    matches!(text.first(), Some(b' ' | b'\t'))
}

/// Takes a header field. What is no field at all is hyper's to refuse.
fn field(head: &mut Head, text: &[u8]) -> Result<(), Malformed> {
    let first = match text.first() {
        Some(b' ' | b'\t') => return Err(Malformed::Folded),
        Some(first) => first.to_ascii_lowercase(),
        None => return Ok(()),
    };
    if !matches!(first, b'c' | b't' | b'u') {
        return Ok(());
    }
    let Some(colon) = text.iter().position(|byte| *byte == b':') else {
        return Ok(());
    };
    let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(value)
            .ok()
            .filter(|_| digits)
            .and_then(|value| value.parse().ok());
        if head.length.is_some() || number.is_none() {
            return Err(Malformed::Length);
        }
        head.length = number;
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        if head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::Coding);
        }
        head.chunked = true;
    } else if name.eq_ignore_ascii_case(b"upgrade") {
        head.switches = true;
    }
    Ok(())
}

/// The size that a chunk begins with; its extensions are passed over.
fn size(text: &[u8]) -> Option<u64> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if !(rest.is_empty() || matches!(rest.trim_ascii().first(), None | Some(b';'))) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.reader.part == Part::Other && this.seen.resumes.swap(false, Ordering::Relaxed) {
            this.reader.part = Part::Start;
        }
        if let Some(malformed) = this.reader.pass(&mut buf.filled_mut()[before..]) {
            this.seen.malformed.store(malformed as u8, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a connection's bytes, read in pieces of `size`.
    fn read(text: &str, size: usize) -> (Option<Malformed>, Vec<u8>, Part) {
        let (mut reader, mut found) = (Reader::default(), None);
        let mut bytes = text.as_bytes().to_vec();
        for piece in bytes.chunks_mut(size) {
            found = found.or(reader.pass(piece));
        }
        (found, bytes, reader.part)
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        use Malformed::*;
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5;a=b\r\n0\r\n\r\n\r\nA \r\n1234567890\r\n0\r\nx: y\r\n\r\n";
        for (text, expected) in [
            (get.into(), None),
            (format!("\r\n{get}{get}"), None),
            (format!("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nX\n\r{get}"), None),
            (format!("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n{get}"), None),
            (format!("{chunked}{get}"), None),
            ("GET / HTTP/1.1\nhost: a\n\n".into(), Some(LineEnd)),
            ("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n".into(), Some(LineEnd)),
            ("GET / HTTP/1.1\r\nx: a\rb\r\n\r\n".into(), Some(LineEnd)),
            ("GET / HTTP/1.1\r\nx: a\r\r\n\r\n".into(), Some(LineEnd)),
            ("\nGET / HTTP/1.1\r\n\r\n".into(), Some(LineEnd)),
            ("GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n".into(), Some(Folded)),
            ("GET / HTTP/1.1\r\n\thost: a\r\n\r\n".into(), Some(Folded)),
            ("GET /a#b HTTP/1.1\r\n\r\n".into(), Some(Fragment)),
            (
                "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na".into(),
                Some(Length),
            ),
            ("POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\na".into(), Some(Length)),
            ("POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\na".into(), Some(Length)),
            ("POST / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\na".into(), Some(Length)),
            (
                "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".into(),
                Some(Length),
            ),
            ("POST / HTTP/1.1\r\ncontent-length:\r\n\r\n".into(), Some(Length)),
            (
                "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".into(),
                Some(LengthAndCoding),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n".into(),
                Some(LengthAndCoding),
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n".into(),
                Some(Coding),
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: identity, chunked\r\n\r\n".into(),
                Some(Coding),
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n".into(),
                Some(Coding),
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: \x0bchunked\r\n\r\n".into(),
                Some(Coding),
            ),
            (chunked.replacen("5;a", "-5;a", 1), Some(Chunk)),
            (chunked.replacen("5;a", "5 5;a", 1), Some(Chunk)),
            (chunked.replacen("a=b\r\n", "a=b\n", 1), Some(LineEnd)),
            (chunked.replacen("\r\nA ", "XA ", 1), Some(Chunk)),
            (chunked.replacen("x: y\r\n", "x: y\r\n z\r\n", 1), Some(Folded)),
            (format!("{chunked}GET / HTTP/1.1\n\r\n"), Some(LineEnd)),
            ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nany\nthing\r".into(), None),
            ("GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\nany\nthing\r".into(), None),
        ] {
            for size in [1, 2, 7, text.len()] {
                let (found, bytes, part) = read(&text, size);
                assert_eq!(found, expected, "{text:?} by {size}");
                assert_eq!(part == Part::Refused, expected.is_some(), "{text:?} by {size}");
                let changed = bytes.iter().zip(text.as_bytes()).filter(|(a, b)| a != b).count();
                // LF alone behind a chunk's size is left for hyper to refuse.
                let left = text.contains("a=b\n");
                assert_eq!(changed, usize::from(expected.is_some() && !left), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn every_reason_is_told() {
        for reason in Malformed::ALL {
            let seen = Seen::default();
            assert_eq!(seen.malformed(), None);
            seen.malformed.store(reason as u8, Ordering::Relaxed);
            assert_eq!(seen.malformed(), Some(reason));
        }
    }

    #[test]
    fn every_fault_is_explained() {
        for fault in Malformed::ALL {
            assert!(
                include_str!("../../../docs/denials.md").contains(&format!("| `{fault}` | ")),
                "docs/denials.md does not explain {fault}"
            );
        }
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept() {
        let mut reader = Reader::default();
        for _ in 0..=MOST_HEAD_BYTES / 1024 {
            assert_eq!(reader.pass(&mut [b'a'; 1024]), None);
        }
        assert_eq!((reader.part, reader.begun.capacity()), (Part::Refused, 0));
    }
}
