//! What counts as under way.

use super::registry::Host;
use std::sync::Arc;

/// A request or connection under way to an endpoint. It goes with the response to its end.
#[derive(Debug)]
pub struct Use {
    host: Arc<Host>,
}

impl Use {
    pub(super) fn new(host: Arc<Host>) -> Self {
        host.begin();
        Self { host }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.host.end();
    }
}
