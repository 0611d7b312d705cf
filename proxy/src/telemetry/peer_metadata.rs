//! What Istio's proxies say of themselves in the header `x-envoy-peer-metadata`: a protobuf `Struct` in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
pub use mesh_core::request::headers::{PEER_METADATA, PEER_METADATA_ID};
use mesh_core::workload::Metadata;
use prost::Message;

/// The most bytes of the header; Istio's are 1 to 2 KiB.
const MOST_BYTES: usize = 8 * 1024;

/// Reads the header; `None` for what is none.
#[must_use]
pub fn parse(header: &[u8]) -> Option<Metadata> {
    if header.len() > MOST_BYTES {
        return None;
    }
    let bytes = STANDARD.decode(header).ok()?;
    let said = Struct::decode(bytes.as_slice()).ok()?;
    let labels = match said.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => Some(labels),
        _ => None,
    };
    let label = |name| labels.map(|labels| text(labels, name)).unwrap_or_default();
    Some(Metadata {
        name: text(&said, "WORKLOAD_NAME"),
        namespace: text(&said, "NAMESPACE"),
        app: label("app"),
        version: label("version"),
        canonical_name: label("service.istio.io/canonical-name"),
        canonical_revision: label("service.istio.io/canonical-revision"),
        cluster: text(&said, "CLUSTER_ID"),
    })
}

fn text(said: &Struct, name: &str) -> Box<str> {
    match said.fields.get(name) {
        Some(Value {
            kind: Some(Kind::StringValue(text)),
        }) => text.as_str().into(),
        _ => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn a_peer_of_istios_is_understood() {
        let string = |text: &str| value(Kind::StringValue(text.to_owned()));
        let labels = Struct {
            fields: [
                ("app".to_owned(), string("reviews")),
                ("service.istio.io/canonical-name".to_owned(), string("reviews")),
            ]
            .into(),
        };
        let said = Struct {
            fields: [
                ("WORKLOAD_NAME".to_owned(), string("reviews-v1")),
                ("NAMESPACE".to_owned(), string("shop")),
                ("CLUSTER_ID".to_owned(), string("Kubernetes")),
                ("LABELS".to_owned(), value(Kind::StructValue(labels))),
            ]
            .into(),
        };
        let metadata = parse(STANDARD.encode(said.encode_to_vec()).as_bytes()).unwrap();
        assert_eq!((&*metadata.name, &*metadata.namespace), ("reviews-v1", "shop"));
        assert_eq!((&*metadata.app, &*metadata.version), ("reviews", ""));
        assert_eq!(
            (&*metadata.canonical_name, &*metadata.cluster),
            ("reviews", "Kubernetes")
        );
    }

    #[test]
    fn anything_else_is_nothing() {
        for header in ["%%%", "AAAA////", &"A".repeat(MOST_BYTES + 4)] {
            assert_eq!(parse(header.as_bytes()), None, "{header}");
        }
    }
}
