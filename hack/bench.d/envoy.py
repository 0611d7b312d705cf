"""Envoy as a pair of sidecars, configured in the shape that Istio gives it.

Outbound 15001 hands a connection by its original destination to a listener per port; inbound 15006 inspects TLS,
requires the client's certificate and admits one principal. HTTP passes a connection manager with Istio's retries and
filters on both sides; TCP passes the TCP proxy alone. Istio adds its statistics and metadata exchange, so that the
Envoy of a real mesh does more than this one.
"""

import json

from load import FULL_HANDSHAKE_LOADS, HTTP_LOADS, TCP_LOADS
from names import (APP_HOST, APP_PORT, CLIENT, CLIENT_ID, GRPC_PORT, INBOUND_PORT, IPERF_PORT, OUTBOUND_PORT, PROXY_UID,
                   SERVER, SERVER_ID, SERVER_IP, TRUST_DOMAIN)
from redirect import capture_inbound, capture_outbound

WORKERS = 2
API = "type.googleapis.com/envoy.extensions."
UNLIMITED = 4294967295


class Envoy:
    """The data plane `envoy-http1` (whose gRPC port speaks HTTP/2 throughout) or `envoy-tcp`.

    Without `resumption` every handshake is a full one, and handshakes are all that is measured.
    """

    encrypted = True

    def __init__(self, name, http, resumption=True):
        self.name, self.http, self.needs, self.resumption = name, http, ("envoy",), resumption
        self.loads = HTTP_LOADS if http else TCP_LOADS if resumption else FULL_HANDSHAKE_LOADS

    def start(self, pods, side):
        """Starts the sidecar of one side behind its redirect rules."""
        namespace = CLIENT if side == "client" else SERVER
        certificates = pods.certificates / side
        if side == "client":
            pods.redirect(namespace, capture_outbound(OUTBOUND_PORT))
            resources = _outbound(self.http, self.resumption, certificates)
        else:
            pods.redirect(namespace, capture_inbound(INBOUND_PORT))
            resources = _inbound(self.http, certificates)
        file = pods.folder / f"envoy-{side}.json"
        file.write_text(json.dumps({"admin": {"address": _address("127.0.0.1", 15000)}, "static_resources": resources,
                                    "layered_runtime": {"layers": [{"name": "limits", "static_layer": LIMITS}]}}))
        pods.spawn(f"{side}-proxy", namespace, PROXY_UID, pods.binaries["envoy"], "-c", file, "--concurrency", WORKERS,
                   "--disable-hot-restart", "--log-level", "warning", "--drain-time-s", 1)


LIMITS = {"overload.global_downstream_max_connections": "2147483647"}


def _outbound(http, resumption, certificates):
    inspectors = {"listener_filters": [_filter("listener", "tls_inspector", "TlsInspector"),
                                       _filter("listener", "http_inspector", "HttpInspector")],
                  "listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": True}
    listeners = [
        {"name": "virtualOutbound", "address": _address("0.0.0.0", OUTBOUND_PORT), "use_original_dst": True,
         "traffic_direction": "OUTBOUND", "filter_chains": [{"filters": [_tcp_proxy("PassthroughCluster")]}]},
        {"name": f"0.0.0.0_{APP_PORT}", "address": _address("0.0.0.0", APP_PORT), "bind_to_port": False,
         "traffic_direction": "OUTBOUND",
         "filter_chains": [{"filters": [_connection_manager("outbound", "app", False) if http else _tcp_proxy("app")]}],
         **(inspectors if http else {})},
        {"name": f"0.0.0.0_{GRPC_PORT}", "address": _address("0.0.0.0", GRPC_PORT), "bind_to_port": False,
         "traffic_direction": "OUTBOUND", **inspectors,
         "filter_chains": [{"filters": [_connection_manager("outbound", "grpc", False)]}]},
        {"name": f"0.0.0.0_{IPERF_PORT}", "address": _address("0.0.0.0", IPERF_PORT), "bind_to_port": False,
         "traffic_direction": "OUTBOUND", "filter_chains": [{"filters": [_tcp_proxy("iperf3")]}]},
    ]
    tls = {"sni": f"outbound_.{APP_PORT}_._.{APP_HOST}", **({} if resumption else {"max_session_keys": 0})}
    peer = {"exact": SERVER_ID}
    http_alpn, tcp_alpn = ["istio-http/1.1", "istio", "http/1.1"], ["istio-peer-exchange", "istio"]
    grpc_tls = _tls("Upstream", certificates, ["istio-h2", "istio", "h2"], peer, **tls)
    clusters = [
        _cluster("app", SERVER_IP, APP_PORT, http,
                 _tls("Upstream", certificates, http_alpn if http else tcp_alpn, peer, **tls)),
        _cluster("grpc", SERVER_IP, GRPC_PORT, "http2", grpc_tls),
        _cluster("iperf3", SERVER_IP, IPERF_PORT, False, _tls("Upstream", certificates, tcp_alpn, peer, **tls)),
        {"name": "PassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
         "connect_timeout": "10s"},
    ]
    return {"listeners": listeners, "clusters": clusters}


def _inbound(http, certificates):
    alpn = ["istio-peer-exchange", "h2", "http/1.1", "istio-h2", "istio-http/1.1", "istio"]
    tls = _tls("Downstream", certificates, alpn, {"prefix": f"spiffe://{TRUST_DOMAIN}/"},
               require_client_certificate=True)
    network_rbac = _filter("network", "rbac", "RBAC", rules=ONE_PRINCIPAL, stat_prefix="tcp.")

    def chain(name, port, filters):
        return {"name": name, "filters": filters, "transport_socket": tls,
                "filter_chain_match": {"destination_port": port, "transport_protocol": "tls"}}

    app = [_connection_manager("inbound", "app", True)] if http else [network_rbac, _tcp_proxy("app")]
    listener = {"name": "virtualInbound", "address": _address("0.0.0.0", INBOUND_PORT), "tcp_backlog_size": 8192,
                "traffic_direction": "INBOUND", "listener_filters_timeout": "0s",
                "continue_on_listener_filters_timeout": True,
                "listener_filters": [_filter("listener", "original_dst", "OriginalDst"),
                                     _filter("listener", "tls_inspector", "TlsInspector")],
                "filter_chains": [chain("app", APP_PORT, app),
                                  chain("grpc", GRPC_PORT, [_connection_manager("inbound", "grpc", True)]),
                                  chain("iperf3", IPERF_PORT, [network_rbac, _tcp_proxy("iperf3")])]}
    return {"listeners": [listener], "clusters": [_cluster("app", "127.0.0.1", APP_PORT, http),
                                                  _cluster("grpc", "127.0.0.1", GRPC_PORT, "http2"),
                                                  _cluster("iperf3", "127.0.0.1", IPERF_PORT, False)]}


ONE_PRINCIPAL = {"action": "ALLOW", "policies": {"client": {
    "permissions": [{"any": True}],
    "principals": [{"authenticated": {"principal_name": {"exact": CLIENT_ID}}}]}}}

RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2, "host_selection_retry_max_attempts": 5, "retriable_status_codes": [503],
    "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
        "@type": f"{API}retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
}


def _connection_manager(name, cluster, inbound):
    filters = [
        *([_filter("http", "rbac", "RBAC", rules=ONE_PRINCIPAL)] if inbound else []),
        _filter("http", "grpc_stats", "FilterConfig", emit_filter_state=True, stats_for_all_methods=False),
        _filter("http", "fault", "HTTPFault"),
        _filter("http", "cors", "Cors"),
        _filter("http", "router", "Router"),
    ]
    action = {"cluster": cluster, "timeout": "0s", **({} if inbound else {"retry_policy": RETRIES})}
    routes = [{"match": {"prefix": "/"}, "route": action}]
    service = APP_HOST.split(".")
    names = [".".join(service[:parts]) for parts in (1, 2, 3, 5)]
    ports = ("", f":{APP_PORT}", f":{GRPC_PORT}")
    hosts = [] if inbound else [{"name": APP_HOST, "routes": routes,
                                 "domains": [name + port for name in names for port in ports]}]
    return _filter(
        "network", "http_connection_manager", "HttpConnectionManager", stat_prefix=name, http_filters=filters,
        use_remote_address=not inbound, normalize_path=True, path_with_escaped_slashes_action="KEEP_UNCHANGED",
        generate_request_id=True, stream_idle_timeout="0s",
        forward_client_cert_details="APPEND_FORWARD" if inbound else "SANITIZE",
        route_config={"name": name, "validate_clusters": False,
                      "virtual_hosts": [*hosts, {"name": "any", "domains": ["*"], "routes": routes}]})


def _tcp_proxy(cluster):
    return _filter("network", "tcp_proxy", "TcpProxy", stat_prefix=cluster, cluster=cluster)


def _cluster(name, address, port, http, transport_socket=None):
    cluster = {
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [{key: UNLIMITED for key in (
            "max_connections", "max_pending_requests", "max_requests", "max_retries")}]},
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(address, port)}}]}]},
    }
    if http:
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{API}upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options" if http == "http2" else "http_protocol_options": {}}}}
    if transport_socket:
        cluster["transport_socket"] = transport_socket
    return cluster


def _tls(direction, certificates, alpn, peer, **options):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": f"{API}transport_sockets.tls.v3.{direction}TlsContext", **options,
        "common_tls_context": {
            "alpn_protocols": alpn,
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": {"filename": str(certificates / "tls.crt")},
                                  "private_key": {"filename": str(certificates / "tls.key")}}],
            "validation_context": {
                "trusted_ca": {"filename": str(certificates / "ca.crt")},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}]}}}}


def _filter(kind, name, message, **options):
    folder = {"listener": "filters.listener", "network": "filters.network", "http": "filters.http"}[kind]
    prefix = "envoy.filters." + kind
    return {"name": f"{prefix}.{name}", "typed_config": {"@type": f"{API}{folder}.{name}.v3.{message}", **options}}


def _address(address, port):
    return {"socket_address": {"address": address, "port_value": port}}
