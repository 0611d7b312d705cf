//! Whether an object is an acceptable resource of the mesh, and what its author should hear: what the webhook and the
//! command line share.

use serde_json::Value;

use crate::authorization_policy::{self, DRY_RUN};
use crate::{
    Invalid, candidate, crd, destination_rule, peer_authentication, request_authentication, service_entry,
    sidecar_resource, unknown, virtual_service, workload_entry,
};

/// A kind of the mesh's resources.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its group.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The versions that are served, the stored one first.
    pub versions: &'static [&'static str],
    crd: fn() -> Value,
    later: fn(&Value) -> Vec<String>,
}

/// All of them.
pub const KINDS: [Kind; 8] = [
    Kind {
        group: "security.istio.io",
        name: "AuthorizationPolicy",
        versions: &["v1", "v1beta1"],
        crd: crd::authorization_policy,
        later: for_targets,
    },
    Kind {
        group: "networking.istio.io",
        name: "DestinationRule",
        versions: &["v1", "v1beta1", "v1alpha3"],
        crd: crd::destination_rule,
        later: later_of_destination_rule,
    },
    Kind {
        group: "security.istio.io",
        name: "PeerAuthentication",
        versions: &["v1", "v1beta1"],
        crd: crd::peer_authentication,
        later: nothing,
    },
    Kind {
        group: "security.istio.io",
        name: "RequestAuthentication",
        versions: &["v1", "v1beta1"],
        crd: crd::request_authentication,
        later: for_targets,
    },
    Kind {
        group: "networking.istio.io",
        name: "Sidecar",
        versions: &["v1", "v1beta1", "v1alpha3"],
        crd: crd::sidecar,
        later: later_of_sidecar,
    },
    Kind {
        group: "networking.istio.io",
        name: "VirtualService",
        versions: &["v1", "v1beta1", "v1alpha3"],
        crd: crd::virtual_service,
        later: later_of_virtual_service,
    },
    Kind {
        group: "networking.istio.io",
        name: "ServiceEntry",
        versions: &["v1", "v1beta1", "v1alpha3"],
        crd: crd::service_entry,
        later: later_of_service_entry,
    },
    Kind {
        group: "networking.istio.io",
        name: "WorkloadEntry",
        versions: &["v1", "v1beta1", "v1alpha3"],
        crd: crd::workload_entry,
        later: later_of_workload_entry,
    },
];

impl Kind {
    /// The kind of a group and name.
    #[must_use]
    pub fn of(group: &str, name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.group == group && kind.name == name)
    }

    /// Every field of an object that the kind does not have, and that the API server would drop without a word.
    #[must_use]
    pub fn unknown_fields(&self, object: &Value) -> Vec<Invalid> {
        unknown::fields(&(self.crd)(), object)
    }

    /// The paths of the fields of an object that are accepted and have no effect in this version.
    #[must_use]
    pub fn without_effect(&self, object: &Value) -> Vec<String> {
        (self.later)(object)
    }
}

fn nothing(_: &Value) -> Vec<String> {
    Vec::new()
}

/// What policies say of gateways and waypoints.
fn for_targets(object: &Value) -> Vec<String> {
    let there = |name: &&str| object["spec"].get(*name).is_some_and(|value| !value.is_null());
    let names = ["targetRef", "targetRefs"].into_iter().filter(there);
    names.map(|name| format!("spec.{name}")).collect()
}

fn later_of_destination_rule(object: &Value) -> Vec<String> {
    destination_rule::read(object.clone()).map_or_else(|_| Vec::new(), |read| destination_rule::later(&read.spec))
}

fn later_of_service_entry(object: &Value) -> Vec<String> {
    let read = service_entry::read(object.clone()).map_err(Vec::from);
    read.and_then(|read| service_entry::parse(&read))
        .map_or_else(|_| Vec::new(), |entry| service_entry::later(&entry))
}

fn later_of_workload_entry(object: &Value) -> Vec<String> {
    let read = workload_entry::read(object.clone()).map_err(Vec::from);
    read.and_then(|read| workload_entry::parse(&read))
        .map_or_else(|_| Vec::new(), |workload| workload_entry::later(&workload))
}

fn later_of_sidecar(object: &Value) -> Vec<String> {
    sidecar_resource::read(object.clone()).map_or_else(|_| Vec::new(), |read| sidecar_resource::later(&read.spec))
}

fn later_of_virtual_service(object: &Value) -> Vec<String> {
    virtual_service::read(object.clone()).map_or_else(|_| Vec::new(), |read| virtual_service::later(&read.spec))
}

/// Judges an object of a group and kind: its warnings, or everything that is wrong. `None`: it is none of the mesh's
/// resources.
#[must_use]
pub fn judge(
    group: &str,
    kind: &str,
    object: &Value,
    root_namespace: &str,
) -> Option<Result<Vec<String>, Vec<Invalid>>> {
    let own = match (group, kind) {
        ("security.istio.io", "AuthorizationPolicy") => authorization_policy(object),
        ("security.istio.io", "RequestAuthentication") => request_authentication(object),
        ("security.istio.io", "PeerAuthentication") => peer_authentication(object, root_namespace),
        ("networking.istio.io", "DestinationRule") => destination_rule(object),
        ("networking.istio.io", "Sidecar") => sidecar(object),
        ("networking.istio.io", "VirtualService") => virtual_service(object),
        ("networking.istio.io", "ServiceEntry") => service_entry(object),
        ("networking.istio.io", "WorkloadEntry") => workload_entry(object),
        _ => return None,
    };
    let candidacy = candidate::judge(object, group == "security.istio.io");
    Some(match (candidacy, own) {
        (Ok(mut warnings), Ok(own)) => {
            warnings.extend(own);
            Ok(warnings)
        }
        (Ok(_), Err(errors)) | (Err(errors), Ok(_)) => Err(errors),
        (Err(mut errors), Err(own)) => {
            errors.extend(own);
            Err(errors)
        }
    })
}

fn authorization_policy(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = authorization_policy::read(object.clone())?;
    authorization_policy::parse(&resource)?;
    Ok(authorization_policy::warnings(&resource))
}

fn request_authentication(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = request_authentication::read(object.clone())?;
    request_authentication::parse(&resource)?;
    Ok(request_authentication::warnings(&resource))
}

fn peer_authentication(object: &Value, root_namespace: &str) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = peer_authentication::read(object.clone())?;
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let warnings = peer_authentication::warnings(&resource.spec, namespace.unwrap_or_default(), root_namespace);
    with_errors(
        no_dry_run(object),
        peer_authentication::parse(&resource).err(),
        warnings,
    )
}

fn destination_rule(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = destination_rule::read(object.clone())?;
    let warnings = destination_rule::warnings(&resource);
    with_errors(no_dry_run(object), destination_rule::parse(&resource).err(), warnings)
}

fn sidecar(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = sidecar_resource::read(object.clone())?;
    let warnings = sidecar_resource::warnings(&resource);
    with_errors(no_dry_run(object), sidecar_resource::parse(&resource).err(), warnings)
}

fn virtual_service(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = virtual_service::read(object.clone())?;
    let warnings = virtual_service::warnings(&resource);
    with_errors(no_dry_run(object), virtual_service::parse(&resource).err(), warnings)
}

fn service_entry(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = service_entry::read(object.clone())?;
    let warnings = service_entry::warnings(&resource);
    with_errors(no_dry_run(object), service_entry::parse(&resource).err(), warnings)
}

fn workload_entry(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let resource = workload_entry::read(object.clone())?;
    let warnings = workload_entry::warnings(&resource);
    with_errors(no_dry_run(object), workload_entry::parse(&resource).err(), warnings)
}

/// Refuses the annotation of a dry run where it has no effect, so that nobody takes for tried what is in force.
fn no_dry_run(object: &Value) -> Option<Invalid> {
    let value = object.get("metadata")?.get("annotations")?.get(DRY_RUN)?;
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(Invalid::new(
        format!("metadata.annotations[{DRY_RUN}]"),
        value,
        "no such annotation, which only AuthorizationPolicy has",
    ))
}

fn with_errors(
    first: Option<Invalid>,
    others: Option<Vec<Invalid>>,
    warnings: Vec<String>,
) -> Result<Vec<String>, Vec<Invalid>> {
    let errors: Vec<Invalid> = first.into_iter().chain(others.into_iter().flatten()).collect();
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECURITY: &str = "security.istio.io";

    fn judged(group: &str, kind: &str, annotations: Value, spec: Value) -> Option<Result<Vec<String>, String>> {
        let object = json!({"metadata": {"name": "r", "namespace": "a", "annotations": annotations}, "spec": spec});
        let judged = judge(group, kind, &object, "istio-system")?;
        Some(judged.map_err(|errors| crate::join(&errors)))
    }

    #[test]
    fn each_kind_is_judged_by_its_own_parser() {
        for (group, kind, good, bad, field) in [
            (
                SECURITY,
                "AuthorizationPolicy",
                json!({}),
                json!({"action": "PERMIT"}),
                "spec.action",
            ),
            (
                SECURITY,
                "RequestAuthentication",
                json!({}),
                json!({"jwtRules": [{}]}),
                "spec.jwtRules[0].issuer",
            ),
            (
                SECURITY,
                "PeerAuthentication",
                json!({}),
                json!({"mtls": {"mode": "ON"}}),
                "spec.mtls.mode",
            ),
            (
                "networking.istio.io",
                "DestinationRule",
                json!({"host": "a"}),
                json!({"host": ""}),
                "spec.host",
            ),
            (
                "networking.istio.io",
                "Sidecar",
                json!({"egress": [{"hosts": ["./*"]}]}),
                json!({"egress": [{"hosts": ["reviews"]}]}),
                "spec.egress[0].hosts[0]",
            ),
            (
                "networking.istio.io",
                "VirtualService",
                json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}),
                json!({"hosts": ["a"], "http": [{}]}),
                "spec.http[0]",
            ),
            (
                "networking.istio.io",
                "ServiceEntry",
                json!({"hosts": ["a.example.com"], "resolution": "DNS"}),
                json!({"hosts": ["*"]}),
                "spec.hosts[0]",
            ),
            (
                "networking.istio.io",
                "WorkloadEntry",
                json!({"address": "10.0.0.1"}),
                json!({"address": ""}),
                "spec.address",
            ),
        ] {
            assert_eq!(judged(group, kind, json!({}), good.clone()), Some(Ok(vec![])), "{kind}");
            let refused = judged(group, kind, json!({}), bad).unwrap().unwrap_err();
            assert!(refused.starts_with(&format!("{field}: ")), "{refused}");
            assert!(judged(group, kind, json!({}), json!([])).unwrap().is_err(), "{kind}");
            let dry = judged(group, kind, json!({"istio.io/dry-run": "true"}), good).unwrap();
            if kind == "AuthorizationPolicy" {
                assert!(dry.is_ok());
            } else {
                assert!(
                    dry.unwrap_err()
                        .starts_with("metadata.annotations[istio.io/dry-run]: \"true\""),
                    "{kind}"
                );
            }
        }
        for kind in KINDS {
            assert!(
                judged(kind.group, kind.name, json!({}), json!({})).is_some(),
                "{kind:?}"
            );
            let served = (kind.crd)()["spec"]["versions"].as_array().unwrap().clone();
            let names: Vec<_> = served.iter().map(|version| version["name"].as_str().unwrap()).collect();
            assert_eq!(names, kind.versions, "{}", kind.name);
            assert_eq!(Kind::of(kind.group, kind.name).unwrap().versions, kind.versions);
        }
        assert_eq!(judged("networking.istio.io", "Gateway", json!({}), json!({})), None);
        assert_eq!(judged("apps", "AuthorizationPolicy", json!({}), json!({})), None);
    }

    #[test]
    fn candidates_are_known_to_the_kinds_that_can_be_some() {
        for kind in KINDS {
            let spec = match kind.name {
                "DestinationRule" => json!({"host": "a"}),
                "Sidecar" => json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}),
                "VirtualService" => json!({"http": [{"directResponse": {"status": 200}}]}),
                "ServiceEntry" => json!({"hosts": ["a.example.com"]}),
                "WorkloadEntry" => json!({"address": "10.0.0.1"}),
                _ => json!({}),
            };
            let judged = |set: &str| {
                let labels = json!({"policy.pinnace.dev/candidate": set});
                let object = json!({"metadata": {"name": "r", "namespace": "a", "labels": labels}, "spec": spec});
                judge(kind.group, kind.name, &object, "istio-system").unwrap()
            };
            if kind.group == "networking.istio.io" {
                assert!(judged("go").is_err());
            } else {
                assert!(
                    judged("go").unwrap()[0].starts_with("a candidate of set go"),
                    "{kind:?}"
                );
                let errors = judged("Go").unwrap_err();
                assert_eq!(errors[0].field, "metadata.labels[policy.pinnace.dev/candidate]");
                assert_eq!(errors[0].value, "Go");
            }
        }
    }

    /// The manifests that must apply as they stand.
    #[test]
    fn the_acceptance_manifests_are_accepted() {
        for (kind, text, warned) in [
            (
                "AuthorizationPolicy",
                include_str!("../../../tests/acceptance/06-authorization-principal.yaml"),
                0,
            ),
            (
                "AuthorizationPolicy",
                include_str!("../../../tests/acceptance/07-authorization-path.yaml"),
                0,
            ),
            (
                "RequestAuthentication",
                include_str!("../../../tests/acceptance/08-jwt-issuer.yaml"),
                1,
            ),
        ] {
            let object: Value = serde_yaml::from_str(text).unwrap();
            assert_eq!(object["kind"], kind);
            let judged = judge(SECURITY, kind, &object, "istio-system").unwrap();
            assert_eq!(judged.map(|warnings| warnings.len()), Ok(warned), "{text}");
        }
    }
}
