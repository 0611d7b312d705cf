"""Two pods as network namespaces on one bridge, with the processes that run in them.

A `Pods` lives for one data plane in one round, so that no connection tracking entry, socket in TIME-WAIT or redirect
rule of one plane is met by the next. Everything it makes goes with it: processes by the ids it recorded, namespaces by
name. Nothing outside the namespaces is touched.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import identities
from names import (APP_PORT, APP_UID, CLIENT, CLIENT_IP, GRPC_PORT, IPERF_PORT, NODE, NODE_IP, PROXY_UID, SERVER,
                   SERVER_IP)

MARKER = "pinnace-bench-plaintext-marker"
"""Opens the application's answer, so that a capture shows whether the answer crossed the bridge in the clear."""

SYSCTLS = (
    "net.ipv4.ip_local_port_range=16000 65000",
    "net.ipv4.tcp_tw_reuse=1",
    "net.core.somaxconn=8192",
    "net.ipv4.tcp_max_syn_backlog=8192",
)


class NotReady(Exception):
    """A process ended or did not answer in time; the message carries the end of its log."""


def run(*command, **options):
    """Runs a short command to its end and gives what it printed; raises with its complaint if it fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **options)
    if done.returncode != 0:
        raise NotReady(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def within(namespace, *command):
    """The command line that runs `command` in a namespace; `ip` replaces itself, so the process id is the command's."""
    return ["ip", "netns", "exec", namespace, *map(str, command)]


def remove_namespaces():
    """Deletes the namespaces of this harness, which an earlier run that was killed may have left."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split(" ")[0]
        if name in (NODE, CLIENT, SERVER):
            run("ip", "netns", "delete", name)


class Pods:
    """The namespaces, the application in the server's, and whatever a data plane starts; a context manager."""

    def __init__(self, folder: Path, binaries: dict[str, Path]):
        self.folder, self.binaries = folder, binaries
        self.certificates = folder / "certificates"
        self.grpc_message = folder / "application/grpc/bench.Echo/Unary"
        self.processes: dict[str, subprocess.Popen] = {}

    def __enter__(self):
        try:
            self._connect()
            self._start_application()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop(*reversed(list(self.processes)))
        remove_namespaces()

    def _connect(self):
        remove_namespaces()
        for name in (NODE, CLIENT, SERVER):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", NODE, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", NODE, "address", "add", f"{NODE_IP}/24", "dev", "bridge")
        run("ip", "-n", NODE, "link", "set", "bridge", "up")
        for name, address, port in ((CLIENT, CLIENT_IP, "client"), (SERVER, SERVER_IP, "server")):
            run("ip", "-n", NODE, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", NODE, "link", "set", port, "master", "bridge", "up")
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", NODE_IP)
            run(*within(name, "sysctl", "-qw", *SYSCTLS))

    def _start_application(self):
        root = self.folder / "application"
        if not root.exists():
            (root / "html").mkdir(parents=True)
            (root / "html/index.html").write_text(MARKER.ljust(1024, "."))
            (root / "nginx.conf").write_text(APPLICATION.format(root=root, port=APP_PORT))
            # One message of 1 KiB: no compression, its length, its bytes. The server answers every call with the same.
            self.grpc_message.parent.mkdir(parents=True)
            self.grpc_message.write_bytes(b"\0" + (1024).to_bytes(4, "big") + MARKER.ljust(1024, ".").encode())
            for path in (root, *root.rglob("*")):
                os.chown(path, APP_UID, APP_UID)
        self.spawn("application", SERVER, APP_UID, "nginx", "-p", root, "-c", root / "nginx.conf")
        self.spawn("grpc", SERVER, APP_UID, "nghttpd", "--no-tls", "--htdocs", root / "grpc",
                   "--trailer", "grpc-status: 0", "-a", "0.0.0.0", GRPC_PORT)
        self.spawn("iperf3", SERVER, APP_UID, "iperf3", "-s", "-p", IPERF_PORT)
        self.wait_for_port("application", SERVER, APP_PORT)
        self.wait_for_port("grpc", SERVER, GRPC_PORT)
        self.wait_for_port("iperf3", SERVER, IPERF_PORT)

    def spawn(self, name, namespace, uid, *command, env=None):
        """Starts a long-running process in a namespace as a user, its output in a log beside the others."""
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--pdeathsig=TERM", "--"]
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                within(namespace, *switch, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], **(env or {})}, start_new_session=True)

    def stop(self, *names):
        """Ends processes by the ids recorded when they started: asked first, ended after 3 s, children included."""
        stopping = [self.processes.pop(name) for name in names if name in self.processes]
        for process in stopping:
            process.terminate()
        for process in stopping:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                for pid in reversed(family(process.pid)):
                    os.kill(pid, signal.SIGKILL)
                process.wait(3)

    def pids(self, *names):
        """The process ids of the named processes and of their children."""
        return [pid for name in names if name in self.processes for pid in family(self.processes[name].pid)]

    def redirect(self, namespace, rules):
        """Loads nftables rules in a namespace."""
        run(*within(namespace, "nft", "-f", "-"), input=rules)

    def wait_for_port(self, name, namespace, port, seconds=15):
        """Waits until a process listens on a port, read from the namespace's socket table so that nobody is called."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check_alive(name)
            if run(*within(namespace, "ss", "-Hltn", f"sport = :{port}")).strip():
                return
            time.sleep(0.02)
        raise NotReady(f"{name} does not listen on port {port} after {seconds} s{self.log_tail(name)}")

    def check_alive(self, name):
        """Raises with the end of the log if a process has ended."""
        process = self.processes.get(name)
        if process is not None and process.poll() is not None:
            raise NotReady(f"{name} ended with status {process.returncode}{self.log_tail(name)}")

    def log_tail(self, name):
        """The last lines that a process wrote, to follow an error message."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-12:]
        return "".join(f"\n  | {line}" for line in lines)


def family(pid):
    """A process and its descendants, parents first; those that ended meanwhile are left out."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def prepare(folder: Path, binaries: dict[str, Path]):
    """Fills the run's folder: certificates, and copies of the measured binaries that uid 1337 can read."""
    folder.chmod(0o755)
    identities.write(folder / "certificates")
    (folder / "bin").mkdir()
    copies = {}
    for name, path in binaries.items():
        copies[name] = folder / "bin" / name
        shutil.copyfile(path, copies[name])
        copies[name].chmod(0o755)
    (folder / "proxy").mkdir()
    os.chown(folder / "proxy", PROXY_UID, PROXY_UID)
    return copies


APPLICATION = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {root}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 10000; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  tcp_nodelay on;
  default_type text/plain;
  open_file_cache max=10;
  client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi;
  scgi_temp_path {root}/scgi;
  server {{ listen 0.0.0.0:{port} backlog=8192; root {root}/html; }}
}}
"""
