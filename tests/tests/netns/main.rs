//! The proxy's binary in network namespaces: pods as namespaces on a bridge, redirect rules by `proxy capture`, `proxy sidecar`
//! as uid 1337, discovery from fixtures. Needs root and `ip netns`; what cannot run here says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In a test's own functions too, a failure is a panic.

mod authorization;
mod authorizer;
mod caller;
mod candidates;
mod command_line;
mod control_plane;
mod destination_rules;
mod direct;
mod envoy;
mod ext_authz;
mod generated;
mod grpc;
mod h2spec;
mod http;
mod http2;
mod identities;
mod kernel_tls;
mod keys;
mod lifecycle;
mod matrices;
mod namespaces;
mod over_http;
mod over_http2;
mod over_tcp;
mod pod;
mod policy;
mod rotation;
mod routes;
mod routes_http2;
mod routes_tcp;
mod secrets;
mod server_first;
mod smuggling;
mod telemetry;
mod tls;
mod tls_authority;
mod tunnels;
mod world;
