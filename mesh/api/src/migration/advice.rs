//! What to do about a field of the mesh's own kinds that has no effect, by what its path says.

/// The kind, a part of the path, and what to do; the first that fits counts.
const ADVICE: &[(&str, &str, &str)] = &[
    (
        "VirtualService",
        "it is for gateways alone",
        "keep the gateway that serves it, and its VirtualService, with Istio",
    ),
    (
        "VirtualService",
        "spec.gateways",
        "name mesh alone here, and keep a VirtualService for the gateway with Istio",
    ),
    (
        "VirtualService",
        "@request.auth.claims",
        "decide by claims in an AuthorizationPolicy (when.key request.auth.claims), or route by a header that \
         RequestAuthentication's outputClaimToHeaders writes",
    ),
    (
        "VirtualService",
        "statPrefix",
        "take it out; istio_requests_total tells routes apart by destination and response",
    ),
    (
        "VirtualService",
        "%COMMAND%",
        "write a fixed value, or read x-forwarded-for, x-forwarded-client-cert and x-request-id, which are there anyway",
    ),
    (
        "VirtualService",
        "retryOn",
        "take these words out; they did nothing before either",
    ),
    (
        "DestinationRule",
        "zoneAwareLbSetting",
        "write localityLbSetting, with failover or distribute",
    ),
    (
        "DestinationRule",
        "consecutiveErrors",
        "write consecutive5xxErrors or consecutiveGatewayErrors; it did nothing before either",
    ),
    (
        "DestinationRule",
        "tunnel",
        "let the application call the tunnel's proxy itself (HTTPS_PROXY), or keep these clients with Istio",
    ),
    (
        "Sidecar",
        "spec.ingress",
        "name the ports in a Service, and let the application listen on the pod's address",
    ),
    (
        "Sidecar",
        "inboundConnectionPool",
        "limit the clients by connectionPool of a DestinationRule for the host",
    ),
    (
        "Sidecar",
        "egressProxy",
        "let the application call that proxy itself (HTTP_PROXY), or keep these workloads with Istio",
    ),
    (
        "Sidecar",
        "spec.egress",
        "let connections be redirected: take bind and captureMode out, and call hosts by their own names",
    ),
    (
        "AuthorizationPolicy",
        "targetRef",
        "for workloads write a selector; for gateways and waypoints keep Istio",
    ),
    (
        "RequestAuthentication",
        "targetRef",
        "for workloads write a selector; for gateways and waypoints keep Istio",
    ),
];

pub(super) fn of(kind: &str, path: &str) -> &'static str {
    ADVICE
        .iter()
        .find(|(of, part, _)| *of == kind && path.contains(part))
        .map_or(
            "see whether the workload can do without it; it may stay, and .status says when it counts",
            |(_, _, todo)| todo,
        )
}
