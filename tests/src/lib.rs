//! What the integration tests share, and the tools that run beside them.

pub mod cluster;
pub mod fixtures;
