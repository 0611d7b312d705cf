//! The pod's own resolvers, asked one after the other: by UDP from a port of the kernel's choice under an id of ours, by TCP
//! where the answer does not fit.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::message::{Question, code, is_truncated};

/// The port of resolvers.
const PORT: u16 = 53;

/// How often a resolver is asked at most, over all of them: a datagram may be lost.
const ATTEMPTS: usize = 3;

/// How long resolvers may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// One of them, by UDP.
    by_udp: Duration,
    /// One of them, by TCP.
    by_tcp: Duration,
    /// All of them together: those who ask give up after five seconds (resolv.conf(5), `timeout`).
    altogether: Duration,
}

const PATIENCE: Patience = Patience {
    by_udp: Duration::from_millis(1500),
    by_tcp: Duration::from_secs(3),
    altogether: Duration::from_millis(4800),
};

/// Questions under way at once; more are not asked.
const MOST_UNDER_WAY: usize = 512;

/// Bytes of the longest datagram that a resolver may answer with: more than it is told that it may.
const DATAGRAM: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{RESOLV_CONF} names no resolver", RESOLV_CONF = super::RESOLV_CONF)]
    NoResolver,
    #[error("{MOST_UNDER_WAY} questions are under way")]
    Full,
    #[error("no resolver answered in time")]
    Late,
    #[error("{0}: {1}")]
    Failed(IpAddr, #[source] io::Error),
}

/// The resolvers.
#[derive(Debug)]
pub(super) struct Upstream {
    servers: Vec<SocketAddr>,
    patience: Patience,
    places: Semaphore,
    /// The ports that questions under way are asked from.
    ports: Mutex<HashSet<u16>>,
}

impl Upstream {
    pub(super) fn new(servers: &[IpAddr]) -> Self {
        Self::at(servers.iter().map(|server| SocketAddr::new(*server, PORT)).collect())
    }

    /// Resolvers on ports of their own.
    fn at(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            patience: PATIENCE,
            places: Semaphore::new(MOST_UNDER_WAY),
            ports: Mutex::default(),
        }
    }

    /// Whether a question comes from here: then the rules lead what we ask back to us, and asking again would never end.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.ports().contains(&port)
    }

    /// A resolver's answer, under whatever id. One that says that it failed or will not is given where none says better.
    pub(super) async fn ask(&self, question: &Question) -> Result<Vec<u8>, Failure> {
        let _place = self.places.try_acquire().map_err(|_| Failure::Full)?;
        timeout(self.patience.altogether, self.ask_all(question))
            .await
            .unwrap_or(Err(Failure::Late))
    }

    async fn ask_all(&self, question: &Question) -> Result<Vec<u8>, Failure> {
        let mut last = Err(Failure::NoResolver);
        for server in self.servers.iter().cycle().take(ATTEMPTS.min(self.servers.len() * 2)) {
            match self.ask_one(*server, question).await {
                Ok(answer) => match code(&answer) {
                    Some(ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) => last = Ok(answer),
                    _ => return Ok(answer),
                },
                Err(error) if last.is_err() => {
                    last = Err(match error.kind() {
                        io::ErrorKind::TimedOut => Failure::Late,
                        _ => Failure::Failed(server.ip(), error),
                    });
                }
                Err(_) => {}
            }
        }
        last
    }

    async fn ask_one(&self, server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
        let answer = timeout(self.patience.by_udp, self.by_udp(server, question)).await??;
        if is_truncated(&answer) {
            // Without more by TCP, what came is better than nothing: it still says that there is more.
            return Ok(match timeout(self.patience.by_tcp, by_tcp(server, question)).await {
                Ok(Ok(whole)) => whole,
                _ => answer,
            });
        }
        Ok(answer)
    }

    async fn by_udp(&self, server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
        let any: IpAddr = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        // From now on the kernel takes datagrams from nobody else.
        socket.connect(server).await?;
        let _own = Own::new(self, socket.local_addr()?.port());
        let id = rand::random();
        socket.send(&question.to_resolver(id)).await?;
        let mut answer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut answer).await?;
            let received = answer.get(..length).unwrap_or_default();
            // Whatever is no answer to this was sent by somebody who guesses.
            if question.is_answered_by(id, received) {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    }

    fn ports(&self) -> std::sync::MutexGuard<'_, HashSet<u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port is ours while this lives.
struct Own<'a> {
    upstream: &'a Upstream,
    port: u16,
}

impl<'a> Own<'a> {
    fn new(upstream: &'a Upstream, port: u16) -> Self {
        upstream.ports().insert(port);
        Self { upstream, port }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.upstream.ports().remove(&self.port);
    }
}

async fn by_tcp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    let asked = question.to_resolver(id);
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), &asked[..]].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if question.is_answered_by(id, &answer) {
        Ok(answer)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "another question is answered",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{answering, asking, record};
    use super::*;
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::RecordType;
    use tokio::net::TcpListener;

    fn question() -> Question {
        Question::read(&asking(7, "a.example.", RecordType::A, None)).unwrap()
    }

    /// A resolver that makes each of its answers by `answer`, none where it gives none.
    async fn resolver(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = vec![0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                for answer in answer(&bytes[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        address
    }

    fn good(asked: &[u8]) -> Vec<u8> {
        answering(
            asked,
            ResponseCode::NoError,
            &[record("a.example.", 60, "10.0.0.1")],
            &[],
        )
    }

    fn failing(asked: &[u8]) -> Vec<u8> {
        answering(asked, ResponseCode::ServFail, &[], &[])
    }

    fn addresses(answer: &[u8]) -> usize {
        Message::from_vec(answer).unwrap().answers.len()
    }

    #[tokio::test]
    async fn the_next_resolver_is_asked_where_one_fails_or_is_not_there() {
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let fails = resolver(|asked| vec![failing(asked)]).await;
        let knows = resolver(|asked| vec![good(asked)]).await;
        for servers in [vec![nobody, knows], vec![fails, knows], vec![nobody, fails, knows]] {
            let upstream = Upstream::at(servers);
            assert_eq!(addresses(&upstream.ask(&question()).await.unwrap()), 1);
        }
        let answer = Upstream::at(vec![nobody, fails]).ask(&question()).await.unwrap();
        assert_eq!(code(&answer), Some(ResponseCode::ServFail));
        assert!(matches!(
            Upstream::at(vec![nobody]).ask(&question()).await,
            Err(Failure::Failed(..))
        ));
        assert!(matches!(
            Upstream::at(vec![]).ask(&question()).await,
            Err(Failure::NoResolver)
        ));
    }

    #[tokio::test]
    async fn who_guesses_is_not_heard() {
        let server = resolver(|asked| {
            let mut wrong_id = good(asked);
            wrong_id[1] ^= 1;
            let mut wrong_name = good(asked);
            wrong_name[13] ^= 1;
            vec![wrong_id, wrong_name, b"nonsense".to_vec(), asked.to_vec(), good(asked)]
        })
        .await;
        let answer = Upstream::at(vec![server]).ask(&question()).await.unwrap();
        assert_eq!(addresses(&answer), 1);
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_short_is_fetched_by_tcp() {
        let server = resolver(|asked| {
            let mut cut = answering(asked, ResponseCode::NoError, &[], &[]);
            cut[2] |= 0x02;
            vec![cut]
        })
        .await;
        // Without a server for TCP, what came by UDP.
        assert!(is_truncated(
            &Upstream::at(vec![server]).ask(&question()).await.unwrap()
        ));
        let listener = TcpListener::bind(server).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut asked).await.unwrap();
            let answer = good(&asked);
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        let answer = Upstream::at(vec![server]).ask(&question()).await.unwrap();
        assert_eq!(addresses(&answer), 1);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_and_only_so_many_wait_at_once() {
        let silent = resolver(|_| Vec::new()).await;
        let mut upstream = Upstream::at(vec![silent]);
        upstream.patience = Patience {
            by_udp: Duration::from_millis(200),
            altogether: Duration::from_millis(300),
            ..PATIENCE
        };
        let question = question();
        let asking: Vec<_> = (0..MOST_UNDER_WAY).map(|_| upstream.ask(&question)).collect();
        let all = futures::future::join_all(asking);
        tokio::pin!(all);
        assert!(futures::poll!(&mut all).is_pending());
        assert!(matches!(upstream.ask(&question).await, Err(Failure::Full)));
        for answer in all.await {
            assert!(matches!(answer, Err(Failure::Late)));
        }
        assert!(upstream.ports().is_empty());
    }
}
