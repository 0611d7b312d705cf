//! `inject.istio.io/templates`: which of Istio's templates a pod asks to be injected with. Here there is one.

use super::values;
use crate::Invalid;

const ACCEPTED: &str = "sidecar: gateways and proxyless gRPC (gateway, grpc-agent, grpc-simple) and templates of one's \
                        own are not injected here";

/// Refuses every template but `sidecar`, which is what is injected anyway.
pub(super) fn check(name: &str, value: &str) -> Result<(), Invalid> {
    let mut asked = values::parts(value).peekable();
    if asked.peek().is_some() && asked.all(|template| template == "sidecar") {
        Ok(())
    } else {
        Err(Invalid::new(name, value, ACCEPTED))
    }
}
