//! Tools for tests inside pods, whose images hold nothing but this binary: a client for HTTP, one for a raw TCP
//! stream, an echo for both, an external authorizer, and a server of files.

pub(crate) mod echo;
pub(crate) mod ext_authz;
pub(crate) mod files;
pub(crate) mod get;
pub(crate) mod tcp;
