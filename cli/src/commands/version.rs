//! `version`: of this command, of the control plane's replicas, and of the proxies that are connected to them.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use mesh_wire::admin::Syncz;
use serde::Serialize;

use crate::arguments::Global;
use crate::cluster::Cluster;
use crate::commands::replicas;
use crate::failure::{DONE, Failure, IN_PART};
use crate::output::{self, Format, say};
use crate::pages::Peer;

/// Istio's shape.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: Info,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mesh_version: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_plane_version: Vec<Proxy>,
}

#[derive(Debug, Default, Serialize)]
struct Info {
    version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    component: &'static str,
    replica: String,
    info: Info,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Proxy {
    #[serde(rename = "ID")]
    id: String,
    version: String,
}

pub(crate) async fn run(global: &Global, remote: bool) -> Result<u8, Failure> {
    let mut versions = Versions {
        client_version: Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        ..Versions::default()
    };
    // This command knows its own version even where nothing else answers.
    let asked = if remote {
        ask(global, &mut versions).await
    } else {
        Ok(false)
    };
    match global.output {
        Format::Table => say(&text(&versions))?,
        format => output::print(format, &versions, || output::Table::new(&[]))?,
    }
    asked.map(|in_part| if in_part { IN_PART } else { DONE })
}

async fn ask(global: &Global, versions: &mut Versions) -> Result<bool, Failure> {
    let (answers, in_part) = match &global.forwarded {
        Some(address) => (vec![Peer::Address(address.clone()).syncz().await?], false),
        None => {
            let cluster = Cluster::connect(global).await?;
            let answers = replicas(&cluster).await?;
            // The webhook has no page of its own: its pods' label says what the chart installed.
            for pod in cluster.replicas("webhook").await? {
                let version = pod
                    .labels()
                    .get("app.kubernetes.io/version")
                    .cloned()
                    .unwrap_or_default();
                versions.mesh_version.push(Component {
                    component: "webhook",
                    replica: pod.name_any(),
                    info: Info { version },
                });
            }
            answers
        }
    };
    take(versions, answers);
    Ok(in_part)
}

fn take(versions: &mut Versions, answers: Vec<Syncz>) {
    let mut proxies = BTreeMap::new();
    for answer in answers {
        for proxy in answer.proxies {
            proxies.insert(proxy.name, proxy.version);
        }
        versions.mesh_version.push(Component {
            component: "operator",
            replica: answer.replica,
            info: Info {
                version: answer.version,
            },
        });
    }
    versions
        .mesh_version
        .sort_by(|a, b| (a.component, &a.replica).cmp(&(b.component, &b.replica)));
    let proxies = proxies.into_iter().map(|(id, version)| Proxy { id, version });
    versions.data_plane_version = proxies.collect();
}

fn text(versions: &Versions) -> String {
    let mut text = format!("client version: {}\n", versions.client_version.version);
    if !versions.mesh_version.is_empty() {
        let counted = count(versions.mesh_version.iter().map(|it| it.info.version.as_str()));
        let shown: Vec<String> = match &counted[..] {
            [(version, _)] => vec![(*version).to_owned()],
            several => several
                .iter()
                .map(|(version, n)| format!("{version} ({n} {})", plural(*n, "replica", "replicas")))
                .collect(),
        };
        text += &format!("control plane version: {}\n", shown.join(", "));
        let counted = count(versions.data_plane_version.iter().map(|it| it.version.as_str()));
        let shown: Vec<String> = counted
            .iter()
            .map(|(version, n)| format!("{version} ({n} {})", plural(*n, "proxy", "proxies")))
            .collect();
        let shown = if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        };
        text += &format!("data plane version: {shown}\n");
    }
    text
}

fn count<'a>(versions: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for version in versions {
        let version = if version.is_empty() { "unknown" } else { version };
        *counted.entry(version).or_default() += 1;
    }
    counted.into_iter().collect()
}

fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(replicas: &[&str], proxies: &[&str]) -> Versions {
        let mut versions = Versions {
            client_version: Info {
                version: "0.2.0".into(),
            },
            ..Versions::default()
        };
        let proxies: Vec<_> = proxies
            .iter()
            .enumerate()
            .map(|(at, version)| serde_json::json!({"name": format!("p{at}.shop"), "version": version}))
            .collect();
        let answers = replicas.iter().enumerate().map(|(at, version)| {
            let page = serde_json::json!({"replica": format!("o{at}"), "version": version, "proxies": proxies});
            serde_json::from_value(page).unwrap()
        });
        take(&mut versions, answers.collect());
        versions
    }

    #[test]
    fn versions_are_counted_where_they_differ() {
        for (replicas, proxies, expected) in [
            (&[][..], &[][..], "client version: 0.2.0\n"),
            (
                &["0.1.0", "0.1.0"],
                &["0.1.0", "0.1.0", "0.1.0"],
                "client version: 0.2.0\ncontrol plane version: 0.1.0\ndata plane version: 0.1.0 (3 proxies)\n",
            ),
            (
                &["0.1.0", "0.2.0"],
                &["0.1.0", ""],
                "client version: 0.2.0\ncontrol plane version: 0.1.0 (1 replica), 0.2.0 (1 replica)\n\
                 data plane version: 0.1.0 (1 proxy), unknown (1 proxy)\n",
            ),
            (
                &["0.1.0"],
                &[],
                "client version: 0.2.0\ncontrol plane version: 0.1.0\ndata plane version: none\n",
            ),
        ] {
            assert_eq!(text(&versions(replicas, proxies)), expected);
        }
        let shown = serde_json::to_value(versions(&["0.1.0"], &["0.1.0"])).unwrap();
        assert_eq!(shown["meshVersion"][0]["Info"]["version"], "0.1.0");
        assert_eq!(shown["dataPlaneVersion"][0]["ID"], "p0.shop");
    }
}
