//! Tools for tests inside pods, whose images hold nothing but this binary: a client for HTTP, one for a raw TCP
//! stream, and an echo for both.

pub(crate) mod echo;
pub(crate) mod get;
pub(crate) mod tcp;
