//! The application's own metrics, asked for on behalf of whoever scrapes the sidecar's page on 15020: as Istio's agent does, with
//! the scraper's `Accept`, `User-Agent` and time limit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use prometheus::{IntCounter, Registry};
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::telemetry::merge::Answer;

/// The most that an application may answer with.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How long it may take, where the scraper does not say.
const TIME: Duration = Duration::from_secs(5);
/// How long it may take in any case.
pub(super) const MOST_TIME: Duration = Duration::from_secs(20);
/// How many scrapers are served at once; more wait.
const AT_ONCE: usize = 2;
/// The most places that are asked.
const MOST_TARGETS: usize = 32;

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Where an application's metrics are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The port.
    pub port: u16,
    /// The path.
    pub path: PathAndQuery,
}

/// The application's places of metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets(pub Vec<Target>);

/// Why `ISTIO_PROMETHEUS_ANNOTATIONS` is refused.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not JSON of the expected form.
    #[error("{0}; expected {{\"scrape\":\"true\",\"path\":\"/metrics\",\"port\":\"9090\"}}")]
    Form(#[from] serde_json::Error),
    /// A port.
    #[error("port {0:?}: expected 1 to 65535, and none of the sidecar's own")]
    Port(String),
    /// A path.
    #[error("path {0:?}: expected a path such as /metrics")]
    Path(String),
    /// Too many.
    #[error("{0} targets: at most {MOST_TARGETS} are asked")]
    TooMany(usize),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    scrape: String,
    path: String,
    port: String,
    targets: Vec<WrittenTarget>,
}

#[derive(Deserialize)]
struct WrittenTarget {
    port: String,
    #[serde(default)]
    path: String,
}

impl Targets {
    /// Parses the variable as the webhook writes it from a pod's `prometheus.io/*` annotations; empty text is no target.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let written: Written = serde_json::from_str(text)?;
        if written.scrape == "false" {
            return Ok(Self::default());
        }
        let first = WrittenTarget {
            port: written.port,
            path: written.path,
        };
        let targets = if written.targets.is_empty() {
            vec![first]
        } else {
            written.targets
        };
        if targets.len() > MOST_TARGETS {
            return Err(TargetError::TooMany(targets.len()));
        }
        targets.into_iter().map(target).collect::<Result<_, _>>().map(Self)
    }
}

/// Istio's defaults are port 80 and `/metrics`.
fn target(written: WrittenTarget) -> Result<Target, TargetError> {
    let WrittenTarget { port, path } = written;
    let number = match port.as_str() {
        "" => Some(80),
        port => port.trim().parse().ok().filter(|port| *port != 0),
    };
    // The sidecar's own pages would ask themselves.
    let number = number.filter(|port| !matches!(port, 15000 | 15020 | 15021 | 15090));
    let path = if path.is_empty() { "/metrics".to_owned() } else { path };
    Ok(Target {
        port: number.ok_or(TargetError::Port(port))?,
        path: match path.parse() {
            Ok(parsed) if path.starts_with('/') => parsed,
            _ => return Err(TargetError::Path(path)),
        },
    })
}

/// Asks the application.
pub(super) struct Application {
    targets: Targets,
    pod_address: IpAddr,
    at_once: Semaphore,
    asked: IntCounter,
    failed: IntCounter,
}

impl Application {
    /// For an application of the pod at an address; what comes of asking is counted in the registry.
    pub(super) fn new(targets: Targets, pod_address: IpAddr, registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        Ok(Self {
            targets,
            pod_address,
            at_once: Semaphore::new(AT_ONCE),
            asked: counter(
                "pinnace_proxy_application_scrapes_total",
                "How often the application was asked for its metrics.",
            )?,
            failed: counter(
                "pinnace_proxy_application_scrapes_failed_total",
                "How often the application's metrics were not on the merged page, because it did not answer, not in time, with \
                 too much, or in a format of its own.",
            )?,
        })
    }

    /// Counts pages that could not be merged.
    pub(super) fn left_out(&self, pages: usize) {
        self.failed.inc_by(pages as u64);
    }

    /// What the application answers at all of its places; a place that does not answer is left out.
    pub(super) async fn answers(&self, asked: &HeaderMap) -> Vec<Answer> {
        if self.targets.0.is_empty() {
            return Vec::new();
        }
        let Ok(_turn) = self.at_once.acquire().await else {
            return Vec::new();
        };
        let time = asked
            .get(SCRAPE_TIMEOUT)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map_or(TIME, |time| time.min(MOST_TIME));
        let answers = self.targets.0.iter().map(|target| async move {
            self.asked.inc();
            let answer = match tokio::time::timeout(time, self.ask(target, asked)).await {
                Ok(answer) => answer,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            };
            answer
                .inspect_err(|error| {
                    self.failed.inc();
                    tracing::warn!(port = target.port, path = target.path.as_str(), %error, "the application's metrics are missing");
                })
                .ok()
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn ask(&self, target: &Target, asked: &HeaderMap) -> io::Result<Answer> {
        let stream = match TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await {
            Ok(stream) => stream,
            // It may listen on the pod's address alone.
            Err(_) => connect(SocketAddr::new(self.pod_address, target.port)).await?,
        };
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = target.path.clone().into();
        let headers = request.headers_mut();
        for name in [ACCEPT, USER_AGENT, SCRAPE_TIMEOUT] {
            if let Some(value) = asked.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            HOST,
            HeaderValue::try_from(format!("localhost:{}", target.port)).map_err(io::Error::other)?,
        );
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            if response.status() != StatusCode::OK {
                return Err(io::Error::other(format!("answered {}", response.status())));
            }
            let content_type = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            let body = Limited::new(response.into_body(), MOST_BYTES)
                .collect()
                .await
                .map_err(io::Error::other)?;
            let text = String::from_utf8(body.to_bytes().into()).map_err(io::Error::other)?;
            Ok(Answer { text, content_type })
        };
        // The connection is driven here and not in a task, so that it ends with the time.
        tokio::select! {
            answer = answer => answer,
            () = async { let _ = connection.await; std::future::pending::<()>().await } => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Connects to the pod's own address from the source that the redirect rules let pass.
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let (socket, source): (_, IpAddr) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::new(127, 0, 0, 6).into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, "::6".parse().map_err(io::Error::other)?),
    };
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_understood_as_istios() {
        let one = |port, path: &'static str| {
            Targets(vec![Target {
                port,
                path: PathAndQuery::from_static(path),
            }])
        };
        for (text, expected) in [
            ("", Targets::default()),
            (r#"{"scrape":"false","path":"","port":"9090"}"#, Targets::default()),
            (
                r#"{"scrape":"true","path":"/m?x=1","port":"9090"}"#,
                one(9090, "/m?x=1"),
            ),
            (r#"{"scrape":"","path":"","port":""}"#, one(80, "/metrics")),
            (
                r#"{"scrape":"true","path":"/a","port":"1","targets":[{"port":"2","path":"/b"}]}"#,
                one(2, "/b"),
            ),
        ] {
            assert_eq!(Targets::parse(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("{", "EOF while parsing"),
            (r#"{"port":"x"}"#, "port \"x\""),
            (r#"{"port":"15020"}"#, "port \"15020\""),
            (r#"{"path":"metrics"}"#, "path \"metrics\""),
        ] {
            let error = Targets::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
