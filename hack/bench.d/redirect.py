"""The nftables rules that lead a pod's traffic through the peers' sidecars; Pinnace's own writes its own."""

from names import PROXY_UID


def capture_outbound(port):
    """Everything that leaves the client's pod, but for loopback and the sidecar's own, goes to the sidecar."""
    return _outbound(f"ip protocol tcp redirect to :{port}")


def capture_inbound(port):
    """Everything that enters the server's pod goes to the sidecar."""
    return _inbound(f"ip protocol tcp redirect to :{port}")


def map_outbound(ports):
    """As `capture_outbound`, for a sidecar that cannot read the original destination: a port of its own for each."""
    return _outbound(f"ip protocol tcp redirect to :tcp dport map {_pairs(ports)}")


def map_inbound(ports):
    """As `capture_inbound`, with a port of the sidecar's own for each."""
    return _inbound(f"ip protocol tcp redirect to :tcp dport map {_pairs(ports)}")


def _outbound(verdict):
    return _nat("output", f"meta skuid {PROXY_UID} return; ip daddr 127.0.0.0/8 return; {verdict}")


def _inbound(verdict):
    return _nat("prerouting", verdict)


def _nat(hook, rules):
    return f"""table ip peer {{
  chain {hook} {{
    type nat hook {hook} priority -100; {rules}
  }}
}}
"""


def _pairs(ports):
    return "{ " + ", ".join(f"{port} : {own}" for port, own in ports.items()) + " }"
