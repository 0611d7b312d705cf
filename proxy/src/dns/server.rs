//! The server: UDP and TCP on the loopback addresses that the redirect rules lead to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answers::Answers;
use super::upstream::Upstream;
use super::{PORT, ResolvConf};
use crate::discovery::Mesh;

/// Questions by UDP that are being answered at once; more are dropped, and asked again.
const MOST_DATAGRAMS: usize = 1024;

/// Bytes of the longest question by UDP.
const DATAGRAM: usize = 4096;

/// Connections that are open at once; more are closed.
const MOST_CONNECTIONS: usize = 256;

/// How long a connection may be without a question, and may take to give one or take an answer.
const IDLE: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Questions, by `outcome` (mesh, cached, forwarded, failed, refused, malformed, looped).
    pub(super) queries: IntCounterVec,
}

impl Counters {
    /// Makes and registers them.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "DNS questions of the pod, by how they were answered.";
        let queries = IntCounterVec::new(Opts::new("pinnace_proxy_dns_queries_total", help), &["outcome"])?;
        registry.register(Box::new(queries.clone()))?;
        Ok(Self { queries })
    }
}

/// The server, bound.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    answers: Arc<Answers>,
}

impl Server {
    /// Binds [`PORT`] of 127.0.0.1 and, where there is IPv6, of ::1.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(mesh: Mesh, conf: &ResolvConf, counters: Counters) -> io::Result<Self> {
        let mut sockets = vec![bind(Ipv4Addr::LOCALHOST.into()).await?];
        match bind(Ipv6Addr::LOCALHOST.into()).await {
            Ok(both) => sockets.push(both),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
            Err(error) => return Err(error),
        }
        let upstream = Upstream::new(&conf.servers);
        Ok(Self {
            sockets,
            answers: Arc::new(Answers::new(mesh, &conf.search, upstream, counters)),
        })
    }

    /// Answers until dropped.
    pub async fn run(self) {
        let datagrams = Arc::new(Semaphore::new(MOST_DATAGRAMS));
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let serving = self.sockets.into_iter().map(|(udp, tcp)| {
            let (answers, datagrams, connections) = (self.answers.clone(), datagrams.clone(), connections.clone());
            async move {
                tokio::join!(
                    by_udp(Arc::new(udp), answers.clone(), datagrams),
                    by_tcp(tcp, answers, connections),
                )
            }
        });
        futures::future::join_all(serving).await;
    }
}

async fn bind(address: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((
        UdpSocket::bind((address, PORT)).await?,
        TcpListener::bind((address, PORT)).await?,
    ))
}

async fn by_udp(socket: Arc<UdpSocket>, answers: Arc<Answers>, places: Arc<Semaphore>) {
    let mut bytes = vec![0; DATAGRAM];
    loop {
        let (length, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                // That an earlier answer found nobody is no reason to wait.
                if error.kind() != io::ErrorKind::ConnectionRefused {
                    tracing::warn!(%error, "cannot receive DNS questions");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let asked = bytes.get(..length).unwrap_or_default().to_vec();
        tokio::spawn(answer_datagram(socket.clone(), answers.clone(), asked, from, place));
    }
}

async fn answer_datagram(
    socket: Arc<UdpSocket>,
    answers: Arc<Answers>,
    asked: Vec<u8>,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let Some((question, answer)) = answers.to(&asked, Some(from.port())).await else {
        return;
    };
    let answer = match question {
        Some(question) => question.fit(answer),
        None => answer,
    };
    // A client that has gone needs no answer.
    let _ = socket.send_to(&answer, from).await;
}

async fn by_tcp(listener: TcpListener, answers: Arc<Answers>, places: Arc<Semaphore>) {
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept DNS connections");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let _place = place;
            // It ends when the client wants no more, or is too slow.
            let _ = answer_connection(stream, &answers).await;
        });
    }
}

async fn answer_connection(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let reading = async {
            let mut asked = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut asked).await?;
            io::Result::Ok(asked)
        };
        let asked = timeout(IDLE, reading).await??;
        let Some((_, answer)) = answers.to(&asked, None).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), &answer[..]].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
