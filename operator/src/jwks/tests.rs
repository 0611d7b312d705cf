//! Fetching from real servers on loopback, over HTTP and HTTPS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_core::authorization::matches::AddressRange;
use mesh_core::jwt::{KeyOrigin, KeyPlace};
use mesh_wire::request_authentication::Jwks;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::client::is_refused;
use super::names::Names;
use super::*;
use crate::metrics::Metrics;

const IN_TIME: Duration = Duration::from_secs(20);

pub(crate) const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
pub(crate) const OTHER_JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A server of one answer per path; it counts what it is asked.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) asked: Arc<AtomicUsize>,
}

type Answer = Arc<dyn Fn(&str) -> String + Send + Sync>;

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn found(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
}

pub(crate) async fn serve(
    on: Ipv4Addr,
    tls: Option<TlsAcceptor>,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind((on, 0)).await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answer): (_, Answer) = (asked.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                match tls {
                    Some(tls) => {
                        // A client that does not trust the certificate goes.
                        if let Ok(stream) = tls.accept(stream).await {
                            respond(stream, answer).await;
                        }
                    }
                    None => respond(stream, answer).await,
                }
            });
        }
    });
    Server { address, asked }
}

async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    // The client may have seen enough.
    let _ = stream.write_all(answer(path).as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A root, PEM, and the side of a server at 127.0.0.1 whose certificate it signed.
fn certified() -> (String, TlsAcceptor) {
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(root, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &root).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    (root.pem(), TlsAcceptor::from(Arc::new(config)))
}

pub(crate) fn client(blocked: &[&str], roots: Option<std::path::PathBuf>) -> Client {
    let blocked = blocked
        .iter()
        .map(|range| AddressRange::parse(range).unwrap())
        .collect();
    let names = Names::new("cluster.local").unwrap();
    Client::new(
        Arc::new(Guard::only(blocked)),
        names,
        Arc::new(default_provider()),
        roots,
    )
}

fn uri(address: &str) -> KeyOrigin {
    KeyOrigin {
        namespace: "shop".into(),
        place: KeyPlace::Uri(address.into()),
    }
}

fn issuer(address: &str) -> KeyOrigin {
    KeyOrigin {
        namespace: "shop".into(),
        place: KeyPlace::Issuer(address.into()),
    }
}

#[tokio::test]
async fn keys_are_discovered_over_tls_with_a_private_root() {
    let (pem, tls) = certified();
    let server = serve(Ipv4Addr::LOCALHOST, Some(tls), |path| match path {
        "/realm/.well-known/openid-configuration" => ok("{\"issuer\": \"x\"}"),
        "/good/.well-known/openid-configuration" => found("/good/configuration"),
        _ => ok(JWKS),
    })
    .await;
    let directory = std::env::temp_dir().join(format!("pinnace-jwks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("extra.pem");
    std::fs::write(&path, pem).unwrap();
    let keys = uri(&format!("{}/keys", server.address));
    assert_eq!(
        &*client(&[], Some(path.clone())).fetch(&keys, IN_TIME).await.unwrap(),
        JWKS
    );
    let untrusted = client(&[], None).fetch(&keys, IN_TIME).await.unwrap_err();
    assert!(format!("{untrusted:#}").contains("TLS"), "{untrusted:#}");
    let no_keys = client(&[], Some(path.clone()))
        .fetch(&issuer(&format!("{}/realm/", server.address)), IN_TIME)
        .await;
    assert!(format!("{:#}", no_keys.unwrap_err()).contains("no text \"jwks_uri\""));
    // The other realm's configuration is a key set, which has no jwks_uri either; the redirect was followed.
    let redirected = client(&[], Some(path))
        .fetch(&issuer(&format!("{}/good", server.address)), IN_TIME)
        .await;
    assert!(format!("{:#}", redirected.unwrap_err()).contains("no text \"jwks_uri\""));
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn an_issuer_names_its_keys() {
    let keys = serve(Ipv4Addr::LOCALHOST, None, |_| ok(JWKS)).await;
    let jwks_uri = format!("{{\"jwks_uri\": \"{}/certs\"}}", keys.address);
    let provider = serve(Ipv4Addr::LOCALHOST, None, move |path| match path {
        "/auth/.well-known/openid-configuration" => ok(&jwks_uri),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    })
    .await;
    for suffix in ["/auth", "/auth/"] {
        let origin = issuer(&format!("{}{suffix}", provider.address));
        assert_eq!(&*client(&[], None).fetch(&origin, IN_TIME).await.unwrap(), JWKS);
    }
    let absent = client(&[], None)
        .fetch(&issuer(&provider.address), IN_TIME)
        .await
        .unwrap_err();
    assert!(format!("{absent:#}").contains("status 404"), "{absent:#}");
}

#[tokio::test]
async fn refused_addresses_are_not_dialled_whoever_names_them() {
    let refused: Ipv4Addr = "127.0.0.2".parse().unwrap();
    let forbidden = serve(refused, None, |_| ok(JWKS)).await;
    let there = format!("{}/keys", forbidden.address);
    let (redirects, discovered) = (there.clone(), there.clone());
    let server = serve(Ipv4Addr::LOCALHOST, None, move |path| match path {
        "/redirect" => found(&redirects),
        "/twice" => found("/redirect"),
        _ => ok(&format!("{{\"jwks_uri\": \"{discovered}\"}}")),
    })
    .await;
    let port = forbidden.address.rsplit(':').next().unwrap();
    for origin in [
        uri(&there),
        uri(&format!("http://[::ffff:127.0.0.2]:{port}/keys")),
        uri(&format!("{}/redirect", server.address)),
        uri(&format!("{}/twice", server.address)),
        issuer(&server.address),
    ] {
        let error = client(&["127.0.0.2/32"], None)
            .fetch(&origin, IN_TIME)
            .await
            .unwrap_err();
        assert!(is_refused(&error), "{origin}: {error:#}");
    }
    assert_eq!(forbidden.asked.load(Ordering::SeqCst), 0);
    // Production's guard refuses all of loopback.
    let guard = Guard::new(Vec::new());
    guard.protect([IpAddr::from([10, 0, 0, 1])].into());
    assert!(guard.check(refused.into()).is_err());
}

#[tokio::test]
async fn answers_are_bounded_and_must_be_keys() {
    let long = ok(&format!("{{\"keys\": \"{}\"}}", "x".repeat(300 * 1024)));
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("ffff\r\n{}\r\n", "x".repeat(0xffff)).repeat(8)
    );
    let server = serve(Ipv4Addr::LOCALHOST, None, move |path| match path {
        "/long" => long.clone(),
        "/endless" => endless.clone(),
        "/loop" => found("/loop"),
        "/error" => "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/symmetric" => ok("{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}"),
        "/elsewhere" => found("ftp://x/y"),
        _ => ok("<html>"),
    })
    .await;
    for (path, expected) in [
        ("/long", "longer than 262144 bytes"),
        ("/endless", "longer than 262144 bytes"),
        ("/loop", "more than 3 redirects"),
        ("/error", "status 500"),
        ("/symmetric", "no key that verifies"),
        ("/elsewhere", "not an http or https address"),
        ("/html", "not a JSON object"),
    ] {
        let error = client(&[], None)
            .fetch(&uri(&format!("{}{path}", server.address)), IN_TIME)
            .await
            .unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{path}: {error:#}");
    }
    for (address, expected) in [
        ("ftp://127.0.0.1/x", "not an http or https address"),
        ("http://user:secret@127.0.0.1/x", "credentials"),
        ("/x", "not an http or https address"),
    ] {
        let error = client(&[], None).fetch(&uri(address), IN_TIME).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{address}: {error:#}");
    }
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}/", silent.local_addr().unwrap());
    let error = client(&[], None)
        .fetch(&uri(&address), Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("no answer within 50ms"), "{error:#}");
}

/// A provider that has other keys at the next stage, and then is down.
async fn changing() -> (Server, Arc<AtomicUsize>) {
    let stage = Arc::new(AtomicUsize::new(0));
    let now = stage.clone();
    let server = serve(Ipv4Addr::LOCALHOST, None, move |_| match now.load(Ordering::SeqCst) {
        0 => ok(JWKS),
        1 => ok(OTHER_JWKS),
        _ => "HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n".to_owned(),
    });
    (server.await, stage)
}

#[tokio::test]
async fn the_last_good_keys_stay_for_a_bounded_time() {
    let (server, stage) = changing().await;
    let origin = uri(&format!("{}/keys", server.address));
    let (say, mut said) = mpsc::unbounded_channel();
    let (want, wanted) = watch::channel(Wanted::from([(origin.clone(), IN_TIME)]));
    let metrics = Arc::new(Metrics::new());
    let times = Times {
        refresh: Duration::from_millis(20),
        keep: Duration::from_millis(1500),
        asked: Duration::ZERO,
    };
    let publish = move |origin: &KeyOrigin, state| {
        // The test may have seen enough.
        let _ = say.send((origin.clone(), state));
    };
    let keeping = tokio::spawn(keep(
        Arc::new(client(&[], None)),
        times,
        wanted,
        publish,
        Askings::default(),
        metrics.clone(),
    ));
    let known = |jwks: &str| (origin.clone(), Some(Jwks::Known(jwks.into())));
    assert_eq!(said.recv().await.unwrap(), known(JWKS));
    stage.store(1, Ordering::SeqCst);
    assert_eq!(said.recv().await.unwrap(), known(OTHER_JWKS));
    stage.store(2, Ordering::SeqCst);
    // Nothing is said before they are given up.
    let (_, missing) = said.recv().await.unwrap();
    assert!(
        matches!(&missing, Some(Jwks::Ended(why)) if why.contains("status 503")),
        "{missing:?}"
    );
    assert!(metrics.jwks_fetches.with_label_values(&["failure"]).get() >= 2);
    assert_eq!(metrics.jwks_missing.get(), 1);
    want.send_replace(Wanted::new());
    loop {
        let (_, state) = said.recv().await.unwrap();
        if state.is_none() {
            break;
        }
    }
    drop(want);
    keeping.await.unwrap();
    assert_eq!(metrics.jwks_missing.get(), 0);
}

#[tokio::test]
async fn whoever_asks_gets_keys_of_now_and_an_origin_keeps_its_distance() {
    const DISTANCE: Duration = Duration::from_millis(400);
    let (server, stage) = changing().await;
    let origin = uri(&format!("{}/keys", server.address));
    let (say, mut said) = mpsc::unbounded_channel();
    let (_want, wanted) = watch::channel(Wanted::from([(origin.clone(), IN_TIME)]));
    let times = Times {
        refresh: Duration::from_secs(3600),
        keep: Duration::from_secs(3600),
        asked: DISTANCE,
    };
    let publish = move |origin: &KeyOrigin, state| {
        let _ = say.send((origin.clone(), state));
    };
    let askings = Askings::default();
    let metrics = Arc::new(Metrics::new());
    tokio::spawn(keep(
        Arc::new(client(&[], None)),
        times,
        wanted,
        publish,
        askings.clone(),
        metrics,
    ));
    assert_eq!(
        said.recv().await.unwrap(),
        (origin.clone(), Some(Jwks::Known(JWKS.into())))
    );
    assert!(!askings.ask(&uri("http://not.named/")).await);
    let ask = |times: usize| {
        let all: Vec<_> = (0..times)
            .map(|_| {
                let (askings, origin) = (askings.clone(), origin.clone());
                tokio::spawn(async move { askings.ask(&origin).await })
            })
            .collect();
        async move {
            let mut answers = Vec::new();
            for one in all {
                answers.push(one.await.unwrap());
            }
            answers
        }
    };
    stage.store(1, Ordering::SeqCst);
    assert_eq!(ask(10).await, [true; 10]);
    assert_eq!(server.asked.load(Ordering::SeqCst), 2, "one fetch for all");
    // They are published before whoever asked is told.
    assert_eq!(
        said.try_recv().unwrap(),
        (origin.clone(), Some(Jwks::Known(OTHER_JWKS.into())))
    );
    // What has not changed is an answer too, but not a fetch for each.
    let began = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(ask(5).await, [true; 5]);
    }
    assert!(began.elapsed() >= DISTANCE * 3, "{:?}", began.elapsed());
    assert_eq!(server.asked.load(Ordering::SeqCst), 5);
    assert!(said.try_recv().is_err());
    stage.store(2, Ordering::SeqCst);
    assert_eq!(ask(2).await, [false; 2]);
    assert!(said.try_recv().is_err(), "the last good keys stay");
}
