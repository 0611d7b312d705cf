"""Pinnace as a pair of sidecars, as the webhook would inject them, with a discovery server that serves fixtures.

The server's pod is STRICT, the client's application calls a Service whose one endpoint it is, and both sidecars learn
that over the same authenticated stream as in a cluster.
"""

import re
import sys
import time

from load import FULL_HANDSHAKE_LOADS, HTTP_LOADS, TCP_LOADS
from names import (APP_HOST, APP_PORT, CLIENT, CLIENT_IP, DISCOVERY_ID, DISCOVERY_PORT, GRPC_PORT, IPERF_PORT, NODE,
                   NODE_IP, PROXY_UID, SERVER, SERVER_IP, TRUST_DOMAIN)
from pods import NotReady, run, within

WORKERS = 2
METRICS = ":15090/stats/prometheus"
READY = ":15021/healthz/ready"
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


class Pinnace:
    """The data plane `pinnace-http1` or `pinnace-tcp`; they differ in what the Service's port declares.

    Without `resumption` every handshake is a full one, and handshakes are all that is measured.
    """

    encrypted, needs = True, ("pinnace",)

    def __init__(self, name, http, resumption=True, under=None):
        self.name, self.http, self.resumption = name, http, resumption
        # By side: what a sidecar runs under, and how long it may take then until it is ready.
        self.under = under or {}
        self.loads = HTTP_LOADS if http else TCP_LOADS if resumption else FULL_HANDSHAKE_LOADS

    def start(self, pods, side):
        """Captures the pod as its init container would, then starts its sidecar."""
        if "discovery" not in pods.processes:
            self._start_discovery(pods)
        namespace, address = (CLIENT, CLIENT_IP) if side == "client" else (SERVER, SERVER_IP)
        run(*within(namespace, pods.binaries["proxy"], "capture"))
        wrapper, seconds = self.under.get(side, ((), 30))
        pods.spawn(f"{side}-proxy", namespace, PROXY_UID, *wrapper, pods.binaries["proxy"], "sidecar", env={
            "POD_NAME": f"{side}-1", "POD_NAMESPACE": "default", "SERVICE_ACCOUNT": side, "INSTANCE_IPS": address,
            "DISCOVERY_ADDRESS": f"{NODE_IP}:{DISCOVERY_PORT}", "DISCOVERY_SPIFFE_ID": DISCOVERY_ID,
            "CERT_DIR": str(pods.certificates / side), "PROXY_CONCURRENCY": str(WORKERS), "PROXY_LOG_LEVEL": "warn",
            "TLS_RESUMPTION": "on" if self.resumption else "off",
        })
        # An application that the kubelet starts calls no earlier.
        _wait_until_ready(pods, f"{side}-proxy", f"http://{address}{READY}", seconds)

    def check(self, pods):
        """Raises unless the requests so far crossed both sidecars under mutual TLS, and as HTTP only where declared."""
        for side, address, direction in (("client", CLIENT_IP, "outbound"), ("server", SERVER_IP, "inbound")):
            text = run(*within(NODE, sys.executable, "-I", "-c", FETCH, f"http://{address}{METRICS}"))
            requests = _total(text, "requests", direction)
            encrypted = _total(text, "connections", direction, 'security="mutual_tls"')
            clear = _total(text, "connections", direction, 'security="none"')
            if encrypted == 0 or clear != 0 or (requests > 0) != self.http:
                raise NotReady(f"the {side}'s sidecar counts {requests} HTTP requests, {encrypted} connections under"
                               f" mutual TLS and {clear} in the clear, which is not {self.name}")

    def _start_discovery(self, pods):
        fixtures = pods.folder / f"fixtures-{self.name}"
        if not fixtures.exists():
            fixtures.mkdir()
            (fixtures / "mesh.yaml").write_text(mesh("http" if self.http else "tcp"))
        pods.spawn("discovery", NODE, PROXY_UID, pods.binaries["fixture-discovery"], "--dir", fixtures,
                   "--addr", f"{NODE_IP}:{DISCOVERY_PORT}", "--cert-dir", pods.certificates / "discovery",
                   env={"RUST_LOG": "warn"})
        pods.wait_for_port("discovery", NODE, DISCOVERY_PORT)


def _wait_until_ready(pods, name, url, seconds):
    """Waits until a sidecar answers that it is ready, as the kubelet does; raises with the end of its log."""
    end = time.monotonic() + seconds
    while True:
        pods.check_alive(name)
        try:
            run(*within(NODE, sys.executable, "-I", "-c", FETCH, url))
            return
        except NotReady as not_yet:
            if time.monotonic() > end:
                raise NotReady(f"{not_yet}{pods.log_tail(name)}") from not_yet
        time.sleep(0.1)


def _total(metrics, name, direction, label=""):
    """The sum of a counter of the proxy's over the series of a direction that bear a label too."""
    series = re.findall(rf"^pinnace_proxy_{name}_total{{(.*)}} (\d+)$", metrics, re.MULTILINE)
    return sum(int(value) for labels, value in series if f'direction="{direction}"' in labels and label in labels)


def mesh(protocol):
    """The mesh: two workloads, the Service in front of one of them, and STRICT everywhere."""
    service, namespace = APP_HOST.split(".")[:2]
    return f"""\
mesh: {{trustDomain: {TRUST_DOMAIN}}}
workloads:
- {{name: default/client-1, serviceAccount: client, addresses: [{CLIENT_IP}], labels: {{app: client, version: v1}}}}
- {{name: default/server-1, serviceAccount: server, addresses: [{SERVER_IP}], labels: {{app: server, version: v1}}}}
services:
- name: {namespace}/{service}
  addresses: [10.96.0.10]
  ports:
  - {{port: {APP_PORT}, name: {protocol}}}
  - {{port: {GRPC_PORT}, name: grpc}}
  - {{port: {IPERF_PORT}, name: tcp-iperf3}}
  endpoints: [{SERVER_IP}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
"""
