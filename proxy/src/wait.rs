//! `proxy wait`: returns once a URL answers 200. It is the postStart hook of a classic sidecar, which holds the
//! application back until its proxy is ready.

use std::time::Duration;

use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two questions, as Istio's agent waits.
const PERIOD: Duration = Duration::from_millis(500);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where to ask, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The URL to ask; plain HTTP to an IP address or localhost.
    #[arg(long, default_value = "http://127.0.0.1:15021/healthz/ready", value_parser = url)]
    pub url: Uri,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
}

fn url(text: &str) -> Result<Uri, String> {
    let refuse = |reason: &str| format!("`{text}` {reason}; accepted is http://ADDRESS[:PORT]/PATH");
    let uri: Uri = text.parse().map_err(|_| refuse("is no URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(refuse("is not plain HTTP"));
    }
    if address(&uri).is_none() {
        return Err(refuse("names a host that is no IP address"));
    }
    Ok(uri)
}

/// There is no resolver to ask in a pod whose traffic is not carried yet.
fn address(uri: &Uri) -> Option<(std::net::IpAddr, u16)> {
    let host = match uri.host()? {
        "localhost" => "127.0.0.1",
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    Some((host.parse().ok()?, uri.port_u16().unwrap_or(80)))
}

/// Asks until the answer is 200.
///
/// # Errors
/// The time is over; the last answer is named.
pub async fn run(flags: &Flags) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(flags.timeout);
    loop {
        let last = match timeout(PATIENCE, ask(&flags.url)).await {
            Ok(Ok(StatusCode::OK)) => return Ok(()),
            Ok(Ok(status)) => format!("it answered {status}"),
            Ok(Err(e)) => format!("{e:#}"),
            Err(_) => "it did not answer in time".to_owned(),
        };
        if Instant::now() + PERIOD > deadline {
            anyhow::bail!("{} was not ready within {} s: {last}", flags.url, flags.timeout);
        }
        sleep(PERIOD).await;
    }
}

async fn ask(url: &Uri) -> anyhow::Result<StatusCode> {
    let address = address(url).ok_or_else(|| anyhow::anyhow!("{url} names no address"))?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let authority = url.authority().map_or("", |a| a.as_str());
    let request = Request::get(path)
        .header(http::header::HOST, authority)
        .body(Empty::<bytes::Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    connection.abort();
    Ok(status)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn returns_when_the_answer_turns_200() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/healthz/ready", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(read > 0);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        run(&Flags {
            url: super::url(&url).unwrap(),
            timeout: 10,
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn gives_up_with_the_reason() {
        let error = run(&Flags {
            url: url("http://127.0.0.1:1/").unwrap(),
            timeout: 0,
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("not ready within 0 s"), "{error}");
    }

    #[test]
    fn urls() {
        assert!(url("http://localhost:15021/healthz/ready").is_ok());
        assert!(url("http://[::1]:15021/").is_ok());
        for refused in ["https://127.0.0.1/", "http://example.com/", "nonsense", ""] {
            assert!(url(refused).unwrap_err().contains("accepted"), "{refused}");
        }
    }
}
