//! The sidecar: captures a pod's traffic (`capture`) and carries it over mutual TLS (`sidecar`), with the
//! administration servers beside it (`admin`).

pub mod admin;
pub mod capture;
pub mod discovery;
pub mod wait;
