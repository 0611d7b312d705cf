//! The objects of a cluster that may have something of Istio's in them: every kind of Istio's groups and of the Gateway API
//! that the API server has, and the workloads, namespaces, Services, Ingresses and ConfigMaps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::Failure;

/// How many objects are asked for at once.
const PAGE: u32 = 500;
/// Groups that are looked at whole, beside those that end so.
const GROUPS: [&str; 2] = ["gateway.networking.k8s.io", "sailoperator.io"];
/// How Istio's groups end.
const ISTIO: &str = ".istio.io";
/// Kinds of Kubernetes' own, with what they are listed by: group, version, kind, plural, and whether it is of a namespace.
const OWN: [(&str, &str, &str, &str, bool); 11] = [
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "Pod", "pods", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    ("apps", "v1", "DaemonSet", "daemonsets", true),
    ("apps", "v1", "ReplicaSet", "replicasets", true),
    ("batch", "v1", "CronJob", "cronjobs", true),
    ("batch", "v1", "Job", "jobs", true),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true),
];

/// All of them, or those of one namespace.
pub(super) async fn objects(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    for (resource, namespaced) in kinds(cluster).await? {
        let scope = match (namespace, namespaced) {
            (Some(_), false) => continue,
            // ConfigMaps may hold anything, and the mesh's is with the control plane.
            (Some(namespace), _) if resource.kind == "ConfigMap" && namespace != cluster.system => continue,
            _ if resource.kind == "ConfigMap" => Some(cluster.system.as_str()),
            (namespace, _) => namespace,
        };
        list(cluster, &resource, scope, &mut found).await?;
    }
    Ok(found)
}

async fn kinds(cluster: &Cluster) -> Result<Vec<(ApiResource, bool)>, Failure> {
    let mut kinds: Vec<(ApiResource, bool)> = OWN
        .iter()
        .map(|(group, version, kind, plural, namespaced)| (resource(group, version, kind, plural), *namespaced))
        .collect();
    let groups = cluster.client.list_api_groups().await;
    let groups = groups.map_err(|error| Failure::of_kube("the groups of the API", &error))?;
    for group in groups.groups {
        if !group.name.ends_with(ISTIO) && !GROUPS.contains(&group.name.as_str()) {
            continue;
        }
        let Some(preferred) = group.preferred_version.or_else(|| group.versions.first().cloned()) else {
            continue;
        };
        let listed = cluster.client.list_api_group_resources(&preferred.group_version).await;
        let listed = listed.map_err(|error| Failure::of_kube(&format!("the kinds of {}", group.name), &error))?;
        let wanted = listed.resources.into_iter().filter(can_be_listed);
        kinds.extend(wanted.map(|it| {
            let resource = resource(&group.name, &preferred.version, &it.kind, &it.name);
            (resource, it.namespaced)
        }));
    }
    Ok(kinds)
}

/// Whether it is a kind of objects, and not a part of one.
fn can_be_listed(resource: &APIResource) -> bool {
    !resource.name.contains('/') && resource.verbs.iter().any(|verb| verb == "list")
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

async fn list(
    cluster: &Cluster,
    resource: &ApiResource,
    namespace: Option<&str>,
    found: &mut Vec<Value>,
) -> Result<(), Failure> {
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    };
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await;
        let page = page.map_err(|error| Failure::of_kube(&format!("the list of {}", resource.plural), &error))?;
        // What another object makes is told of with that one.
        let alone = page.items.into_iter().filter(|object| !is_made(object));
        found.extend(alone.filter_map(|object| written(object, resource)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn is_made(object: &DynamicObject) -> bool {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true))
}

/// The object with its kind, which lists leave out.
fn written(object: DynamicObject, resource: &ApiResource) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    let fields = value.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), json!(resource.api_version));
    fields.insert("kind".to_owned(), json!(resource.kind));
    Some(value)
}
