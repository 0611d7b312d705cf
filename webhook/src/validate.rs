//! Whether a resource of the mesh is accepted, and what its author should hear.

use mesh_api::{MeshConfig, validation};
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
    match validation::judge(group, kind, object, mesh.root_namespace(own_namespace)) {
        Some(Ok(warnings)) => Verdict::Accepted(warnings),
        Some(Err(errors)) => Verdict::Refused(mesh_api::join(&errors)),
        None => Verdict::Foreign,
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
        let tunnel = json!({"host": "reviews", "trafficPolicy": {"tunnel": {"targetHost": "a.b", "targetPort": 443}}});
        assert!(matches!(judge(tunnel), Verdict::Accepted(w) if w[0].contains("without effect in this version")));
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
    fn verdicts_on_routes_and_what_workloads_see() {
        let judge = |kind: &str, spec: Value| {
            let object = json!({"metadata": {"name": "r", "namespace": "a"}, "spec": spec});
            let mesh = MeshConfig::default();
            validate("networking.istio.io", kind, &object, &mesh, "istio-system")
        };
        let routes = |http: Value| json!({"hosts": ["reviews"], "http": http});
        let to = json!([{"destination": {"host": "reviews"}}]);
        assert_eq!(
            judge("VirtualService", routes(json!([{"route": to}]))),
            Verdict::Accepted(vec![])
        );
        let twice = routes(json!([{"route": to}, {"route": to}]));
        assert!(matches!(judge("VirtualService", twice), Verdict::Accepted(w) if w[0].contains("never reached")));
        let timeout = routes(json!([{"route": to, "timeout": "0s"}]));
        assert!(
            matches!(judge("VirtualService", timeout), Verdict::Refused(why) if why.starts_with("spec.http[0].timeout"))
        );
        let egress = |host: &str| json!({"egress": [{"hosts": [host]}]});
        assert_eq!(judge("Sidecar", egress("./*")), Verdict::Accepted(vec![]));
        assert!(matches!(judge("Sidecar", egress("*")), Verdict::Refused(why) if why.contains("NAMESPACE/HOST")));
    }

    #[test]
    fn verdicts_on_authorization_and_tokens() {
        let judge = |kind: &str, spec: Value| {
            let object = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
            validate(
                "security.istio.io",
                kind,
                &object,
                &MeshConfig::default(),
                "istio-system",
            )
        };
        let deny = |operation: Value| json!({"action": "DENY", "rules": [{"to": [{ "operation": operation }]}]});
        assert_eq!(
            judge("AuthorizationPolicy", deny(json!({"ports": ["80"]}))),
            Verdict::Accepted(vec![])
        );
        assert!(matches!(
            judge("AuthorizationPolicy", deny(json!({"paths": ["/admin*"]}))),
            Verdict::Accepted(warnings) if warnings[0].contains("refuses every connection to ports that are not HTTP's")
        ));
        assert!(matches!(
            judge("AuthorizationPolicy", deny(json!({"ports": ["http"]}))),
            Verdict::Refused(message) if message.starts_with("spec.rules[0].to[0].operation.ports[0]: \"http\"")
        ));
        assert!(matches!(
            judge("RequestAuthentication", json!({"jwtRules": [{"issuer": "https://a"}]})),
            Verdict::Accepted(warnings) if warnings[0].contains("has no audiences")
        ));
        assert!(matches!(
            judge("RequestAuthentication", json!({"jwtRules": [{"issuer": "a", "jwksUri": "file:///a"}]})),
            Verdict::Refused(message) if message.starts_with("spec.jwtRules[0].jwksUri: \"file:///a\"")
        ));
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
                "Gateway",
                &json!({}),
                &MeshConfig::default(),
                "istio-system"
            ),
            Verdict::Foreign
        );
    }
}
