//! A server's memory of one discovery stream: what the proxy subscribed to, what it was sent, what it accepted.
//!
//! A request goes in through [`Stream::request`], which says what it means; what the server then knows of the subscribed
//! names goes through [`Stream::respond`], which makes the response that tells the proxy what it has not been told, or
//! nothing. The protocol is Envoy's incremental xDS (xDS protocol, "Incremental xDS").

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use std::collections::{HashMap, HashSet};

/// The most resources of one type that one proxy may subscribe to: as many hosts, addresses, callers and names of DNS as a
/// proxy keeps, and some that it is just forgetting.
pub const MAX_SUBSCRIPTIONS: usize = 40_000;

/// A resource as a server holds it: encoded once, shared by all streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Changes whenever the bytes do.
    pub version: String,
    /// The encoded message.
    pub body: Bytes,
}

/// What a proxy has been told about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// Nothing yet.
    Nothing,
    /// This version.
    Version(String),
    /// That it does not exist.
    Absent,
}

/// What a request means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Names that are now to be answered, even if they were answered before.
    pub subscribed: Vec<String>,
    /// Names that need no answer any more.
    pub unsubscribed: Vec<String>,
    /// What became of a response of ours.
    pub verdict: Option<Verdict>,
}

/// What a proxy made of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is in force.
    Accepted,
    /// Nothing of it is; the text says why.
    Refused(String),
}

/// Why a request ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than [`MAX_SUBSCRIPTIONS`].
    #[error("more than {MAX_SUBSCRIPTIONS} subscriptions of type {0}")]
    TooMany(String),
}

/// One type's part of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    told: HashMap<String, Told>,
    /// The nonce that the last response carried; verdicts on older ones no longer matter.
    nonce: u64,
}

impl Stream {
    /// Takes a request of this stream's type.
    ///
    /// # Errors
    /// [`RequestError::TooMany`], before anything of the request is taken.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<Meaning, RequestError> {
        let held = &request.initial_resource_versions;
        // A name that is held is among the subscribed ones, and one that is told again is not one more.
        let names = held.keys().chain(&request.resource_names_subscribe);
        let new: HashSet<&String> = names.filter(|name| !self.told.contains_key(*name)).collect();
        if self.told.len() + new.len() > MAX_SUBSCRIPTIONS {
            return Err(RequestError::TooMany(request.type_url.clone()));
        }
        for (name, version) in held {
            self.told.insert(name.clone(), Told::Version(version.clone()));
        }
        for name in &request.resource_names_subscribe {
            // Asking again for what was told means that the proxy wants to hear it again, except where it has just said
            // that it holds a version.
            if !held.contains_key(name) {
                self.told.insert(name.clone(), Told::Nothing);
            }
        }
        for name in &request.resource_names_unsubscribe {
            self.told.remove(name);
        }
        let verdict = (request.response_nonce == self.nonce.to_string()).then(|| match &request.error_detail {
            None => Verdict::Accepted,
            Some(status) => Verdict::Refused(status.message.clone()),
        });
        Ok(Meaning {
            subscribed: request.resource_names_subscribe.clone(),
            unsubscribed: request.resource_names_unsubscribe.clone(),
            verdict,
        })
    }

    /// The names that the proxy is subscribed to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.told.keys().map(String::as_str)
    }

    /// How many names the proxy is subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.told.len()
    }

    /// Whether the proxy is subscribed to a name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.told.contains_key(name)
    }

    /// Makes the response that tells the proxy what of `known` it has not been told, or `None` where it has been told all.
    /// `None` beside a name means that it does not exist. Names without a subscription are passed over.
    pub fn respond<'a>(
        &mut self,
        type_url: &str,
        known: impl IntoIterator<Item = (&'a str, Option<Encoded>)>,
    ) -> Option<DeltaDiscoveryResponse> {
        let mut response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            ..Default::default()
        };
        for (name, resource) in known {
            let Some(told) = self.told.get_mut(name) else { continue };
            match resource {
                Some(Encoded { version, body }) => {
                    if matches!(told, Told::Version(had) if *had == version) {
                        continue;
                    }
                    *told = Told::Version(version.clone());
                    response.resources.push(Resource {
                        name: name.to_owned(),
                        version,
                        resource: Some(Any {
                            type_url: type_url.to_owned(),
                            value: body.to_vec(),
                        }),
                        ..Default::default()
                    });
                }
                None if *told == Told::Absent => {}
                None => {
                    *told = Told::Absent;
                    response.removed_resources.push(name.to_owned());
                }
            }
        }
        if response.resources.is_empty() && response.removed_resources.is_empty() {
            return None;
        }
        self.nonce += 1;
        response.nonce = self.nonce.to_string();
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::rpc::Status;

    const TYPE: &str = crate::resources::type_url::DESTINATION;

    fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: TYPE.into(),
            resource_names_subscribe: names.iter().map(|n| (*n).into()).collect(),
            ..Default::default()
        }
    }

    fn version(v: &str) -> Option<Encoded> {
        Some(Encoded {
            version: v.into(),
            body: Bytes::from_static(b"body"),
        })
    }

    #[test]
    fn tells_each_version_once_and_each_absence_once() {
        let mut stream = Stream::default();
        stream.request(&subscribe(&["a", "b"])).unwrap();
        let first = stream
            .respond(TYPE, [("a", version("1")), ("b", None), ("c", version("1"))])
            .unwrap();
        assert_eq!(
            (first.resources.len(), &first.removed_resources),
            (1, &vec!["b".to_owned()])
        );
        assert_eq!(stream.respond(TYPE, [("a", version("1")), ("b", None)]), None);
        let second = stream
            .respond(TYPE, [("a", version("2")), ("b", version("1"))])
            .unwrap();
        assert_eq!(second.resources.len(), 2);
        assert_ne!(first.nonce, second.nonce);
    }

    #[test]
    fn a_reconnecting_proxy_hears_only_what_changed() {
        let mut stream = Stream::default();
        let mut request = subscribe(&["a", "b"]);
        request.initial_resource_versions = [("a".into(), "1".into()), ("b".into(), "1".into())].into();
        stream.request(&request).unwrap();
        let response = stream
            .respond(TYPE, [("a", version("1")), ("b", version("2"))])
            .unwrap();
        assert_eq!(
            response.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
            ["b"]
        );
    }

    #[test]
    fn asking_again_answers_again_and_unsubscribing_ends_it() {
        let mut stream = Stream::default();
        stream.request(&subscribe(&["a"])).unwrap();
        assert!(stream.respond(TYPE, [("a", version("1"))]).is_some());
        stream.request(&subscribe(&["a"])).unwrap();
        assert!(stream.respond(TYPE, [("a", version("1"))]).is_some());
        let mut leave = subscribe(&[]);
        leave.resource_names_unsubscribe = vec!["a".into()];
        stream.request(&leave).unwrap();
        assert!(!stream.has("a"));
        assert_eq!(stream.respond(TYPE, [("a", version("2"))]), None);
    }

    #[test]
    fn verdicts_count_for_the_last_response_only() {
        let mut stream = Stream::default();
        stream.request(&subscribe(&["a"])).unwrap();
        let nonce = stream.respond(TYPE, [("a", version("1"))]).unwrap().nonce;
        let answer = |nonce: &str, error: Option<&str>| DeltaDiscoveryRequest {
            response_nonce: nonce.into(),
            error_detail: error.map(|message| Status {
                message: message.into(),
                ..Default::default()
            }),
            ..subscribe(&[])
        };
        assert_eq!(stream.request(&answer("0", None)).unwrap().verdict, None);
        assert_eq!(
            stream.request(&answer(&nonce, None)).unwrap().verdict,
            Some(Verdict::Accepted)
        );
        assert_eq!(
            stream.request(&answer(&nonce, Some("bad"))).unwrap().verdict,
            Some(Verdict::Refused("bad".into()))
        );
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut stream = Stream::default();
        let names: Vec<String> = (0..=MAX_SUBSCRIPTIONS).map(|i| i.to_string()).collect();
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            ..subscribe(&[])
        };
        assert!(stream.request(&request).is_err());
        assert_eq!(stream.names().count(), 0);
    }

    #[test]
    fn a_proxy_with_all_that_it_may_keep_can_come_back() {
        let mut stream = Stream::default();
        let names: Vec<String> = (0..=MAX_SUBSCRIPTIONS).map(|at| format!("host/s{at}:80")).collect();
        let held = |names: &[String]| DeltaDiscoveryRequest {
            type_url: TYPE.into(),
            resource_names_subscribe: names.to_vec(),
            initial_resource_versions: names.iter().map(|name| (name.clone(), "1".to_owned())).collect(),
            ..Default::default()
        };
        for chunk in names[..MAX_SUBSCRIPTIONS].chunks(1000) {
            assert!(stream.request(&held(chunk)).is_ok());
        }
        assert!(
            stream.request(&held(&names[..10])).is_ok(),
            "what is told again is not one more"
        );
        assert_eq!(
            stream.request(&held(&names[MAX_SUBSCRIPTIONS..])),
            Err(RequestError::TooMany(TYPE.into()))
        );
    }
}
