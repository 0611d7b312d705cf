//! `bookshop echo`: over HTTP it answers with the request as it arrived, as JSON; over TCP with the lines that came.
//! `/status/CODE` answers with that status and `/delay/MILLISECONDS` after that time, for tests of what a proxy makes
//! of them.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, StatusCode};
use serde::Serialize;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::lifecycle::{OnTerminate, Phase, phases};
use crate::lines;
use crate::server::{self, Answer, Ends, Service, Stream, host_name};

/// A request's body may be this long, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// A body must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A line may be this long, in bytes.
const LINE_LIMIT: u16 = 16 << 10;

/// The other side may be silent, or leave an echo untaken, this long.
const IDLE: Duration = Duration::from_secs(3600);

/// No delay is longer than this, in milliseconds.
const MAX_DELAY: u64 = 60_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTP on
    #[arg(long, default_value_t = 9080)]
    http: u16,
    /// The port to echo lines on
    #[arg(long, default_value_t = 9070)]
    tcp: u16,
    /// Over TCP, speak first: send this line as soon as a connection is there
    #[arg(long)]
    greeting: Option<String>,
    /// Exit as soon as it is asked to terminate, with whatever is in flight, instead of draining
    #[arg(long)]
    exit: bool,
}

/// Serves until asked to terminate.
pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let (http, tcp) = (
        server::listen(arguments.http).await?,
        server::listen(arguments.tcp).await?,
    );
    let phases = phases(if arguments.exit {
        OnTerminate::Exit
    } else {
        OnTerminate::Drain
    })?;
    let lines = Lines {
        greeting: arguments.greeting.map(|line| format!("{line}\n")),
    };
    tokio::join!(
        server::http(http, Requests, phases.clone()),
        server::tcp(tcp, lines, phases)
    );
    Ok(())
}

/// A request as it arrived.
#[derive(Serialize)]
struct Seen {
    method: String,
    /// The request target, query included.
    path: String,
    version: String,
    /// Name and value in the order of arrival; names come in lower case.
    headers: Vec<(String, String)>,
    /// What is not UTF-8 is replaced.
    body: String,
    /// The address that was dialled.
    local: String,
    /// Who dialled.
    peer: String,
    /// The pod that answers.
    pod: String,
}

struct Requests;

impl Service for Requests {
    async fn answer(&self, request: Request<Incoming>, ends: Ends) -> Answer {
        let (head, body) = request.into_parts();
        let wanted = match wanted(head.uri.path()) {
            Ok(wanted) => wanted,
            Err(why) => return server::text(StatusCode::BAD_REQUEST, why),
        };
        let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return server::text(StatusCode::BAD_REQUEST, format!("the body: {error}\n")),
            Err(_) => return server::text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
        };
        tokio::time::sleep(wanted.delay).await;
        let seen = Seen {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            version: format!("{:?}", head.version),
            headers: pairs(&head.headers),
            body: String::from_utf8_lossy(&body).into_owned(),
            local: ends.local.to_string(),
            peer: ends.peer.to_string(),
            pod: host_name(),
        };
        server::json(wanted.status, &seen)
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(pair).collect()
}

/// What a path asks of its answer.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    status: StatusCode,
    delay: Duration,
}

fn wanted(path: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        status: StatusCode::OK,
        delay: Duration::ZERO,
    };
    if let Some(code) = path.strip_prefix("/status/") {
        let code = code.parse().ok().filter(|code| (200..600).contains(code));
        wanted.status = code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or("a status is from 200 to 599\n")?;
    } else if let Some(delay) = path.strip_prefix("/delay/") {
        let delay = delay.parse().ok().filter(|delay| *delay <= MAX_DELAY);
        let delay = delay.ok_or_else(|| format!("a delay is from 0 to {MAX_DELAY} milliseconds\n"))?;
        wanted.delay = Duration::from_millis(delay);
    }
    Ok(wanted)
}

struct Lines {
    greeting: Option<String>,
}

impl Stream for Lines {
    async fn serve(&self, mut stream: TcpStream, mut phases: watch::Receiver<Phase>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        if let Some(greeting) = &self.greeting {
            tokio::time::timeout(IDLE, write.write_all(greeting.as_bytes())).await??;
        }
        loop {
            let line = tokio::select! {
                line = tokio::time::timeout(IDLE, lines::read(&mut read, LINE_LIMIT)) => line??,
                _ = phases.wait_for(|phase| *phase == Phase::Closing) => return Ok(()),
            };
            let Some(line) = line else { return Ok(()) };
            tokio::time::timeout(IDLE, write.write_all(format!("{line}\n").as_bytes())).await??;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_chooses_status_and_delay() {
        let plain = |status| {
            Ok(Wanted {
                status,
                delay: Duration::ZERO,
            })
        };
        assert_eq!(wanted("/any/thing"), plain(StatusCode::OK));
        assert_eq!(wanted("/status/503"), plain(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(
            wanted("/delay/20"),
            Ok(Wanted {
                status: StatusCode::OK,
                delay: Duration::from_millis(20)
            })
        );
        for path in ["/status/99", "/status/101", "/status/x", "/delay/60001", "/delay/-1"] {
            assert!(wanted(path).is_err(), "{path}");
        }
    }
}
