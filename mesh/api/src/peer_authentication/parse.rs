//! From the resource to the domain's policy, with Istio's validation
//! (istio/istio pkg/config/validation, PeerAuthentication).

use std::collections::BTreeMap;

use kube::ResourceExt;
use mesh_core::peer_authentication::{Mode, Policy};

use super::{MutualTls, PeerAuthentication, PeerAuthenticationSpec};
use crate::{Invalid, selector};

/// Reads a resource from an API object of either version. Unknown fields and an absent `spec` are fine, as for the API
/// server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<PeerAuthentication, Invalid> {
    crate::object::read(object, "an object of security.istio.io/v1")
}

/// Parses a resource into the policy that decides.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &PeerAuthentication) -> Result<Policy, Vec<Invalid>> {
    let mut policy = parse_spec(&resource.spec)?;
    policy.namespace = resource.namespace().unwrap_or_default();
    policy.name = resource.name_any();
    // The operator's own yields to every other of the same scope, however old it is.
    let created = resource
        .creation_timestamp()
        .filter(|_| !crate::when_ready::is_ours(resource));
    policy.created = created.map_or(i64::MAX, |time| time.0.as_second());
    Ok(policy)
}

/// Parses a specification alone; the policy's name, namespace and age are left empty.
///
/// # Errors
/// As [`parse`].
pub fn parse_spec(spec: &PeerAuthenticationSpec) -> Result<Policy, Vec<Invalid>> {
    let mut errors = Vec::new();
    let selector = selector::parse("spec.selector", spec.selector.as_ref(), &mut errors);
    let mode = mode("spec.mtls.mode", spec.mtls.as_ref(), &mut errors);
    let ports = ports(spec.port_level_mtls.as_ref(), selector.is_empty(), &mut errors);
    if errors.is_empty() {
        Ok(Policy {
            namespace: String::new(),
            name: String::new(),
            created: i64::MAX,
            selector,
            mode,
            ports,
        })
    } else {
        Err(errors)
    }
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(spec: &PeerAuthenticationSpec, namespace: &str, root_namespace: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(selector) = &spec.selector {
        if selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) {
            warnings.push(
                "spec.selector has no labels: the policy governs its whole namespace, or the whole mesh in the root \
                 namespace"
                    .to_owned(),
            );
        } else if namespace == root_namespace {
            warnings.push(format!(
                "spec.selector: a PeerAuthentication with a selector is ignored in the root namespace {root_namespace}"
            ));
        }
    }
    warnings
}

fn mode(path: &str, mtls: Option<&MutualTls>, errors: &mut Vec<Invalid>) -> Mode {
    match mtls.and_then(|mtls| mtls.mode.as_deref()) {
        None | Some("UNSET") => Mode::Unset,
        Some("DISABLE") => Mode::Disable,
        Some("PERMISSIVE") => Mode::Permissive,
        Some("STRICT") => Mode::Strict,
        Some(other) => {
            errors.push(Invalid::new(path, other, "one of UNSET, DISABLE, PERMISSIVE, STRICT"));
            Mode::Unset
        }
    }
}

fn ports(
    ports: Option<&BTreeMap<String, MutualTls>>,
    no_selector: bool,
    errors: &mut Vec<Invalid>,
) -> BTreeMap<u16, Mode> {
    let Some(ports) = ports else { return BTreeMap::new() };
    if ports.is_empty() {
        errors.push(Invalid::new(
            "spec.portLevelMtls",
            "{}",
            "at least one port, or no such field",
        ));
    } else if no_selector {
        let given = ports.keys().cloned().collect::<Vec<_>>().join(", ");
        errors.push(Invalid::new(
            "spec.portLevelMtls",
            given,
            "a selector with labels beside it: portLevelMtls requires selector",
        ));
    }
    let mut parsed = BTreeMap::new();
    for (key, mtls) in ports {
        // The API server's rule converts keys as CEL's int() does, so that "080" is the port 80.
        match key.parse::<u16>().ok().filter(|port| *port > 0) {
            Some(port) => {
                let mode = mode(&format!("spec.portLevelMtls[{key}].mode"), Some(mtls), errors);
                if parsed.insert(port, mode).is_some() {
                    errors.push(Invalid::new("spec.portLevelMtls", key, "each port once"));
                }
            }
            None => errors.push(Invalid::new("spec.portLevelMtls", key, "ports from 1 to 65535")),
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(spec: serde_json::Value) -> Result<Policy, String> {
        let object = json!({
            "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
            "metadata": {"name": "p", "namespace": "ns", "creationTimestamp": "1970-01-01T00:01:00Z"}, "spec": spec
        });
        parse(&read(object).unwrap()).map_err(|errors| crate::join(&errors))
    }

    #[test]
    fn what_istio_accepts_parses() {
        let whole = parsed(json!({
            "selector": {"matchLabels": {"app": "web"}},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"8080": {"mode": "DISABLE"}, "81": {}}
        }))
        .unwrap();
        assert_eq!(
            (whole.namespace.as_str(), whole.name.as_str(), whole.created),
            ("ns", "p", 60)
        );
        assert_eq!(whole.mode, Mode::Strict);
        assert_eq!(whole.ports, BTreeMap::from([(8080, Mode::Disable), (81, Mode::Unset)]));
        assert!(!whole.selector.is_empty());

        for spec in [
            json!({}),
            json!(null),
            json!({"mtls": {}}),
            json!({"mtls": {"mode": "UNSET"}}),
            json!({"selector": {}}),
            json!({"selector": {"matchLabels": {}}, "mtls": null}),
            json!({"fieldOfTheFuture": 1}),
        ] {
            assert_eq!(
                parsed(spec.clone()).map(|policy| policy.mode),
                Ok(Mode::Unset),
                "{spec}"
            );
        }
        assert!(read(json!({"metadata": {"name": "no-spec"}})).is_ok());
    }

    #[test]
    fn every_error_names_the_field_the_value_and_what_is_accepted() {
        for (spec, expected) in [
            (
                json!({"mtls": {"mode": "strict"}}),
                "spec.mtls.mode: \"strict\" is not accepted, expected one of UNSET, DISABLE, PERMISSIVE, STRICT",
            ),
            (
                json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}),
                "spec.portLevelMtls: \"80\" is not accepted, expected a selector with labels beside it: portLevelMtls \
                 requires selector",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}}),
                "spec.portLevelMtls: \"{}\" is not accepted, expected at least one port, or no such field",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"0": {}}}),
                "spec.portLevelMtls: \"0\" is not accepted, expected ports from 1 to 65535",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"65536": {}}}),
                "spec.portLevelMtls: \"65536\" is not accepted, expected ports from 1 to 65535",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"http": {}}}),
                "spec.portLevelMtls: \"http\" is not accepted, expected ports from 1 to 65535",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {"mode": "ON"}}}),
                "spec.portLevelMtls[80].mode: \"ON\" is not accepted, expected one of UNSET, DISABLE, PERMISSIVE, STRICT",
            ),
            (
                json!({"selector": {"matchLabels": {"": "b"}}}),
                "spec.selector.matchLabels: \"\" is not accepted, expected keys that are not empty",
            ),
            (
                json!({"selector": {"matchLabels": {"a*": "b"}}}),
                "spec.selector.matchLabels: \"a*\" is not accepted, expected keys without a wildcard",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b*"}}}),
                "spec.selector.matchLabels[a]: \"b*\" is not accepted, expected a value without a wildcard",
            ),
        ] {
            assert_eq!(parsed(spec).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_shape_that_is_not_the_resources_is_an_error() {
        for object in [json!(1), json!({"spec": []}), json!({"spec": {"mtls": "STRICT"}})] {
            assert!(read(object.clone()).is_err(), "{object}");
        }
    }

    #[test]
    fn warnings_where_the_selector_does_not_do_what_it_seems_to() {
        let spec = |value| serde_json::from_value::<PeerAuthenticationSpec>(value).unwrap();
        assert!(
            warnings(
                &spec(json!({"mtls": {"mode": "STRICT"}})),
                "istio-system",
                "istio-system"
            )
            .is_empty()
        );
        assert!(warnings(&spec(json!({"selector": {}})), "a", "istio-system")[0].contains("no labels"));
        let selected = spec(json!({"selector": {"matchLabels": {"a": "b"}}}));
        assert!(warnings(&selected, "istio-system", "istio-system")[0].contains("ignored in the root namespace"));
        assert!(warnings(&selected, "a", "istio-system").is_empty());
    }
}
