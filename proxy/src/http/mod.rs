//! HTTP/1.x as both directions speak it: bodies, headers that end at each hop, pooled connections, and the exchange of one
//! request and response. Where a request goes is not decided here.

pub mod body;
pub mod exchange;
pub mod headers;
pub mod pool;
pub mod serve;
