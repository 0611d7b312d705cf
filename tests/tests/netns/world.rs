//! Pods as network namespaces on a bridge, a discovery server beside them, and the processes that run in them. All of it goes
//! with the value that holds it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use operator::ca::Authority;

use super::namespaces::{as_proxy, has_ipv6, ip, ip6, remove_orphans, shown, six, within};
use super::pod::Pod;
use super::secrets::{Secret, issue, write_secret};

/// The discovery server's address.
pub(crate) const NODE: &str = "10.77.0.254";
/// The pod that calls, shop/client-1.
pub(crate) const CLIENT: &str = "10.77.0.1";
/// The pod that is called, shop/server-1.
pub(crate) const SERVER: &str = "10.77.0.2";
/// A third one, as each test wants it.
pub(crate) const OTHER: &str = "10.77.0.3";

pub(crate) const CLIENT_ID: &str = "spiffe://cluster.local/ns/shop/sa/client";
pub(crate) const SERVER_ID: &str = "spiffe://cluster.local/ns/shop/sa/server";
const OPERATOR_ID: &str = "spiffe://cluster.local/ns/istio-system/sa/pinnace-operator";

/// How long anything may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Two workloads, and a Service of the server's with a port of every kind.
pub(crate) const FIXTURES: &str = "
workloads:
- {name: shop/client-1, serviceAccount: client, addresses: [10.77.0.1, 'fd77::1'], labels: {app: client}}
- {name: shop/server-1, serviceAccount: server, addresses: [10.77.0.2, 'fd77::2'], labels: {app: server}}
services:
- name: shop/server
  addresses: [10.96.0.2]
  ports:
  - {port: 80, name: http, targetPort: 8080}
  - {port: 81, name: detected, targetPort: 8080}
  - {port: 82, name: grpc, targetPort: 8082}
  - {port: 83, name: detected-too, targetPort: 8082}
  - {port: 9000, name: tcp}
  - {port: 9001, name: undeclared}
  endpoints: [10.77.0.2]
- name: shop/six
  addresses: ['fd96::2']
  ports: [{port: 80, name: http, targetPort: 8080}, {port: 9000, name: tcp}]
  endpoints: ['fd77::2']
- name: shop/nobody
  addresses: [10.96.0.9]
  ports: [{port: 80, name: http}]
";

struct Process {
    name: String,
    child: Child,
}

/// Everything of one test.
pub(crate) struct World {
    id: String,
    pub(crate) folder: PathBuf,
    pub(crate) authority: Authority,
    processes: Vec<Process>,
    namespaces: Vec<String>,
}

impl World {
    /// Client and server with a sidecar each, and discovery: what most tests begin with.
    pub(crate) fn pair(fixtures: &str) -> Option<(Self, Pod, Pod)> {
        let mut world = Self::new()?;
        let client = world.pod("client", CLIENT);
        let server = world.pod("server", SERVER);
        world.fixtures(fixtures);
        world.discovery();
        world.sidecar(&client, &[]);
        world.sidecar(&server, &[]);
        world.ready(&client);
        world.ready(&server);
        Some((world, client, server))
    }

    /// The bridge alone. None, with the reason printed, where namespaces cannot be made.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            skipped("network namespaces need root");
            return None;
        }
        remove_orphans();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("pinnace-test-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&id);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut world = Self {
            id,
            folder,
            authority: Authority::generate(SystemTime::now()).unwrap(),
            processes: Vec::new(),
            namespaces: Vec::new(),
        };
        if let Err(reason) = world.namespace("node") {
            skipped(&format!("`ip netns add` fails here: {reason}"));
            return None;
        }
        let node = world.namespaces[0].clone();
        // An address of its own: a bridge takes that of a port otherwise, and another one when ports are added later, whereupon
        // what was open to the node waits for the neighbours to notice.
        let own = "02:00:00:00:00:fe";
        ip(&["-n", &node, "link", "add", "bridge", "address", own, "type", "bridge"]);
        ip(&["-n", &node, "address", "add", &format!("{NODE}/24"), "dev", "bridge"]);
        ip6(&[
            "-n",
            &node,
            "address",
            "add",
            &format!("{}/64", six(NODE)),
            "dev",
            "bridge",
            "nodad",
        ]);
        ip(&["-n", &node, "link", "set", "bridge", "up"]);
        fs::create_dir(world.fixture_folder()).unwrap();
        let operator = world.folder.join("operator");
        fs::create_dir(&operator).unwrap();
        write_secret(&operator, &world.issue(OPERATOR_ID));
        Some(world)
    }

    fn namespace(&mut self, name: &str) -> Result<String, String> {
        let name = format!("{}-{name}", self.id);
        let output = Command::new("ip")
            .args(["netns", "add", &name])
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(shown(&output));
        }
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        self.namespaces.push(name.clone());
        Ok(name)
    }

    /// A pod of service account `name` in namespace `shop`, without processes.
    pub(crate) fn pod(&mut self, name: &'static str, address: &str) -> Pod {
        let namespace = self.namespace(name).unwrap();
        let node = &self.namespaces[0];
        ip(&[
            "-n", node, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ]);
        ip(&["-n", node, "link", "set", name, "master", "bridge", "up"]);
        ip(&[
            "-n",
            &namespace,
            "address",
            "add",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ]);
        let v6 = six(address);
        ip6(&[
            "-n",
            &namespace,
            "address",
            "add",
            &format!("{v6}/64"),
            "dev",
            "eth0",
            "nodad",
        ]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "route", "add", "default", "via", NODE]);
        ip6(&["-n", &namespace, "-6", "route", "add", "default", "via", &six(NODE)]);
        let certificates = self.folder.join(format!("{name}-certs"));
        fs::create_dir(&certificates).unwrap();
        write_secret(
            &certificates,
            &self.issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}")),
        );
        Pod {
            namespace,
            name,
            ip: address.parse().unwrap(),
            certificates,
        }
    }

    /// tls.crt, tls.key and ca.crt of an identity, good for a day.
    pub(crate) fn issue(&self, id: &str) -> Secret {
        issue(&self.authority, id, Duration::from_secs(86_400), SystemTime::now())
    }

    fn fixture_folder(&self) -> PathBuf {
        self.folder.join("fixtures")
    }

    /// Says what the discovery server is to serve from now on.
    pub(crate) fn fixtures(&self, text: &str) {
        // In one step: the server looks at any time.
        let (new, old) = (
            self.folder.join("fixtures.new"),
            self.fixture_folder().join("mesh.yaml"),
        );
        fs::write(&new, text).unwrap();
        fs::rename(new, old).unwrap();
    }

    /// Starts the discovery server.
    pub(crate) fn discovery(&mut self) {
        let mut command = within(&self.namespaces[0], &self.program(&binary("fixture-discovery")));
        command.arg("--dir").arg(self.fixture_folder());
        command.args(["--addr", &format!("{NODE}:15012")]);
        command.arg("--cert-dir").arg(self.folder.join("operator"));
        self.spawn("discovery", command);
        self.logged("discovery", "listening on");
    }

    /// Writes a pod's redirect rules.
    pub(crate) fn capture(&self, pod: &Pod) {
        let output = within(&pod.namespace, &self.program(&binary("proxy")))
            .arg("capture")
            .output()
            .unwrap();
        assert!(output.status.success(), "capture: {}", shown(&output));
    }

    /// Writes a pod's redirect rules and starts its sidecar, with more environment than it needs.
    pub(crate) fn sidecar(&mut self, pod: &Pod, environment: &[(&str, &str)]) {
        self.capture(pod);
        self.start(pod, environment);
    }

    /// Starts a pod's sidecar under the redirect rules that are there, as the kubelet does after the first time.
    pub(crate) fn start(&mut self, pod: &Pod, environment: &[(&str, &str)]) {
        let mut addresses = pod.ip.to_string();
        if has_ipv6() {
            addresses = format!("{addresses},{}", six(&addresses));
        }
        let mut command = as_proxy(&pod.namespace, &self.program(&binary("proxy")));
        command.arg("sidecar");
        command
            .env("POD_NAME", format!("{}-1", pod.name))
            .env("POD_NAMESPACE", "shop")
            .env("SERVICE_ACCOUNT", pod.name)
            .env("INSTANCE_IPS", addresses)
            .env("CERT_DIR", &pod.certificates)
            .env("DISCOVERY_ADDRESS", format!("{NODE}:15012"))
            .env("PROXY_LOG_LEVEL", "info,proxy=debug")
            .envs(environment.iter().copied());
        self.spawn(&format!("{}-sidecar", pod.name), command);
    }

    /// Waits until a pod's sidecar is ready.
    pub(crate) fn ready(&self, pod: &Pod) {
        eventually(&format!("{} is ready", pod.name), || {
            pod.page(15021, "/healthz/ready").is_ok_and(|it| it.0 == 200)
        });
    }

    /// A program where every user can run it: itself, or a copy in this test's folder.
    pub(crate) fn program(&self, path: &Path) -> PathBuf {
        let open = |folder: &Path| fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & 0o1 != 0);
        if path.ancestors().all(open) {
            return path.to_owned();
        }
        let copy = self.folder.join(path.file_name().unwrap());
        if !copy.exists() && fs::hard_link(path, &copy).is_err() {
            fs::copy(path, &copy).unwrap();
        }
        copy
    }

    /// Starts a process; what it prints goes into a file of the folder.
    pub(crate) fn spawn(&mut self, name: &str, mut command: Command) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(name))
            .unwrap();
        // Some end with their input: the child keeps the other end of it.
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        self.processes.push(Process {
            name: name.to_owned(),
            child,
        });
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// What a process printed so far.
    pub(crate) fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path(name)).unwrap()).into_owned()
    }

    /// Waits until a process has printed something.
    pub(crate) fn logged(&self, name: &str, text: &str) {
        eventually(&format!("{name} prints {text:?}"), || self.log(name).contains(text));
    }

    /// Sends a signal to a process that was started here.
    pub(crate) fn signal(&self, name: &str, signal: i32) {
        let process = self.processes.iter().find(|process| process.name == name).unwrap();
        let pid = i32::try_from(process.child.id()).unwrap();
        // SAFETY: a plain system call; the child was not waited for, so that its id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until a process has ended; its exit status and how long that took.
    pub(crate) fn ended(&mut self, name: &str) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let at = self.processes.iter().position(|process| process.name == name).unwrap();
        let mut process = self.processes.remove(at);
        loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                return (status.code(), began.elapsed());
            }
            if began.elapsed() > PATIENCE {
                let _ = process.child.kill();
                panic!("{name} has not ended");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends a process and waits for it.
    pub(crate) fn stop(&mut self, name: &str) {
        self.signal(name, libc::SIGTERM);
        self.ended(name);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            for name in self.namespaces.iter().skip(1) {
                // What each sidecar knew.
                let mut command = within(name, Path::new("curl"));
                let output = command
                    .args(["-s", "-m", "2", "http://127.0.0.1:15000/config_dump"])
                    .output();
                let dump = output.as_ref().map(shown).unwrap_or_default();
                println!("--- {name} {}", dump.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
        if thread::panicking() {
            for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let log = fs::read(entry.path()).unwrap_or_default();
                    let log = String::from_utf8_lossy(&log);
                    let lines: Vec<_> = log.lines().collect();
                    println!("--- {}", entry.file_name().display());
                    lines[lines.len().saturating_sub(40)..]
                        .iter()
                        .for_each(|line| println!("{line}"));
                }
            }
        }
        // Logs of a failure stay for whoever asks for them.
        if !thread::panicking() || std::env::var_os("PINNACE_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Says on standard error, past the capture of a test's output, why this test tests nothing.
pub(crate) fn skipped(reason: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "skipped: {test}: {reason}");
}

/// Waits for something, or fails with what it was.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One of the project's binaries.
pub(crate) fn binary(name: &str) -> PathBuf {
    let built = match std::env::var_os("PINNACE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // target/TRIPLE/PROFILE/deps/this
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned(),
    };
    let path = built.join(name);
    let path_shown = path.display();
    assert!(
        path.exists(),
        "{path_shown} is not there: cargo build --workspace --bins, or set PINNACE_BIN_DIR"
    );
    path
}
