//! The keys that verify end-user tokens: fetched for the rules of RequestAuthentications that name a `jwksUri` or only an
//! issuer, kept fresh, and handed to the index, which sends them to the sidecars.
//!
//! What a rule names is chosen by whoever may write RequestAuthentications in a namespace, and the operator reaches more
//! than they do. So every address that is dialled is looked at first ([`guard`]), after names are resolved ([`names`]) and
//! at every redirect ([`client`]). When keys cannot be fetched the last good ones stay for a bounded time ([`refresh`]);
//! after that, and before the first, there are none, and tokens of that issuer are refused. Sidecars that meet a key that
//! they do not know may ask for a fetch before its time (`asked`).

mod asked;
pub mod client;
pub mod guard;
pub mod names;
pub mod protected;
pub mod refresh;

pub use asked::Askings;
pub use client::Client;
pub use guard::Guard;
pub use refresh::{ASKED, KEEP, Times, Wanted, keep};

use std::sync::Arc;
use std::time::Duration;

use mesh_core::jwt::KeyOrigin;
use mesh_wire::request_authentication::Jwks;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::index::Index;
use crate::metrics::Metrics;

/// How long changes are gathered before it is looked which keys are wanted.
const GATHER: Duration = Duration::from_millis(100);

/// Fetches what the rules in the index ask for, and puts it there. Runs until the process ends.
pub async fn run(index: Arc<Index>, client: Arc<Client>, times: Times, askings: Askings, metrics: Arc<Metrics>) {
    let (want, wanted) = watch::channel(Wanted::new());
    let to = index.clone();
    let publish = move |origin: &KeyOrigin, keys: Option<Jwks>| {
        to.apply(|world, mesh| world.keys(origin, keys, &mesh.root_namespace));
    };
    let look = async {
        let mut batches = index.batches();
        loop {
            let now = index.read(|world, _| world.enforced().key_origins());
            want.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
            // A rule that came for no pod is noticed with the first pod that it is for.
            if let Err(RecvError::Closed) = batches.recv().await {
                return;
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    tokio::join!(look, keep(client, times, wanted, publish, askings, metrics));
}

#[cfg(test)]
pub(crate) mod tests;
