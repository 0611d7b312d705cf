//! How the operator uses the API server: watches that survive bad objects, and the lease that decides who writes.

pub mod install;
pub mod leader;
pub mod watch;
