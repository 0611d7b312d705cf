//! Connections to a peer of rustls's over loopback. Those that need the kernel's TLS say so where there is none; under
//! `hack/kernel-tls` there is.

use super::counts::{Counts, Outcome};
use super::crypto_info::{Cipher, Version};
use super::*;
use crate::net::stream::Stream;
use prometheus::Registry;
use rustls::crypto::aws_lc_rs::{Ticketer, cipher_suite as suites, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::io::Write as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener as Listener, TcpStream as Tcp};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

#[test]
fn what_is_found_is_what_the_kernel_says() {
    // Where the kernel lists its upper layer protocols, the attempt agrees with the list, but for a module that could still
    // be loaded by who may.
    let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    let found = detect();
    if listed.split_whitespace().any(|name| name == "tls") {
        assert_eq!(found.as_deref(), Ok(&Suite::ALL[..]));
    } else if let Err(reason) = found {
        assert!(reason.contains("module tls"), "{reason}");
    }
}

#[test]
fn what_is_shown_says_why_not() {
    for (setting, name) in [(Setting::Auto, "auto"), (Setting::Off, "off")] {
        let registry = Registry::new();
        let found = report(setting, true, &registry).unwrap();
        let shown = found.shown();
        let in_use = shown.available && setting == Setting::Auto;
        assert_eq!((shown.setting.as_str(), shown.in_use), (name, in_use));
        assert_eq!(found.in_use().is_some(), in_use);
        assert_eq!(shown.available, shown.reason.is_none());
        assert_eq!(shown.available, !shown.cipher_suites.is_empty());
        assert_eq!(in_use, !shown.connections.is_empty());
        let gathered = registry.gather();
        let gauge = gathered
            .iter()
            .find(|family| family.name() == "pinnace_proxy_kernel_tls_available");
        let value = gauge.unwrap().get_metric()[0].get_gauge().get_value();
        assert_eq!(value > 0.0, shown.available);
    }
    for (text, setting) in [("auto", Ok(Setting::Auto)), ("off", Ok(Setting::Off)), ("on", Err(()))] {
        assert_eq!(text.parse(), setting, "{text}");
    }
}

const SIZES: [usize; 7] = [1, 5, 1000, 16_384, 16_385, 100_000, 300_000];

fn rustls_suite(suite: Suite) -> SupportedCipherSuite {
    match (suite.version, suite.cipher) {
        (Version::Tls13, Cipher::Aes128Gcm) => suites::TLS13_AES_128_GCM_SHA256,
        (Version::Tls13, Cipher::Aes256Gcm) => suites::TLS13_AES_256_GCM_SHA384,
        (Version::Tls13, Cipher::Chacha20Poly1305) => suites::TLS13_CHACHA20_POLY1305_SHA256,
        (Version::Tls12, Cipher::Aes128Gcm) => suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        (Version::Tls12, Cipher::Aes256Gcm) => suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        (Version::Tls12, Cipher::Chacha20Poly1305) => suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

/// Configurations of a client and a server that have one cipher suite.
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Configs {
    fn new(suite: Suite) -> Self {
        let mut provider = default_provider();
        provider.cipher_suites = vec![rustls_suite(suite)];
        let provider = Arc::new(provider);
        let versions: &[_] = match suite.version {
            Version::Tls12 => &[&rustls::version::TLS12],
            Version::Tls13 => &[&rustls::version::TLS13],
        };
        let key = rcgen::generate_simple_self_signed(["peer".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = key.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate],
                PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        server.enable_secret_extraction = true;
        server.ticketer = Ticketer::new().unwrap();
        Self {
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }

    /// A connection whose ends are both watched by whom they are given, if by anybody.
    async fn ends(
        &self,
        watches: [Option<&Arc<KernelTls>>; 2],
    ) -> (
        Box<client::TlsStream<Records<Tcp>>>,
        Box<server::TlsStream<Records<Tcp>>>,
    ) {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(Tcp::connect(listener.local_addr().unwrap()), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap().0);
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let [client, server] = watches;
        let near = Records::new(near, client.map(|kernel| kernel.watch(Direction::Outbound)));
        let far = Records::new(far, server.map(|kernel| kernel.watch(Direction::Inbound)));
        let name = ServerName::try_from("peer").unwrap();
        let (client, server) = tokio::join!(
            TlsConnector::from(self.client.clone()).connect(name, near),
            TlsAcceptor::from(self.server.clone()).accept(far),
        );
        (Box::new(client.unwrap()), Box::new(server.unwrap()))
    }

    /// Ours, on one side, and a peer's that rustls carries throughout.
    async fn pair(&self, kernel: &Arc<KernelTls>, side: Direction) -> (Stream, Stream) {
        match side {
            Direction::Outbound => {
                let (client, server) = self.ends([Some(kernel), None]).await;
                (Stream::Client(client), Stream::Server(server))
            }
            Direction::Inbound => {
                let (client, server) = self.ends([None, Some(kernel)]).await;
                (Stream::Server(server), Stream::Client(client))
            }
        }
    }
}

fn kernel_with(suites: &[Suite], resumption: bool) -> Arc<KernelTls> {
    Arc::new(KernelTls {
        suites: suites.to_vec(),
        resumption,
        counts: Counts::new(&Registry::new()).unwrap(),
    })
}

/// The kernel's TLS, or why a test cannot have it.
fn kernel() -> Option<Arc<KernelTls>> {
    match detect() {
        Ok(suites) => Some(kernel_with(&suites, true)),
        Err(reason) => {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = writeln!(io::stderr(), "skipped: {test}: {reason}");
            None
        }
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(31) >> 3).to_le_bytes()[0])
        .collect()
}

/// How many connections this network namespace's kernel ever sent on under TLS.
fn kernel_counts() -> u64 {
    let text = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let mut counts = text.lines().filter_map(|line| {
        let (name, count) = line.split_once(char::is_whitespace)?;
        (name == "TlsTxSw").then(|| count.trim().parse().unwrap())
    });
    counts.next().unwrap_or(0)
}

fn outcome(kernel: &KernelTls, outcome: &str) -> u64 {
    kernel.counts.shown()[0][outcome]
}

fn broken_off(kernel: &KernelTls, reason: &str) -> u64 {
    kernel.counts.shown()[1][reason]
}

/// Sends bytes one way while the other end reads them.
async fn send(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), length: usize) {
    let sent = bytes(length);
    let mut received = vec![0; length];
    let (written, read) = tokio::join!(
        async {
            from.write_all(&sent).await?;
            from.flush().await
        },
        to.read_exact(&mut received)
    );
    written.unwrap();
    read.unwrap();
    assert!(sent == received, "{length} bytes");
}

/// Data of all sizes both ways; then one side ends, and the other still speaks.
async fn talk(ours: &mut Stream, theirs: &mut Stream, ours_ends_first: bool) {
    for size in SIZES {
        send(ours, theirs, size).await;
        send(theirs, ours, size).await;
    }
    let (first, last) = match ours_ends_first {
        true => (ours, theirs),
        false => (theirs, ours),
    };
    first.shutdown().await.unwrap();
    assert_eq!(last.read(&mut [0; 16]).await.unwrap(), 0);
    send(last, first, 50_000).await;
    last.shutdown().await.unwrap();
    assert_eq!(first.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_the_kernel_does_not_take_goes_on() {
    // Without any cipher suite in common; and where the kernel does not take a socket at all, which this one does or not.
    for (suites, expected) in [
        (&[][..], "cipher_suite"),
        (&Suite::ALL[..], if detect().is_ok() { "kernel" } else { "refused" }),
    ] {
        for side in [Direction::Inbound, Direction::Outbound] {
            let kernel = kernel_with(suites, true);
            let (mut ours, mut theirs) = Configs::new(Suite::ALL[0]).pair(&kernel, side).await;
            talk(&mut ours, &mut theirs, true).await;
            assert_eq!(outcome(&kernel, expected), 1, "{side:?} {:?}", kernel.counts.shown());
            assert_eq!(matches!(ours, Stream::Kernel(_)), expected == "kernel");
        }
    }
}

#[tokio::test]
async fn what_is_closing_is_left_to_rustls() {
    let kernel = kernel_with(&Suite::ALL, true);
    let (mut ours, mut theirs) = Configs::new(Suite::ALL[0]).pair(&kernel, Direction::Inbound).await;
    theirs.write_all(b"all there is").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut all = Vec::new();
    ours.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"all there is");
    ours.shutdown().await.unwrap();
    // Where there is no kernel's TLS at all, it says that first.
    let expected = if detect().is_ok() {
        Outcome::Closing
    } else {
        Outcome::Refused
    };
    assert_eq!(outcome(&kernel, expected.as_str()), 1, "{:?}", kernel.counts.shown());
    assert!(matches!(ours, Stream::Server(_)));
}

#[tokio::test]
async fn every_cipher_suite_passes_both_ways() {
    let Some(kernel) = kernel() else { return };
    for suite in Suite::ALL {
        let configs = Configs::new(suite);
        for side in [Direction::Inbound, Direction::Outbound] {
            for ours_ends_first in [true, false] {
                let before = (outcome(&kernel, "kernel"), kernel_counts());
                let (mut ours, mut theirs) = configs.pair(&kernel, side).await;
                talk(&mut ours, &mut theirs, ours_ends_first).await;
                assert!(matches!(ours, Stream::Kernel(_)), "{} {side:?}", suite.name());
                assert_eq!(outcome(&kernel, "kernel"), before.0 + 1);
                assert!(kernel_counts() > before.1, "{} {side:?}", suite.name());
            }
        }
    }
}

#[tokio::test]
async fn both_ends_may_be_the_kernels() {
    let Some(kernel) = kernel() else { return };
    let (client, server) = Configs::new(Suite::ALL[1]).ends([Some(&kernel), Some(&kernel)]).await;
    let (mut client, mut server) = (Stream::Client(client), Stream::Server(server));
    talk(&mut client, &mut server, true).await;
    assert!(matches!((client, server), (Stream::Kernel(_), Stream::Kernel(_))));
}

#[tokio::test]
async fn what_came_before_is_not_lost() {
    let Some(kernel) = kernel() else { return };
    for length in [10, 20_000, 400_000] {
        for side in [Direction::Inbound, Direction::Outbound] {
            let (mut ours, mut theirs) = Configs::new(Suite::ALL[0]).pair(&kernel, side).await;
            let sent = bytes(length);
            let writer = tokio::spawn(async move {
                theirs.write_all(&sent).await.unwrap();
                theirs.flush().await.unwrap();
                theirs
            });
            // Until the network holds as much of it as it can.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut received = vec![0; length];
            ours.read_exact(&mut received).await.unwrap();
            assert!(received == bytes(length));
            let mut theirs = writer.await.unwrap();
            talk(&mut ours, &mut theirs, false).await;
            assert!(matches!(ours, Stream::Kernel(_)), "{length} {side:?}");
        }
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let Some(kernel) = kernel() else { return };
    for suite in [Suite::ALL[0], Suite::ALL[3]] {
        for side in [Direction::Inbound, Direction::Outbound] {
            let configs = Configs::new(suite);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let (mut ours, mut theirs) = configs.pair(&kernel, side).await;
                let found = match (&ours, &theirs) {
                    (Stream::Server(server), _) | (_, Stream::Server(server)) => server.get_ref().1.handshake_kind(),
                    _ => None,
                };
                assert_eq!(found, Some(kind), "{} {side:?}", suite.name());
                talk(&mut ours, &mut theirs, true).await;
                assert!(matches!(ours, Stream::Kernel(_)), "{} {side:?}", suite.name());
            }
        }
    }
}

/// Lets the kernel have our side.
async fn handed_over(kernel: &Arc<KernelTls>, side: Direction) -> (Stream, Stream) {
    let (mut ours, mut theirs) = Configs::new(Suite::ALL[1]).pair(kernel, side).await;
    send(&mut theirs, &mut ours, 100).await;
    send(&mut ours, &mut theirs, 100).await;
    assert!(matches!(ours, Stream::Kernel(_)));
    (ours, theirs)
}

#[tokio::test]
async fn new_keys_end_a_connection() {
    let Some(kernel) = kernel() else { return };
    let (mut ours, mut theirs) = handed_over(&kernel, Direction::Inbound).await;
    match &mut theirs {
        Stream::Client(client) => client.get_mut().1.refresh_traffic_keys().unwrap(),
        _ => unreachable!(),
    }
    theirs.write_all(b"under new keys").await.unwrap();
    let error = ours.read(&mut [0; 16]).await.unwrap_err();
    assert!(error.to_string().contains("KeyUpdate"), "{error}");
    assert_eq!(broken_off(&kernel, "key_update"), 1);
}

#[tokio::test]
async fn a_spent_key_ends_a_connection() {
    let Some(kernel) = kernel() else { return };
    let (mut ours, mut theirs) = handed_over(&kernel, Direction::Outbound).await;
    if let Stream::Kernel(kernel) = &mut ours {
        kernel.spend_key();
    }
    assert!(ours.write_all(b"one more").await.is_err());
    assert_eq!(broken_off(&kernel, "key_limit"), 1);
    send(&mut theirs, &mut ours, 100).await;
}

#[tokio::test]
async fn an_end_without_a_word_is_no_end() {
    let Some(kernel) = kernel() else { return };
    let (mut ours, theirs) = handed_over(&kernel, Direction::Outbound).await;
    drop(theirs);
    let error = ours.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
}

#[tokio::test]
async fn a_damaged_record_ends_a_connection() {
    let Some(kernel) = kernel() else { return };
    let (mut ours, theirs) = handed_over(&kernel, Direction::Inbound).await;
    let Stream::Client(theirs) = theirs else { unreachable!() };
    let (socket, _) = theirs.into_inner();
    let mut record = vec![23, 3, 3, 0, 40];
    record.resize(45, 7);
    socket.into_inner().write_all(&record).await.unwrap();
    assert!(ours.read(&mut [0; 16]).await.is_err());
    assert_eq!(broken_off(&kernel, "undecipherable"), 1);
}

#[tokio::test]
async fn what_was_written_arrives_before_the_end() {
    let Some(kernel) = kernel() else { return };
    for side in [Direction::Inbound, Direction::Outbound] {
        let (mut ours, mut theirs) = handed_over(&kernel, side).await;
        // So little room that TCP is full when the end is written.
        if let Stream::Kernel(kernel) = &ours {
            socket2::SockRef::from(kernel.get_ref())
                .set_send_buffer_size(4096)
                .unwrap();
        }
        let length = 6_000_000;
        let writer = tokio::spawn(async move {
            ours.write_all(&bytes(length)).await.unwrap();
            ours.shutdown().await.unwrap();
            ours
        });
        let mut received = Vec::new();
        let mut piece = vec![0; 100_000];
        loop {
            // A reader that is slower than the writer.
            tokio::time::sleep(Duration::from_millis(2)).await;
            match theirs.read(&mut piece).await.unwrap() {
                0 => break,
                n => received.extend_from_slice(&piece[..n]),
            }
        }
        assert_eq!(received.len(), length, "{side:?}");
        assert!(received == bytes(length));
        writer.await.unwrap();
    }
}
