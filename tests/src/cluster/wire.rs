//! What passes between pods, as the node sees it: tcpdump on every interface of the local cluster's node, and the TCP
//! streams put together again from what it wrote.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A stream is kept up to this length, in bytes.
const LONGEST: usize = 4 << 20;

/// How long no packet has come when all have.
const QUIET: Duration = Duration::from_millis(1500);

/// A running capture.
pub struct Capture {
    child: Child,
    bytes: JoinHandle<Vec<u8>>,
    /// How many there are by now.
    count: Arc<AtomicUsize>,
}

/// The script that enters the node, if KUBECONFIG is the local cluster's, whose node can be entered.
#[must_use]
pub fn local_node() -> Option<PathBuf> {
    let state = std::env::var("PINNACE_CLUSTER").unwrap_or_else(|_| "/var/lib/pinnace-cluster".to_owned());
    let local = std::env::var("KUBECONFIG").is_ok_and(|path| path == format!("{state}/admin.conf"));
    local.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/cluster"))
}

impl Capture {
    /// Starts on the node with a filter of pcap-filter(7), and returns once packets are taken.
    #[must_use]
    pub fn start(cluster: &Path, filter: &str) -> Self {
        // It ends when its standard input does: a signal would not pass into the node's process namespace.
        let script = "tcpdump -i any -y LINUX_SLL2 -Z root -n -U -s 0 -w - \"$0\" & read -r _; kill $!; wait $!";
        let mut child = Command::new(cluster)
            .args(["enter", "bash", "-c", script, filter])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let bytes = std::thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..n]);
                counted.store(bytes.len(), Ordering::Relaxed);
            }
            bytes
        });
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut said = Vec::new();
        let listening = lines.by_ref().any(|line| {
            let listening = line.contains("listening on");
            said.push(line);
            listening
        });
        assert!(listening, "tcpdump did not start: {}", said.join("\n"));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, bytes, count }
    }

    /// Ends it, and gives what it saw.
    #[must_use]
    pub fn end(mut self) -> Seen {
        // The kernel hands packets on once a second at the latest: it is over when none has come for longer.
        let started = Instant::now();
        let (mut count, mut quiet) = (0, started);
        while quiet.elapsed() < QUIET && started.elapsed() < 5 * QUIET {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.count.load(Ordering::Relaxed);
            if now != count {
                (count, quiet) = (now, Instant::now());
            }
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let raw = self.bytes.join().unwrap();
        let streams = streams(&raw).unwrap_or_else(|| panic!("not a capture that is understood: {} bytes", raw.len()));
        Seen { raw, streams }
    }
}

/// One direction of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// Who sent.
    pub from: SocketAddr,
    /// Who was to receive.
    pub to: SocketAddr,
}

/// What a capture saw.
pub struct Seen {
    raw: Vec<u8>,
    /// The bytes of each direction of the connections whose beginning was seen.
    pub streams: BTreeMap<Direction, Vec<u8>>,
}

impl Seen {
    /// Whether a text is anywhere in it: in a stream, or in a packet of no known one.
    #[must_use]
    pub fn holds(&self, marker: &str) -> bool {
        let within = |bytes: &[u8]| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
        within(&self.raw) || self.streams.values().any(|stream| within(stream))
    }
}

/// Puts the streams of a capture together (pcap-savefile(5)).
fn streams(raw: &[u8]) -> Option<BTreeMap<Direction, Vec<u8>>> {
    let word = |at: usize| Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != 0xa1b2_c3d4 || word(20)? & 0xffff != 276 {
        return None;
    }
    let mut begun = BTreeMap::new();
    let mut streams: BTreeMap<Direction, Vec<u8>> = BTreeMap::new();
    let mut at = 24;
    while let Some(length) = word(at + 8) {
        let length = usize::try_from(length).ok()?;
        let Some(packet) = raw.get(at + 16..at + 16 + length) else {
            break;
        };
        at += 16 + length;
        let Some(segment) = segment(packet) else { continue };
        if segment.begins {
            begun.insert(segment.direction, segment.number.wrapping_add(1));
            continue;
        }
        let Some(first) = begun.get(&segment.direction) else {
            continue;
        };
        let offset = usize::try_from(segment.number.wrapping_sub(*first)).ok()?;
        let end = offset + segment.bytes.len();
        if segment.bytes.is_empty() || end > LONGEST {
            continue;
        }
        let stream = streams.entry(segment.direction).or_default();
        if stream.len() < end {
            stream.resize(end, 0);
        }
        stream[offset..end].copy_from_slice(segment.bytes);
    }
    Some(streams)
}

struct Segment<'a> {
    direction: Direction,
    number: u32,
    begins: bool,
    bytes: &'a [u8],
}

/// The TCP segment in a packet of the link type LINUX_SLL2.
fn segment(packet: &[u8]) -> Option<Segment<'_>> {
    let ip = packet.get(20..)?;
    let (from, to, tcp): (IpAddr, IpAddr, &[u8]) = match packet.get(..2)? {
        [0x08, 0x00] if *ip.get(9)? == 6 => {
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
            let total = usize::from(u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?));
            let header = usize::from(ip.first()? & 15) * 4;
            (address(12)?.into(), address(16)?.into(), ip.get(header..total)?)
        }
        [0x86, 0xdd] if *ip.get(6)? == 6 => {
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
            let payload = usize::from(u16::from_be_bytes(ip.get(4..6)?.try_into().ok()?));
            (address(8)?.into(), address(24)?.into(), ip.get(40..40 + payload)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    Some(Segment {
        direction: Direction {
            from: SocketAddr::new(from, port(0)?),
            to: SocketAddr::new(to, port(2)?),
        },
        number: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
        begins: tcp.get(13)? & 2 != 0,
        bytes: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?,
    })
}

/// Checks that a direction of a connection holds TLS 1.3 records and nothing else (RFC 8446, section 5.1): a hello in the
/// clear, after it only application data and the compatibility's change_cipher_spec. A record that is cut off by the
/// end of the capture is no fault.
///
/// # Errors
/// What is there instead.
pub fn tls13(stream: &[u8]) -> Result<(), String> {
    let mut rest = stream;
    let mut hello = false;
    while let [kind, major, _, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *major != 3 || length > (1 << 14) + 256 {
            return Err(format!("no TLS record: {:02x?}", &rest[..rest.len().min(16)]));
        }
        let body = &tail[..length.min(tail.len())];
        match (kind, hello) {
            (22, false) => {
                match body {
                    [1, ..] => {}
                    [2, _, _, _, rest @ ..] => version(rest)?,
                    _ => return Err(format!("a handshake that begins with {:?}", body.first())),
                }
                hello = true;
            }
            (20 | 23, true) => {}
            _ => return Err(format!("a record of type {kind} in the clear")),
        }
        rest = &tail[body.len()..];
    }
    if hello { Ok(()) } else { Err("no hello".to_owned()) }
}

/// Looks for TLS 1.3 in a `ServerHello`'s supported_versions (RFC 8446, sections 4.1.3 and 4.2.1).
fn version(hello: &[u8]) -> Result<(), String> {
    let session = 35 + usize::from(*hello.get(34).ok_or("a short ServerHello")?);
    let mut extensions = hello.get(session + 5..).ok_or("a ServerHello without extensions")?;
    while let [a, b, high, low, tail @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = tail.get(..length).ok_or("a ServerHello that is cut off")?;
        if [*a, *b] == [0, 43] {
            return if value == [3, 4] {
                Ok(())
            } else {
                Err(format!("version {value:?}"))
            };
        }
        extensions = &tail[length..];
    }
    Err("a ServerHello of TLS 1.2".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet from 10.0.0.1:1000 to 10.0.0.2:2000.
    fn packet(number: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
        let mut tcp = vec![3, 232, 7, 208];
        tcp.extend(number.to_be_bytes());
        tcp.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        tcp.extend(bytes);
        let total = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
        let mut ip = vec![
            0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        ip.extend(tcp);
        let mut packet = vec![8, 0];
        packet.extend([0; 18]);
        packet.extend(ip);
        packet
    }

    #[test]
    fn a_stream_is_put_together_whatever_the_order() {
        let mut raw = Vec::new();
        raw.extend(0xa1b2_c3d4_u32.to_le_bytes());
        raw.extend([0; 16]);
        raw.extend(276_u32.to_le_bytes());
        let first = u32::MAX;
        let packets = [
            packet(first, 2, &[]),
            packet(4, 16, b"ker"),
            packet(0, 16, b"mar-"),
            packet(0, 16, b"mar-"),
        ];
        for packet in packets {
            let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
            raw.extend([0; 8]);
            raw.extend(length);
            raw.extend(length);
            raw.extend(packet);
        }
        let streams = streams(&raw).unwrap();
        let direction = Direction {
            from: "10.0.0.1:1000".parse().unwrap(),
            to: "10.0.0.2:2000".parse().unwrap(),
        };
        assert_eq!(streams, BTreeMap::from([(direction, b"mar-ker".to_vec())]));
        let seen = Seen { raw, streams };
        assert!(seen.holds("mar-ker") && !seen.holds("marker"));
    }

    #[test]
    fn only_tls_13_counts() {
        let server = |version: &[u8]| {
            let mut body = vec![2, 0, 0, 0, 3, 3];
            body.extend([7; 32]);
            body.extend([0, 0x13, 1, 0, 0, 0]);
            body.extend(version);
            let length = u8::try_from(body.len()).unwrap();
            [
                &[22, 3, 3, 0, length][..],
                &body,
                &[20, 3, 3, 0, 1, 1],
                &[23, 3, 3, 0, 2, 9, 9],
            ]
            .concat()
        };
        assert_eq!(tls13(&server(&[0, 43, 0, 2, 3, 4])), Ok(()));
        assert!(tls13(&server(&[0, 43, 0, 2, 3, 3])).is_err());
        assert!(tls13(&server(&[])).is_err_and(|why| why.contains("1.2")));
        assert!(tls13(b"GET / HTTP/1.1\r\n").is_err());
        assert!(tls13(&[22, 3, 1, 0, 1, 1, 22, 3, 3, 0, 1, 11]).is_err_and(|why| why.contains("type 22")));
        assert!(tls13(&[]).is_err());
    }
}
