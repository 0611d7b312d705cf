//! AuthorizationPolicy: who may call what, and which rule says so.
//!
//! A [`policy::Policy`] is a resource, parsed; [`facts::Facts`] are what is known of a connection or request.

pub mod facts;
pub mod matches;
pub mod policy;
