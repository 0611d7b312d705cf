//! The operator: it issues the mesh's certificates, keeps them fresh in Secrets, and serves discovery to the proxies.
//! Every replica serves; the one that holds the lease writes to the API server.

pub mod ca;
pub mod certificates;
pub mod debug;
pub mod discovery;
pub mod feeds;
pub mod health;
pub mod index;
pub mod jwks;
pub mod kubernetes;
pub mod mesh_config;
pub mod metrics;
pub mod reports;
pub mod run;
pub mod settings;
pub mod when_ready;
pub mod writers;
