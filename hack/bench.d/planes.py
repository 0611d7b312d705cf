"""The data planes that can be measured, by name; a name beginning with `pinnace` is ours."""

from envoy import Envoy
from pinnace import Pinnace
from streams import Haproxy, Nginx


class Direct:
    """No sidecars: what the machine, the application and the load need by themselves."""

    name, encrypted, http, needs = "direct", False, False, ()
    loads = ("paced", "maximum", "connections", "transfer", "unary")

    def start(self, pods, side):
        """Starts nothing."""


EVERY = {plane.name: plane for plane in (
    Direct(), Envoy("envoy-http1", True), Pinnace("pinnace-http1", True), Envoy("envoy-tcp", False),
    Pinnace("pinnace-tcp", False), Envoy("envoy-tcp-full", False, resumption=False),
    Pinnace("pinnace-tcp-full", False, resumption=False), Haproxy(), Nginx())}

COMPARED = ("direct", "envoy-http1", "pinnace-http1", "envoy-tcp", "pinnace-tcp", "envoy-tcp-full", "pinnace-tcp-full")
"""What the ratios of docs/benchmarks.json need, and what is measured unless told otherwise."""
