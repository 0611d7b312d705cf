//! `proxy capture` in network namespaces: a pod and a peer, joined by a veth pair. Needs root and `ip netns`, and
//! `nft` to compare with; what cannot run here says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail in its helpers too"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

const POD: [&str; 2] = ["10.77.0.1", "fd77::1"];
const PEER: [&str; 2] = ["10.77.0.2", "fd77::2"];
const APP: u16 = 8080;

/// Two namespaces of this test's own, gone when it ends.
struct Net {
    pod: String,
    peer: String,
}

impl Net {
    /// None, with the reason printed, where namespaces cannot be made.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Self {
            pod: format!("pin-pod-{id}"),
            peer: format!("pin-peer-{id}"),
        };
        for name in [&net.pod, &net.peer] {
            match Command::new("ip").args(["netns", "add", name]).output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    println!(
                        "skipped: `ip netns add` fails here: {}",
                        String::from_utf8_lossy(&output.stderr).trim()
                    );
                    return None;
                }
                Err(error) => {
                    println!("skipped: `ip` cannot be run: {error}");
                    return None;
                }
            }
        }
        ip(&[
            "-n", &net.pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &net.peer,
        ]);
        for (name, own, other) in [(&net.pod, POD, PEER), (&net.peer, PEER, POD)] {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
            ip(&["-n", name, "addr", "add", &format!("{}/24", own[0]), "dev", "eth0"]);
            ip(&[
                "-n",
                name,
                "-6",
                "addr",
                "add",
                &format!("{}/64", own[1]),
                "dev",
                "eth0",
                "nodad",
            ]);
            ip(&["-n", name, "route", "add", "default", "via", other[0]]);
            ip(&["-n", name, "-6", "route", "add", "default", "via", other[1]]);
        }
        Some(net)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.pod, env!("CARGO_BIN_EXE_proxy"), "capture"]);
        command
    }

    fn capture(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        let shown = shown(&output);
        assert!(output.status.success(), "{shown}");
        shown
    }

    /// The rules as nft shows them, without blank lines.
    fn rules(&self) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.pod, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        let rules = String::from_utf8(output.stdout).unwrap();
        rules
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.pod, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", shown(&output));
}

fn shown(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs on a thread of its own inside a namespace, as user and group `id`.
fn inside<T: Send + 'static>(name: &str, uid: u32, gid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    thread::spawn(move || {
        // SAFETY: plain system calls with valid arguments; namespace and ids are those of the thread alone, since
        // the system calls are made without libc's wrappers, which would change all threads.
        unsafe {
            assert_eq!(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        work()
    })
    .join()
    .unwrap()
}

/// What a listener saw: its port, the peer, and where the connection was going in truth.
type Seen = (u16, SocketAddr, SocketAddr);

/// Listens on a port of a namespace, IPv4 and IPv6; each connection is reported, and greeted with the port.
fn listen(name: &str, port: u16, seen: Sender<Seen>) {
    inside(name, 0, 0, move || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
            .bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port).into())
            .unwrap();
        socket.listen(16).unwrap();
        let listener: TcpListener = socket.into();
        // The thread ends with the test's process.
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let original = if peer.is_ipv4() {
                    SockRef::from(&stream).original_dst_v4()
                } else {
                    SockRef::from(&stream).original_dst_v6()
                };
                let local = stream.local_addr().unwrap();
                let local = SocketAddr::new(local.ip().to_canonical(), local.port());
                let original = original.ok().and_then(|o| o.as_socket()).unwrap_or(local);
                let _ = seen.send((port, peer, original));
                let _ = stream.write_all(&port.to_be_bytes());
            }
        });
    });
}

struct Call {
    from: String,
    uid: u32,
    gid: u32,
    source: Option<IpAddr>,
    to: SocketAddr,
}

impl Call {
    /// The port of the listener that answered.
    fn arrives_at(self) -> Option<u16> {
        let Self {
            from,
            uid,
            gid,
            source,
            to,
        } = self;
        inside(&from, uid, gid, move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
            }
            socket.connect_timeout(&to.into(), Duration::from_secs(2)).ok()?;
            let mut stream: TcpStream = socket.into();
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut port = [0; 2];
            stream.read_exact(&mut port).ok()?;
            Some(u16::from_be_bytes(port))
        })
    }
}

fn call(net: &str, uid: u32, to: &str, port: u16) -> Call {
    Call {
        from: net.to_owned(),
        uid,
        gid: uid,
        source: None,
        to: SocketAddr::new(to.parse().unwrap(), port),
    }
}

/// Listeners of a sidecar and an application in the pod, of a server in the peer.
fn people(net: &Net) -> Receiver<Seen> {
    let (sender, seen) = channel();
    for port in [15001, 15006, 15021, APP] {
        listen(&net.pod, port, sender.clone());
    }
    for port in [80, 443] {
        listen(&net.peer, port, sender.clone());
    }
    seen
}

#[test]
fn rules_are_those_that_nft_shows_and_a_second_run_changes_nothing() {
    let Some(net) = Net::new() else { return };
    for args in [
        &[][..],
        &[
            "--exclude-outbound-ports=22,3306",
            "--exclude-inbound-ports=9999",
            "--exclude-interfaces=eth1",
        ],
        &[
            "--include-outbound-ip-ranges=10.0.0.0/8,192.0.2.1/32,fd00::/8",
            "--exclude-outbound-ip-ranges=10.1.0.0/16,fd01::/16",
            "--include-outbound-ports=443",
            "--include-inbound-ports=80,8080",
        ],
        &[
            "--include-inbound-ports=",
            "--reroute-virtual-interfaces=vm0",
            "--uid=2000",
            "--gid=3000",
        ],
        &["--redirect-dns", "--exclude-outbound-ports=22"],
    ] {
        let planned = net.capture(&[args, &["--dry-run"]].concat());
        let log = net.capture(args);
        assert_eq!(net.rules(), planned, "{args:?}");
        assert!(
            log.matches("a connection was redirected as it should be").count() == 2,
            "IPv4 and IPv6 are tried: {log}"
        );
        net.capture(args);
        assert_eq!(net.rules(), planned, "{args:?}, again");
    }
}

#[test]
fn other_tables_are_left_alone() {
    let Some(net) = Net::new() else { return };
    let theirs = "table ip theirs {\n\tchain c {\n\t\ttcp dport 1 accept\n\t}\n}\n";
    let file = "add table ip theirs; add chain ip theirs c; add rule ip theirs c tcp dport 1 accept";
    let output = Command::new("ip")
        .args(["netns", "exec", &net.pod, "nft", file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    net.capture(&[]);
    net.capture(&["--include-inbound-ports=80"]);
    assert!(net.rules().contains(theirs), "{}", net.rules());
}

#[test]
fn connections_are_redirected_both_ways() {
    let Some(net) = Net::new() else { return };
    net.capture(&[]);
    let seen = people(&net);
    for family in [0, 1] {
        let (pod, peer) = (POD[family], PEER[family]);
        let going = |to: &str, port| SocketAddr::new(to.parse().unwrap(), port);

        // Outbound: of the application, whoever it runs as; the original destination is known.
        for uid in [0, 1000] {
            assert_eq!(
                call(&net.pod, uid, peer, 80).arrives_at(),
                Some(15001),
                "uid {uid} to {peer}"
            );
            let (port, _, original) = seen.recv().unwrap();
            assert_eq!((port, original), (15001, going(peer, 80)));
        }
        // Of the sidecar, by user or by group: not.
        for (uid, gid) in [(1337, 1337), (1337, 5), (5, 1337)] {
            let sidecar = Call {
                uid,
                gid,
                ..call(&net.pod, 0, peer, 80)
            };
            assert_eq!(sidecar.arrives_at(), Some(80), "uid {uid}, gid {gid} to {peer}");
            assert_eq!(seen.recv().unwrap().0, 80);
        }

        // Inbound: everything but the ports of the sidecar itself.
        assert_eq!(call(&net.peer, 0, pod, APP).arrives_at(), Some(15006), "{pod}");
        let (_, from, original) = seen.recv().unwrap();
        assert_eq!((from.ip(), original), (peer.parse().unwrap(), going(pod, APP)));
        assert_eq!(call(&net.peer, 0, pod, 15021).arrives_at(), Some(15021), "{pod}");
        seen.recv().unwrap();

        // The sidecar hands a connection to its application.
        let source = ["127.0.0.6", "::6"][family].parse().unwrap();
        let inward = Call {
            source: Some(source),
            ..call(&net.pod, 1337, pod, APP)
        };
        assert_eq!(inward.arrives_at(), Some(APP), "{source} to {pod}");
        assert_eq!(seen.recv().unwrap().1.ip(), source);
        // The sidecar calls its own pod as an endpoint of a Service: the inbound side sees it.
        assert_eq!(
            call(&net.pod, 1337, pod, APP).arrives_at(),
            Some(15006),
            "self call to {pod}"
        );
        assert_eq!(seen.recv().unwrap().2, going(pod, APP));
        // Containers of the pod among themselves.
        let localhost = ["127.0.0.1", "::1"][family];
        for (uid, to) in [(1000, localhost), (1000, pod), (1337, localhost)] {
            assert_eq!(
                call(&net.pod, uid, to, APP).arrives_at(),
                Some(APP),
                "uid {uid} to {to}"
            );
            seen.recv().unwrap();
        }
    }
}

#[test]
fn what_is_excluded_passes() {
    let Some(net) = Net::new() else { return };
    let seen = people(&net);
    for family in [0, 1] {
        let (pod, peer) = (POD[family], PEER[family]);
        let elsewhere = ["192.0.2.1", "2001:db8::1"][family];
        for (args, from, to, port, arrives) in [
            (&["--exclude-outbound-ports=80"][..], &net.pod, peer, 80, 80),
            (&["--exclude-outbound-ports=80"], &net.pod, peer, 443, 15001),
            (
                &["--exclude-outbound-ip-ranges=10.77.0.0/24,fd77::/64"],
                &net.pod,
                peer,
                80,
                80,
            ),
            (
                &["--include-outbound-ip-ranges=10.78.0.0/24,fd78::/64"],
                &net.pod,
                peer,
                80,
                80,
            ),
            (
                &["--include-outbound-ip-ranges=", "--include-outbound-ports=443"],
                &net.pod,
                peer,
                443,
                15001,
            ),
            (
                &["--include-outbound-ip-ranges=", "--include-outbound-ports=443"],
                &net.pod,
                peer,
                80,
                80,
            ),
            (&["--exclude-interfaces=eth0"], &net.pod, peer, 80, 80),
            (&["--exclude-interfaces=eth0"], &net.peer, pod, APP, APP),
            (&["--exclude-interfaces=et+"], &net.peer, pod, APP, APP),
            (&["--exclude-interfaces=et"], &net.peer, pod, APP, 15006),
            (&["--exclude-inbound-ports=8080"], &net.peer, pod, APP, APP),
            (&["--include-inbound-ports=8080"], &net.peer, pod, APP, 15006),
            (&["--include-inbound-ports="], &net.peer, pod, APP, APP),
            // The peer is a virtual machine behind the pod, whose calls elsewhere pass through it.
            (&["--reroute-virtual-interfaces=eth0"], &net.peer, elsewhere, 80, 15001),
            (
                &[
                    "--reroute-virtual-interfaces=et+",
                    "--include-outbound-ip-ranges=192.0.2.0/24,2001:db8::/32",
                ],
                &net.peer,
                elsewhere,
                80,
                15001,
            ),
        ] {
            net.capture(args);
            assert_eq!(
                call(from, 1000, to, port).arrives_at(),
                Some(arrives),
                "{args:?} to {to} port {port}"
            );
            seen.recv().unwrap();
        }
    }
}

#[test]
fn the_log_says_what_could_not_be_tried() {
    let Some(net) = Net::new() else { return };
    ip(&["-n", &net.pod, "route", "del", "default"]);
    let log = net.capture(&[]);
    assert!(log.contains("no route to 192.0.2.1"), "{log}");
    assert!(log.contains("[2001:db8::1]"), "{log}");
    let _seen = people(&net);
    let log = net.capture(&[]);
    assert!(log.contains("port 15001 is taken"), "{log}");

    let file = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";
    let script = format!("ip -6 addr del ::6/128 dev lo && echo 1 > {file}");
    let output = Command::new("ip")
        .args(["netns", "exec", &net.pod, "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let log = net.capture(&[]);
    assert!(log.contains("IPv6 is switched off on lo"), "{log}");
}

#[test]
fn without_the_capability_the_error_says_what_to_do() {
    /// linux/capability.h
    const CAP_NET_ADMIN: libc::c_ulong = 12;
    let Some(net) = Net::new() else { return };
    let namespace = File::open(format!("/run/netns/{}", net.pod)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.arg("capture");
    // SAFETY: only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let entered = libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET);
            let dropped = libc::prctl(libc::PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0);
            if entered == 0 && dropped == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = command.output().unwrap();
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(shown.contains("NET_ADMIN") && shown.contains("runAsUser: 0"), "{shown}");
    assert_eq!(net.rules(), "");
}

#[test]
fn capabilities_of_the_init_container_suffice() {
    let Some(net) = Net::new() else { return };
    let namespace = File::open(format!("/run/netns/{}", net.pod)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.arg("capture");
    // SAFETY: only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // All but NET_ADMIN (12) and NET_RAW (13); what this kernel does not know is refused and of no matter.
            for capability in (0..64).filter(|c| ![12, 13].contains(c)) {
                libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0);
            }
            Ok(())
        });
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(net.rules().contains("redirect to :15006"));
}

/// The socket of nf_tables (`NETLINK_NETFILTER`) is refused, as by a kernel that lacks it.
#[test]
fn a_kernel_without_nf_tables_is_named() {
    let Some(net) = Net::new() else { return };
    let namespace = File::open(format!("/run/netns/{}", net.pod)).unwrap();
    // Classic BPF over struct seccomp_data: the number of the system call is at 0, the low half of its third
    // argument at 32 (on the little-endian machines that this is built for).
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPROTONOSUPPORT).unwrap();
    let socket = u32::try_from(libc::SYS_socket).unwrap();
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, socket),
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 32),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::try_from(libc::NETLINK_NETFILTER).unwrap(),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.arg("capture");
    // SAFETY: only system calls that are safe between fork and exec; the filter outlives the call.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: 6,
                filter: filter.as_mut_ptr(),
            };
            let entered = libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) == 0
                && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0;
            if entered {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = command.output().unwrap();
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(4), "{shown}");
    assert!(
        shown.contains("no usable nf_tables") && shown.contains("modprobe"),
        "{shown}"
    );
}

#[test]
fn a_kernel_without_ipv6_gets_ipv4_rules_alone() {
    let Some(net) = Net::new() else { return };
    net.capture(&[]);
    assert!(net.rules().contains("table ip6 pinnace"));
    // /proc/net/if_inet6 is what tells: an empty directory in place of /proc/net hides it.
    let script = r#"mkdir -p "$1" && mount --bind "$1" /proc/$$/net && exec "$2" capture"#;
    let empty = std::env::temp_dir().join(format!("{}-empty", net.pod));
    let output = Command::new("unshare")
        .args(["--mount", "ip", "netns", "exec", &net.pod, "sh", "-c", script, "sh"])
        .arg(&empty)
        .arg(env!("CARGO_BIN_EXE_proxy"))
        .output()
        .unwrap();
    let _ = std::fs::remove_dir(&empty);
    let shown = shown(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("only IPv4 is captured"), "{shown}");
    let rules = net.rules();
    assert!(
        rules.contains("table ip pinnace") && !rules.contains("table ip6"),
        "{rules}"
    );
}

#[test]
fn bad_flags_are_refused_with_status_2() {
    for (args, says) in [
        (
            &["--exclude-outbound-ports=80,http"][..],
            &["--exclude-outbound-ports", "http", "1 to 65535"][..],
        ),
        (
            &["--include-outbound-ip-ranges=10.0.0.1"],
            &["--include-outbound-ip-ranges", "10.0.0.1", "CIDR"],
        ),
        (
            &["--outbound-port=15006"],
            &["--outbound-port", "--inbound-port", "15006"],
        ),
        (&["--nonsense"], &["--nonsense"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_proxy"))
            .arg("capture")
            .args(args)
            .output()
            .unwrap();
        let shown = shown(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {shown}");
        for part in says {
            assert!(shown.contains(part), "`{part}` is missing in {shown}");
        }
    }
}
