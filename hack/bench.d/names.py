"""What every part must agree on: addresses, ports, identities and the load's own header."""

NODE, CLIENT, SERVER = "pinnace-bench-node", "pinnace-bench-client", "pinnace-bench-server"
NODE_IP, CLIENT_IP, SERVER_IP = "10.77.0.254", "10.77.0.1", "10.77.0.2"

APP_PORT = 8080
GRPC_PORT = 8082
IPERF_PORT = 5201
DISCOVERY_PORT = 15012
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006

PROXY_UID = 1337
APP_UID = 65534

TRUST_DOMAIN = "cluster.local"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/client"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/server"
DISCOVERY_ID = f"spiffe://{TRUST_DOMAIN}/ns/istio-system/sa/pinnace-operator"

APP_HOST = "app.default.svc.cluster.local"
URL = f"http://{SERVER_IP}:{APP_PORT}/"
GRPC_URL = f"http://{SERVER_IP}:{GRPC_PORT}/bench.Echo/Unary"
GRPC_AUTHORITY = f":authority: {APP_HOST}:{GRPC_PORT}"
HOST_HEADER = f"Host: {APP_HOST}:{APP_PORT}"
"""Every load sends it: a mesh that routes by Host must find the Service, a mesh that does not ignores it."""
