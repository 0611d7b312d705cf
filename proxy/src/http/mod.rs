//! HTTP as both directions speak it: bodies, headers that end at each hop, pooled connections, and the exchange of one request
//! and response. Where a request goes is not decided here.
//!
//! A request is passed on in the version that it came in: HTTP/1.x by [`heads`], [`serve`], [`exchange`] and [`pool`], HTTP/2 by
//! [`http2_serve`], [`http2_client`] and [`http2_pool`]. [`upstream`] takes either.

pub mod body;
pub mod exchange;
pub mod expect;
pub mod grpc;
pub mod headers;
pub mod heads;
pub mod http2_client;
pub mod http2_pool;
pub mod http2_serve;
pub mod pool;
pub mod replay;
pub mod serve;
pub mod shared;
pub mod timed;
pub mod upstream;
