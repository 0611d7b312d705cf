//! What a proxy asks of the keys that verify tokens: to fetch them again, because a token names one that it does not know.
//! It may ask for the keys of its own pod's rules, and is answered when they were fetched, be they new or not; whatever is
//! new of them was sent before.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_wire::delta::{self, Encoded, Meaning, RequestError};
use mesh_wire::resources::{KeyRefresh, type_url};
use prost::Message as _;
use tokio::task::JoinSet;

use crate::index::Index;
use crate::index::changes::Named;
use crate::jwks::Askings;
use crate::metrics::Metrics;

/// What one stream has asked for.
pub(super) struct KeyRefreshes {
    askings: Askings,
    metrics: Arc<Metrics>,
    stream: delta::Stream,
    /// The names that are being fetched.
    under_way: HashSet<String>,
    fetches: JoinSet<(String, bool)>,
    answers: u64,
}

impl KeyRefreshes {
    pub(super) fn new(askings: Askings, metrics: Arc<Metrics>) -> Self {
        Self {
            askings,
            metrics,
            stream: delta::Stream::default(),
            under_way: HashSet::new(),
            fetches: JoinSet::new(),
            answers: 0,
        }
    }

    /// Takes a request; the answer to the names in it that the pod may not ask for. The others are asked for until
    /// [`KeyRefreshes::next`] says of them.
    ///
    /// # Errors
    /// Too many names.
    pub(super) fn request(
        &mut self,
        index: &Index,
        pod: &Named,
        request: &DeltaDiscoveryRequest,
    ) -> Result<(Meaning, Option<DeltaDiscoveryResponse>), RequestError> {
        let meaning = self.stream.request(request)?;
        let mut refused = Vec::new();
        for name in &meaning.subscribed {
            match index.key_origin(pod, name) {
                None => {
                    self.count("refused");
                    refused.push((name.as_str(), None));
                }
                Some(origin) => {
                    if self.under_way.insert(name.clone()) {
                        let (askings, name) = (self.askings.clone(), name.clone());
                        self.fetches.spawn(async move { (name, askings.ask(&origin).await) });
                    }
                }
            }
        }
        let response = self.stream.respond(type_url::KEY_REFRESH, refused);
        Ok((meaning, response))
    }

    /// Waits until something that was asked for was fetched, or could not be; for ever while nothing is asked for.
    pub(super) async fn next(&mut self) -> (String, bool) {
        while let Some(done) = self.fetches.join_next().await {
            // A task ends only with its answer.
            if let Ok(done) = done {
                return done;
            }
        }
        std::future::pending().await
    }

    /// The answer to what [`KeyRefreshes::next`] returned; `None` where the proxy has given it up.
    pub(super) fn answer(&mut self, name: &str, fetched: bool) -> Option<DeltaDiscoveryResponse> {
        self.under_way.remove(name);
        self.count(if fetched { "fetched" } else { "failed" });
        self.answers += 1;
        let answer = Encoded {
            version: self.answers.to_string(),
            body: Bytes::from(KeyRefresh { fetched }.encode_to_vec()),
        };
        self.stream.respond(type_url::KEY_REFRESH, [(name, Some(answer))])
    }

    fn count(&self, result: &str) {
        self.metrics.jwks_askings.with_label_values(&[result]).inc();
    }
}
