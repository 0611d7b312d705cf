//! What a line of the access log can say of a request or connection.

use super::flags::Flags;
use crate::cluster::Cluster;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Version};
use mesh_core::identity::SpiffeId;
use mesh_core::routing::Target;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Which way a request or connection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// From the application.
    #[default]
    Out,
    /// To the application.
    In,
}

/// Where a destination's routes led a request or connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Led {
    /// It has none: to the destination.
    #[default]
    Straight,
    /// To this.
    To(Target),
    /// Nowhere: the proxy answered.
    Nowhere,
}

/// The facts of one line; what is not known is empty.
#[derive(Debug, Default)]
pub struct Facts {
    /// Which way it went.
    pub way: Way,
    /// When it began.
    pub began: Option<SystemTime>,
    /// How long it took.
    pub elapsed: Duration,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// What the client dialled.
    pub dialled: Option<SocketAddr>,
    /// Whom the client proved to be.
    pub identity: Option<SpiffeId>,
    /// The name that the client's TLS asked for.
    pub server_name: Option<Arc<str>>,
    /// The destination that was called.
    pub destination: Option<Arc<Cluster>>,
    /// Istio's name of a cluster that stands for none.
    pub cluster: Option<&'static str>,
    /// Where the destination's routes led.
    pub led: Led,
    /// The route's name, empty where it has none; `None` where no VirtualService routes.
    pub route: Option<Arc<str>>,
    /// The server.
    pub upstream: Option<SocketAddr>,
    /// The proxy's address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// How often the request was sent.
    pub attempts: u32,
    /// The response's code; 0 for none.
    pub code: u16,
    /// What went wrong.
    pub flags: Flags,
    /// Why the code is what it is, in Envoy's words.
    pub details: Cow<'static, str>,
    /// Why the connection was ended, in Envoy's words.
    pub termination: Cow<'static, str>,
    /// Why the server could not be talked to.
    pub failure: String,
    /// Bytes from the client, of a request those of its body.
    pub received: u64,
    /// Bytes to the client, of a response those of its body.
    pub sent: u64,
    /// From the beginning to the response's head.
    pub upstream_time: Option<Duration>,
    /// gRPC's status.
    pub status: Option<u8>,
    /// The request's method.
    pub method: Option<Method>,
    /// Its target.
    pub path: Option<PathAndQuery>,
    /// Its version.
    pub version: Option<Version>,
    /// Whom it names.
    pub authority: Option<HeaderValue>,
    /// `user-agent`.
    pub user_agent: Option<HeaderValue>,
    /// `x-request-id`.
    pub request_id: Option<HeaderValue>,
    /// `x-forwarded-for`.
    pub forwarded_for: Option<HeaderValue>,
    /// `x-envoy-original-path`.
    pub original_path: Option<HeaderValue>,
    /// Further headers of the request that the format names.
    pub more_of_request: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the response that it names.
    pub more_of_response: Vec<(HeaderName, HeaderValue)>,
}

impl Facts {
    /// Forgets everything and keeps the memory. Field by field: most are empty, and a whole one made anew would be moved.
    pub fn clear(&mut self) {
        self.began = None;
        self.peer = None;
        self.dialled = None;
        self.identity = None;
        self.server_name = None;
        self.destination = None;
        self.cluster = None;
        self.led = Led::Straight;
        self.route = None;
        self.upstream = None;
        self.upstream_local = None;
        self.attempts = 0;
        self.code = 0;
        self.flags = Flags::NONE;
        self.details = Cow::Borrowed("");
        self.termination = Cow::Borrowed("");
        self.failure.clear();
        (self.received, self.sent) = (0, 0);
        self.upstream_time = None;
        self.status = None;
        self.method = None;
        self.path = None;
        self.version = None;
        self.authority = None;
        self.user_agent = None;
        self.request_id = None;
        self.forwarded_for = None;
        self.original_path = None;
        self.more_of_request.clear();
        self.more_of_response.clear();
    }
}
