"""haproxy and nginx as pairs of TCP proxies with mutual TLS 1.3: how little a pair of sidecars can cost.

They do not read the original destination, so each port has one of the sidecar's own, and they check a DNS name and the
chain instead of a SPIFFE ID.
"""

from load import TCP_LOADS
from names import APP_PORT, CLIENT, INBOUND_PORT, IPERF_PORT, OUTBOUND_PORT, PROXY_UID, SERVER, SERVER_IP
from redirect import map_inbound, map_outbound

OUTBOUND = {APP_PORT: OUTBOUND_PORT, IPERF_PORT: OUTBOUND_PORT + 1}
INBOUND = {APP_PORT: INBOUND_PORT, IPERF_PORT: INBOUND_PORT + 1}
WORKERS = 2


class _Stream:
    encrypted, http, needs, loads = True, False, (), TCP_LOADS

    def start(self, pods, side):
        """Starts the proxy of one side behind its redirect rules."""
        client = side == "client"
        pods.redirect(CLIENT if client else SERVER, map_outbound(OUTBOUND) if client else map_inbound(INBOUND))
        folder = pods.folder / "proxy"
        file = folder / f"{self.name}-{side}.conf"
        run = file.with_suffix("")
        file.write_text(self.configuration(client, pods.certificates / f"{side}-stream", run))
        pods.spawn(f"{side}-proxy", CLIENT if client else SERVER, PROXY_UID, *self.command(file))


class Haproxy(_Stream):
    """The data plane `haproxy`."""

    name = "haproxy"

    def command(self, file):
        """The command line; -db keeps it in the foreground."""
        return "haproxy", "-db", "-f", file

    def configuration(self, client, certificates, _):
        """Its configuration file."""
        own, peers = f"crt {certificates}/both.pem", f"ca-file {certificates}/ca.crt verify required"
        lines = ["global", f" nbthread {WORKERS}", " maxconn 9000", " log stderr local0 err", "defaults", " mode tcp",
                 " timeout connect 10s", " timeout client 1h", " timeout server 1h", " backlog 8192"]
        for port, listen in (OUTBOUND if client else INBOUND).items():
            lines.append(f"listen port{port}")
            if client:
                lines.append(f" bind 0.0.0.0:{listen}")
                lines.append(f" server peer {SERVER_IP}:{port} ssl {own} {peers} verifyhost server.bench"
                             " sni str(server.bench) ssl-min-ver TLSv1.3")
            else:
                lines.append(f" bind 0.0.0.0:{listen} ssl {own} {peers} ssl-min-ver TLSv1.3")
                lines.append(f" server application 127.0.0.1:{port}")
        return "\n".join(lines) + "\n"


class Nginx(_Stream):
    """The data plane `nginx`: its stream module."""

    name = "nginx"

    def command(self, file):
        """The command line; the configuration keeps it in the foreground."""
        return "nginx", "-p", file.parent, "-c", file

    def configuration(self, client, certificates, run):
        """Its configuration file."""
        if client:
            tls = (f"proxy_ssl on; proxy_ssl_certificate {certificates}/tls.crt; proxy_ssl_certificate_key"
                   f" {certificates}/tls.key; proxy_ssl_trusted_certificate {certificates}/ca.crt; proxy_ssl_verify on;"
                   " proxy_ssl_name server.bench; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;")
        else:
            tls = (f"ssl_certificate {certificates}/tls.crt; ssl_certificate_key {certificates}/tls.key;"
                   f" ssl_client_certificate {certificates}/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.3;"
                   " ssl_session_cache none; ssl_session_tickets on;")
        servers = []
        for port, listen in (OUTBOUND if client else INBOUND).items():
            flag, to = ("", f"{SERVER_IP}:{port}") if client else (" ssl", f"127.0.0.1:{port}")
            servers.append(f"server {{ listen 0.0.0.0:{listen}{flag} backlog=8192; {tls} proxy_pass {to}; }}")
        return "\n".join((
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;", "daemon off;", f"worker_processes {WORKERS};",
            "worker_rlimit_nofile 20000;", f"pid {run}.pid;", "error_log stderr error;",
            "events { worker_connections 10000; }", "stream {", "tcp_nodelay on;", *servers, "}")) + "\n"
