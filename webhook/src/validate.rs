//! Whether a resource of the mesh is accepted, and what its author should hear.

use mesh_api::{MeshConfig, destination_rule, peer_authentication};
use serde_json::Value;

/// The verdict on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is accepted, with warnings.
    Accepted(Vec<String>),
    /// It is refused, with every field that is wrong.
    Refused(String),
    /// It is none of the mesh's resources.
    Foreign,
}

/// Judges an object of a group and kind.
#[must_use]
pub fn validate(group: &str, kind: &str, object: &Value, mesh: &MeshConfig, own_namespace: &str) -> Verdict {
    match (group, kind) {
        ("security.istio.io", "PeerAuthentication") => {
            let namespace = object
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .unwrap_or_default();
            peer_authentication(object, namespace, mesh.root_namespace(own_namespace))
        }
        ("networking.istio.io", "DestinationRule") => destination_rule(object),
        _ => Verdict::Foreign,
    }
}

fn destination_rule(object: &Value) -> Verdict {
    let resource = match destination_rule::read(object.clone()) {
        Ok(resource) => resource,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    match destination_rule::parse(&resource) {
        Ok(_) => Verdict::Accepted(destination_rule::warnings(&resource)),
        Err(errors) => Verdict::Refused(mesh_api::join(&errors)),
    }
}

fn peer_authentication(object: &Value, namespace: &str, root_namespace: &str) -> Verdict {
    let resource = match peer_authentication::read(object.clone()) {
        Ok(resource) => resource,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    match peer_authentication::parse(&resource) {
        Ok(_) => Verdict::Accepted(peer_authentication::warnings(&resource.spec, namespace, root_namespace)),
        Err(errors) => Verdict::Refused(mesh_api::join(&errors)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_on_destination_rules() {
        let judge = |spec: Value| {
            let object = json!({"metadata": {"name": "r", "namespace": "a"}, "spec": spec});
            validate(
                "networking.istio.io",
                "DestinationRule",
                &object,
                &MeshConfig::default(),
                "istio-system",
            )
        };
        let tls = |mode: &str| json!({"host": "reviews", "trafficPolicy": {"tls": {"mode": mode}}});
        assert_eq!(judge(tls("ISTIO_MUTUAL")), Verdict::Accepted(vec![]));
        let subsets = json!({"host": "reviews", "subsets": [{"name": "v1"}]});
        assert!(matches!(judge(subsets), Verdict::Accepted(w) if w[0].contains("without effect in this version")));
        assert_eq!(
            judge(tls("ON")),
            Verdict::Refused(
                "spec.trafficPolicy.tls.mode: \"ON\" is not accepted, expected one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL"
                    .to_owned()
            )
        );
        assert!(matches!(judge(json!([])), Verdict::Refused(_)));
    }

    #[test]
    fn verdicts() {
        let judge = |namespace: &str, spec: Value| {
            let object = json!({"metadata": {"name": "p", "namespace": namespace}, "spec": spec});
            validate(
                "security.istio.io",
                "PeerAuthentication",
                &object,
                &MeshConfig::default(),
                "istio-system",
            )
        };
        assert_eq!(
            judge("a", json!({"mtls": {"mode": "STRICT"}})),
            Verdict::Accepted(vec![])
        );
        assert!(matches!(judge("a", json!({"selector": {}})), Verdict::Accepted(w) if w.len() == 1));
        let selected = json!({"selector": {"matchLabels": {"app": "web"}}});
        assert!(matches!(judge("istio-system", selected), Verdict::Accepted(w) if w[0].contains("ignored")));
        assert_eq!(
            judge("a", json!({"mtls": {"mode": "ON"}})),
            Verdict::Refused(
                "spec.mtls.mode: \"ON\" is not accepted, expected one of UNSET, DISABLE, PERMISSIVE, STRICT".to_owned()
            )
        );
        assert_eq!(
            validate(
                "networking.istio.io",
                "Sidecar",
                &json!({}),
                &MeshConfig::default(),
                "istio-system"
            ),
            Verdict::Foreign
        );
    }
}
