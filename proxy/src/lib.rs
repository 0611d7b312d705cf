//! The sidecar: captures a pod's traffic (`capture`) and carries it over mutual TLS (`sidecar`), with the
//! administration servers beside it (`admin`).

pub mod admin;
pub mod capture;
pub mod cluster;
pub mod denials;
pub mod discovery;
pub mod dns;
pub mod ext_authz;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod kernel_tls;
pub mod metrics;
pub mod net;
pub mod origination;
pub mod outbound;
pub mod refusals;
pub mod reports;
pub mod resolve;
pub mod sidecar;
pub mod telemetry;
pub mod tried;
pub mod wait;
pub mod worker;
