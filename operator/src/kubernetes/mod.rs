//! How the operator uses the API server: the client, watches that survive bad objects, and the lease that decides who writes.

pub mod client;
pub mod leader;
pub mod watch;
