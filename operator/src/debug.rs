//! What a replica shows to whoever may forward a port of its pod: the proxies that it serves, what each was sent and has
//! acknowledged, what was refused (`/debug/syncz`), and what sidecars reported, where it holds the lease (`/debug/reportz`).
//!
//! It listens on loopback (127.0.0.1:15013). It names every workload of the mesh, so other pods must not reach it; the right to
//! `pods/portforward` in the control plane's namespace is the right to read it. Nothing can be changed through it.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mesh_wire::admin::{PAGE_ENTRIES, Recorded, ReportedRow, Reportz, Syncz};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::discovery::streams::Streams;
use crate::kubernetes::leader::Leadership;
use crate::reports::ledger::Ledger;
use crate::reports::service::label;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Debug {
    /// This replica's pod.
    pub replica: String,
    /// Whether it holds the lease.
    pub leadership: Leadership,
    /// The streams that it serves.
    pub streams: Streams,
    /// What sidecars reported, where it holds the lease.
    pub ledger: Ledger,
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
    let router = Router::new()
        .route("/debug/syncz", get(syncz))
        .route("/debug/reportz", get(reportz))
        .with_state(debug);
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

/// Which rows.
#[derive(Debug, Default, Deserialize)]
struct OfNamespace {
    namespace: Option<String>,
    limit: Option<usize>,
}

async fn syncz(State(debug): State<Debug>, headers: HeaderMap, Query(asked): Query<Page>) -> Response {
    if let Some(refused) = foreign(&headers) {
        return refused;
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

/// What was reported in the last hour: the first rows, most frequent first, and the last records.
async fn reportz(State(debug): State<Debug>, headers: HeaderMap, Query(asked): Query<OfNamespace>) -> Response {
    if let Some(refused) = foreign(&headers) {
        return refused;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let namespace = asked.namespace.as_deref();
    let rows = debug.ledger.of_namespace(now, namespace);
    let total = rows.len();
    let rows = rows
        .into_iter()
        .take(asked.limit.unwrap_or(PAGE_ENTRIES).min(PAGE_ENTRIES));
    let rows = rows.map(|row| ReportedRow {
        kind: label(row.kind).to_owned(),
        policy: row.policy.to_string(),
        set: row.set.to_string(),
        source: row.source.to_string(),
        namespace: row.destination.0.to_string(),
        workload: row.destination.1.to_string(),
        port: row.port,
        count: row.count,
        last: row.last,
    });
    let records = debug.ledger.records(namespace).into_iter().map(|recorded| Recorded {
        namespace: recorded.pod.0.to_string(),
        pod: recorded.pod.1.to_string(),
        denial: (*recorded.denial).clone(),
    });
    let size = debug.ledger.size();
    Json(Reportz {
        leader: debug.leadership.held(),
        rows: rows.collect(),
        total,
        sidecars: size.reporters,
        dropped: size.dropped,
        records: records.collect(),
        replica: debug.replica,
    })
    .into_response()
}

/// A browser that was led here by a name of somebody else's says so, and is sent away.
fn foreign(headers: &HeaderMap) -> Option<Response> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let refused = (StatusCode::FORBIDDEN, "Host must be localhost or a loopback address\n");
    (!host.is_some_and(by_loopback)).then(|| refused.into_response())
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
            ledger: Ledger::default(),
        };
        tokio::spawn(serve(listener, debug, std::future::pending()));
        let ask = async |page: &str, host: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask("/debug/syncz?limit=10", "localhost:15013").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let page: Syncz = serde_json::from_str(body).unwrap();
        assert_eq!(
            (page.replica.as_str(), page.leader, page.total),
            ("operator-1", false, 0)
        );
        assert_eq!(page.rejections[0].reason, "bad");
        let reportz = ask("/debug/reportz?namespace=shop", "localhost:15013").await;
        let (_, body) = reportz.split_once("\r\n\r\n").unwrap();
        let page: Reportz = serde_json::from_str(body).unwrap();
        assert_eq!((page.replica.as_str(), page.total), ("operator-1", 0));
        assert!(
            ask("/debug/reportz", "rebound.example")
                .await
                .starts_with("HTTP/1.1 403")
        );
        for host in ["[::1]:15013", "127.0.0.1"] {
            assert!(ask("/debug/syncz", host).await.starts_with("HTTP/1.1 200"), "{host}");
        }
        assert!(ask("/debug/syncz", "rebound.example").await.starts_with("HTTP/1.1 403"));
    }
}
