//! HTTP/1.x by hand, so that a test says every byte and sees every one: a client's connection, and an application that
//! answers with what it saw.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::pod::Pod;

/// A message as it was read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Message {
    /// The request's or status line.
    pub(crate) start: String,
    /// The head as it came, line by line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The lines after a chunked body.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection with what was read ahead.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    ahead: Vec<u8>,
}

/// How long `/slow` takes.
pub(crate) const SLOW: Duration = Duration::from_millis(1500);

/// How many bytes `/big` answers with.
pub(crate) const BIG: usize = 10 << 20;

/// How a message's body ends.
enum Body {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, text: impl AsRef<[u8]>) -> Message {
        let head = text.as_ref().starts_with(b"HEAD ");
        self.send(text);
        self.answer(head).unwrap()
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 65536];
        let n = self.stream.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line = self.ahead.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn lines(&mut self) -> io::Result<String> {
        let mut lines = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push_str(&line);
            lines.push('\n');
        }
    }

    /// The next head, line by line; its body is still to be read.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        self.lines()
    }

    /// Exactly so many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> io::Result<Message> {
        let head = self.lines()?;
        self.message(head, false, false)
    }

    /// The next answer; `to_head` where the request's method was HEAD.
    pub(crate) fn answer(&mut self, to_head: bool) -> io::Result<Message> {
        loop {
            let head = self.lines()?;
            if !head.starts_with("HTTP/1.1 100 ") {
                return self.message(head, true, to_head);
            }
        }
    }

    fn message(&mut self, head: String, answer: bool, to_head: bool) -> io::Result<Message> {
        let start = head.lines().next().unwrap_or_default().to_owned();
        let mut message = Message {
            start,
            head,
            ..Message::default()
        };
        let chunked = message
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = message.header("content-length").map(|value| value.parse().unwrap());
        let body = match (chunked, length) {
            _ if to_head || (answer && matches!(message.status(), 101 | 204 | 304)) => Body::None,
            (true, _) => Body::Chunked,
            (false, Some(length)) => Body::Length(length),
            (false, None) if answer => Body::UntilClose,
            (false, None) => Body::None,
        };
        match body {
            Body::None => {}
            Body::Length(length) => message.body = self.exactly(length)?,
            Body::UntilClose => message.body = self.rest()?,
            Body::Chunked => loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
                let size = size.map_err(io::Error::other)?;
                if size == 0 {
                    message.trailers = self.lines()?;
                    break;
                }
                message.body.extend(self.exactly(size)?);
                self.exactly(2)?;
            },
        }
        Ok(message)
    }
}

/// A GET in HTTP/1.1.
pub(crate) fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

/// One GET on a connection of its own.
pub(crate) fn fetch(pod: &Pod, to: &str, host: &str, path: &str) -> io::Result<Message> {
    let mut connection = Connection::new(pod.try_connect(to)?);
    connection.stream.write_all(get(host, path).as_bytes())?;
    connection.answer(false)
}

/// Bytes that repeat themselves only after a while.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect()
}

/// An application on a port of a pod: answers each request with its head and body, unless its path asks for more.
pub(crate) fn application(pod: &Pod, port: u16) {
    let listener = pod.listen(port);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut connection = Connection::new(stream);
                while let Ok(true) = connection
                    .request()
                    .and_then(|request| serve(&mut connection, &request))
                {}
            });
        }
    });
}

/// Answers; whether the connection goes on.
fn serve(connection: &mut Connection<TcpStream>, request: &Message) -> io::Result<bool> {
    let path = request.start.split(' ').nth(1).unwrap_or_default();
    let mut on = true;
    let mut answer = match path {
        "/big" => format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n").into_bytes(),
        // The request's trailers as the answer's.
        "/chunked" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-after, x-more\r\n\r\n".to_vec(),
        // As HTTP/1.0 ends a body.
        "/until-close" => {
            on = false;
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()
        }
        // Closes without having said that it would.
        "/close" => {
            on = false;
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()
        }
        // Breaks off in the middle of a body of either kind.
        "/half" => {
            on = false;
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()
        }
        "/half-chunked" => {
            on = false;
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()
        }
        "/slow" => {
            thread::sleep(SLOW);
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow".to_vec()
        }
        "/upgrade" => {
            on = false;
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello ".to_vec()
        }
        "/nothing" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/count" => {
            let text = format!("{} {}", request.body.len(), request.body == pattern(request.body.len()));
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
        }
        _ => {
            let length = request.head.len() + request.body.len();
            let mut answer = format!("HTTP/1.1 200 OK\r\nx-app: echo\r\ncontent-length: {length}\r\n\r\n").into_bytes();
            if !request.start.starts_with("HEAD ") {
                answer.extend_from_slice(request.head.as_bytes());
                answer.extend_from_slice(&request.body);
            }
            answer
        }
    };
    match path {
        "/big" => answer.extend(pattern(BIG)),
        "/chunked" => {
            for part in request.body.chunks(5000) {
                answer.extend(format!("{:x}\r\n", part.len()).into_bytes());
                answer.extend_from_slice(part);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend(format!("0\r\n{}\r\n", request.trailers.replace('\n', "\r\n")).into_bytes());
        }
        _ => {}
    }
    connection.stream.write_all(&answer)?;
    if path == "/upgrade" {
        while let Ok(byte) = connection.exactly(1) {
            connection.stream.write_all(&byte)?;
        }
        connection.stream.write_all(b" goodbye")?;
    }
    Ok(on)
}
