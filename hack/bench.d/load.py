"""The loads: what is asked of a data plane, and what is measured while it answers.

Every load starts in the client's namespace and goes to the server's address inside the bridge, for a bounded time and
over a bounded number of connections.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from names import (APP_HOST, APP_PORT, CLIENT, GRPC_AUTHORITY, GRPC_URL, HOST_HEADER, IPERF_PORT, NODE, SERVER_IP, URL)
from pods import MARKER, Pods, within
from usage import Meter, resident_mib

HERE = Path(__file__).resolve().parent
HTTP_LOADS = ("idle", "paced", "maximum", "connections", "held", "unary")
TCP_LOADS = ("idle", "paced", "maximum", "connections", "transfer", "held")
FULL_HANDSHAKE_LOADS = ("handshakes",)
"""What is measured of a data plane: names of methods of `Load`, in order."""

HELD = 1000
RATE = 1000
SIDES = ("client-proxy", "server-proxy")


class LoadFailed(Exception):
    """A load met errors, so that its figures say nothing."""


@dataclass(frozen=True)
class Durations:
    """Seconds of each load, and of the rest before the first."""

    settle: float = 1.5
    paced: int = 8
    maximum: int = 6
    connections: int = 5
    transfer: int = 4
    unary: int = 5

    def total(self):
        """About how long one data plane takes in one round, in seconds."""
        return 2 + 2 * self.settle + self.paced + self.maximum + self.connections + self.transfer + self.unary


FULL = Durations()
QUICK = Durations(settle=0.5, paced=2, maximum=1, connections=1, transfer=1, unary=1)


class Load:
    """The loads against one started data plane; `foreign` is the most that others used of the machine meanwhile."""

    def __init__(self, pods: Pods, oha: Path, seconds: Durations):
        self._pods, self._oha, self._seconds = pods, oha, seconds
        self.foreign = 0.0

    def wait_until_ready(self, limit=20):
        """Asks until an answer comes through the data plane."""
        if self._connect(1, limit) != 1:
            logs = "".join(f"\n {name}:{self._pods.log_tail(name)}" for name in SIDES if name in self._pods.processes)
            raise LoadFailed(f"no answer through the data plane after {limit} s{logs}")

    def check_wire(self, encrypted):
        """Listens on the bridge while requests cross it: the answer must be in the clear or in TLS, as expected."""
        listener = subprocess.Popen(within(NODE, sys.executable, "-I", HERE / "wire.py", MARKER),
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            listener.stdout.readline()
            self._connect(4, 5)
            seen = listener.communicate(timeout=10)[0].split()
        finally:
            listener.kill()
            listener.wait()
        if seen != (["-", "encrypted"] if encrypted else ["clear", "-"]):
            raise LoadFailed(f"the bridge carried {seen}, which is not what this data plane is to send")

    def check_sidecars(self):
        """Raises if a sidecar has ended."""
        for side in SIDES:
            self._pods.check_alive(side)

    def idle(self):
        """Memory of the larger sidecar at rest, in MiB."""
        time.sleep(self._seconds.settle)
        return {"memory_idle": self._larger_sidecar()}

    def held(self):
        """Memory of the larger sidecar with 1,000 open connections that each carried a request, in MiB."""
        memory = []
        opened = self._connect(HELD, 5, lambda: (time.sleep(0.5), memory.append(self._larger_sidecar())))
        if opened != HELD:
            raise LoadFailed(f"{opened} of {HELD} connections were answered")
        return {"memory_1000_connections": memory[0]}

    def paced(self):
        """Latency at 1,000 requests a second over 16 connections, counted from the moment a request was due."""
        with self._meter() as meter:
            text = self._run(self._seconds.paced, self._oha, "--no-tui", "--output-format", "json",
                             "--latency-correction", "-w", "-c", 16, "-q", RATE, "-z", f"{self._seconds.paced}s",
                             "-H", HOST_HEADER, URL)
        result = json.loads(text)
        answers = sum(result["statusCodeDistribution"].values())
        if set(result["statusCodeDistribution"]) != {"200"} or result["errorDistribution"]:
            raise LoadFailed(f"oha: {result['statusCodeDistribution']} {result['errorDistribution']}")
        if answers < 0.95 * RATE * self._seconds.paced:
            raise LoadFailed(f"oha: {answers} answers in {self._seconds.paced} s at {RATE} requests/s")
        return {"p50": result["latencyPercentiles"]["p50"] * 1e6, "p99": result["latencyPercentiles"]["p99"] * 1e6,
                "cpu_1k": meter.sidecars / answers * 10_000}

    def maximum(self):
        """As many requests a second as 32 keep-alive connections carry."""
        with self._meter() as meter:
            rate, answers = self._wrk(self._seconds.maximum, 32)
        return {"max_rps": rate, "cpu_max": meter.sidecars / answers * 10_000}

    def connections(self):
        """As many requests a second as 8 clients make that open a connection for each."""
        with self._meter() as meter:
            rate, answers = self._wrk(self._seconds.connections, 8, "-H", "Connection: close")
        return {"new_connections": rate, "cpu_connection": meter.sidecars / answers * 10_000}

    def handshakes(self):
        """As `connections`, where each connection costs a full handshake."""
        found = self.connections()
        return {"handshakes": found["new_connections"], "cpu_handshake": found["cpu_connection"]}

    def unary(self):
        """gRPC messages of 1 KiB a second, each answered by one, on 8 connections with 8 calls under way on each."""
        with self._meter() as meter:
            text = self._run(self._seconds.unary, "h2load", "-t1", "-c8", "-m8", "-D", self._seconds.unary, "-d",
                             self._pods.grpc_message, "-H", GRPC_AUTHORITY, "-H", "te: trailers",
                             "-H", "content-type: application/grpc", GRPC_URL)
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
        answers, *bad = (int(count) for count in counts.groups()) if counts else (0, 0)
        if any(bad) or answers == 0:
            raise LoadFailed(f"h2load: {counts[0] if counts else text[-300:]}")
        return {"unary": float(re.search(r"([\d.]+) req/s", text)[1]), "cpu_unary": meter.sidecars / answers * 10_000}

    def transfer(self):
        """Gigabits a second over one TCP connection."""
        with self._meter():
            text = self._run(self._seconds.transfer, "iperf3", "-c", SERVER_IP, "-p", IPERF_PORT, "-t",
                             self._seconds.transfer, "-l", "128K", "-J")
        return {"gbps": json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9}

    def _wrk(self, seconds, connections, *options):
        text = self._run(seconds, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", HOST_HEADER, *options, URL)
        errors = re.findall(r"(?:Socket errors|Non-2xx).*", text)
        answers = int(re.search(r"(\d+) requests in", text)[1])
        if errors or answers == 0:
            raise LoadFailed(f"wrk: {answers} answers, {'; '.join(errors)}")
        return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), answers

    def _run(self, seconds, *command):
        done = subprocess.run(within(CLIENT, *command), capture_output=True, text=True, timeout=seconds + 20)
        if done.returncode != 0:
            complaint = (done.stderr or done.stdout)[-300:]
            raise LoadFailed(f"{Path(command[0]).name}: status {done.returncode}: {complaint}")
        return done.stdout

    def _connect(self, count, limit, meanwhile=lambda: None):
        holder = subprocess.Popen(
            within(CLIENT, sys.executable, "-I", HERE / "connections.py", SERVER_IP, APP_PORT,
                   f"{APP_HOST}:{APP_PORT}", count, limit),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            good = int(holder.stdout.readline() or 0)
            meanwhile()
            return good
        finally:
            holder.stdin.close()
            try:
                holder.wait(10)
            except subprocess.TimeoutExpired:
                holder.kill()
                holder.wait()

    def _larger_sidecar(self):
        return max(resident_mib(self._pods.pids(side)) for side in SIDES)

    def _meter(self):
        return _Recorded(self, self._pods.pids(*SIDES), self._pods.pids("application", "grpc", "iperf3"))


class _Recorded(Meter):
    """A meter that leaves its `foreign` with the load."""

    def __init__(self, load, sidecars, application):
        super().__init__(sidecars, application)
        self._load = load

    def __exit__(self, *_):
        super().__exit__()
        self._load.foreign = max(self._load.foreign, self.foreign)
