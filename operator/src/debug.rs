//! What a replica shows to whoever may forward a port of its pod: the proxies that it serves, what each was sent and has
//! acknowledged, and what was refused.
//!
//! It listens on loopback (127.0.0.1:15013). It names every workload of the mesh, so other pods must not reach it; the right to
//! `pods/portforward` in the control plane's namespace is the right to read it. Nothing can be changed through it.

use std::net::SocketAddr;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mesh_wire::admin::{PAGE_ENTRIES, Syncz};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::discovery::streams::Streams;
use crate::kubernetes::leader::Leadership;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Debug {
    /// This replica's pod.
    pub replica: String,
    /// Whether it holds the lease.
    pub leadership: Leadership,
    /// The streams that it serves.
    pub streams: Streams,
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    debug: Debug,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new().route("/debug/syncz", get(syncz)).with_state(debug);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

/// Parses the address of the pages, which must be of the loopback interface.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no address and port, such as 127.0.0.1:15013"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{text:?}: only a loopback address is accepted, such as 127.0.0.1:15013, since the pages ask nobody who they are"
        ))
    }
}

async fn syncz(State(debug): State<Debug>, headers: HeaderMap, Query(asked): Query<Page>) -> Response {
    // A browser that was led here by a name of somebody else's says so.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(by_loopback) {
        return (StatusCode::FORBIDDEN, "Host must be localhost or a loopback address\n").into_response();
    }
    let (total, proxies, next) = debug
        .streams
        .page(asked.after.as_deref(), asked.limit.unwrap_or(PAGE_ENTRIES));
    Json(Syncz {
        replica: debug.replica,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leader: debug.leadership.held(),
        proxies,
        total,
        next,
        rejections: debug.streams.rejections(),
    })
    .into_response()
}

fn by_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[test]
    fn only_loopback_is_listened_on() {
        for (text, taken) in [
            ("127.0.0.1:15013", true),
            ("[::1]:15013", true),
            ("0.0.0.0:15013", false),
            ("[::]:15013", false),
            ("10.0.0.1:15013", false),
            ("15013", false),
        ] {
            let parsed = loopback(text);
            assert_eq!(parsed.is_ok(), taken, "{text}: {parsed:?}");
            assert!(parsed.is_ok_and(|_| true) || loopback(text).is_err_and(|error| error.contains("127.0.0.1:15013")));
        }
    }

    #[tokio::test]
    async fn what_is_connected_is_shown_to_a_local_caller() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Streams::default();
        streams.rejected("web-1.shop".into(), "Workload", "bad");
        let debug = Debug {
            replica: "operator-1".into(),
            leadership: Leadership::default(),
            streams,
        };
        tokio::spawn(serve(listener, debug, std::future::pending()));
        let ask = async |host: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /debug/syncz?limit=10 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask("localhost:15013").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let page: Syncz = serde_json::from_str(body).unwrap();
        assert_eq!(
            (page.replica.as_str(), page.leader, page.total),
            ("operator-1", false, 0)
        );
        assert_eq!(page.rejections[0].reason, "bad");
        for host in ["[::1]:15013", "127.0.0.1"] {
            assert!(ask(host).await.starts_with("HTTP/1.1 200"), "{host}");
        }
        assert!(ask("rebound.example").await.starts_with("HTTP/1.1 403"));
    }
}
