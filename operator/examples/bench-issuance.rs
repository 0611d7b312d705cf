//! Measures how fast the operator issues when it starts beside pods that are already there, against a bare loop that creates
//! as many equal Secrets with as many requests in flight. Run by hack/bench-issuance, against a cluster with the mesh.
//!
//! The pods are injected by the webhook and bound to a Node that no kubelet stands behind, so that nothing is measured but
//! the operator and the API server. Everything that is made goes with two namespaces and the Node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use operator::ca::{Authority, Subject};
use operator::certificates::secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// As many requests as the operator has in flight.
const IN_FLIGHT: usize = 16;

const SYSTEM: &str = "istio-system";
const OPERATOR: &str = "pinnace-operator";
const NODE: &str = "pinnace-bench-issuance";
/// Where the pods are, and where the bare loop writes.
const PODS: &str = "pinnace-bench-pods";
const BARE: &str = "pinnace-bench-bare";

/// From one count of Secrets to the next, and while many are still lacking: counting costs the API server too.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_FROM_AFAR: Duration = Duration::from_secs(1);

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(1200);

#[derive(Parser)]
struct Arguments {
    /// Service accounts, each used by one pod
    #[arg(long, default_value_t = 5000)]
    accounts: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = mesh_client::connect().await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let replicas = deployments.get(OPERATOR).await?.spec.replicas;
    let result = measure(&client, arguments.accounts, replicas.unwrap_or(1)).await;
    // Whatever became of it, the mesh is left as it was found.
    scale(&client, replicas.unwrap_or(1)).await?;
    remove(&client).await?;
    let measured = result?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// What came of it, in seconds.
#[derive(Serialize)]
struct Measured {
    accounts: usize,
    in_flight: usize,
    /// The bare loop, before and after the operator's run.
    bare_seconds: [f64; 2],
    /// From the moment the lease was taken to the last Secret.
    issued_seconds: f64,
    /// The operator's time over the mean of the bare loop's.
    ratio: f64,
    /// Until every pod's kubelet would have been told.
    nudged_seconds: f64,
}

async fn measure(client: &Client, accounts: usize, replicas: i32) -> anyhow::Result<Measured> {
    remove(client).await?;
    for (name, injected) in [(PODS, true), (BARE, false)] {
        let labels = if injected {
            json!({"istio-injection": "enabled"})
        } else {
            json!({})
        };
        create(
            &Api::<Namespace>::all(client.clone()),
            json!({"metadata": {"name": name, "labels": labels}}),
        )
        .await?;
    }
    create(&Api::<Node>::all(client.clone()), json!({"metadata": {"name": NODE}})).await?;
    scale(client, 0).await?;
    eprintln!("making {accounts} service accounts and pods");
    let service_accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), PODS);
    each(accounts, |at| {
        let service_accounts = service_accounts.clone();
        async move { create(&service_accounts, json!({"metadata": {"name": account(at)}})).await }
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), PODS);
    each(accounts, |at| {
        let pods = pods.clone();
        async move { create(&pods, pod(at)).await }
    })
    .await?;

    eprintln!("the bare loop");
    let before = bare(client, accounts).await?;
    eprintln!("{before:.1} s; the operator");
    let (issued, nudged) = issue(client, accounts, replicas).await?;
    eprintln!("{issued:.1} s; the bare loop again");
    let after = bare(client, accounts).await?;
    eprintln!("{after:.1} s");
    Ok(Measured {
        accounts,
        in_flight: IN_FLIGHT,
        bare_seconds: [before, after],
        issued_seconds: issued,
        ratio: issued / ((before + after) / 2.0),
        nudged_seconds: nudged,
    })
}

fn account(at: usize) -> String {
    format!("account-{at}")
}

fn pod(at: usize) -> serde_json::Value {
    json!({
        "metadata": {"name": format!("pod-{at}")},
        "spec": {
            "serviceAccountName": account(at),
            "nodeName": NODE,
            "containers": [{"name": "app", "image": "none"}],
            // No kubelet speaks for the Node, and its pods must stay nevertheless.
            "tolerations": [{"operator": "Exists"}],
        },
    })
}

/// Creates Secrets like those that the operator writes, and removes them again; seconds of the creating.
async fn bare(client: &Client, accounts: usize) -> anyhow::Result<f64> {
    let now = SystemTime::now();
    let authority = Authority::generate(now)?;
    let id = format!("spiffe://cluster.local/ns/{BARE}/sa/account");
    let leaf = authority.issue(&Subject::Workload(id.parse()?), Duration::from_secs(86_400), now)?;
    // An owner that exists: the garbage collector would remove them otherwise.
    let accounts_there: Api<ServiceAccount> = Api::namespaced(client.clone(), BARE);
    let owner = loop {
        match accounts_there.get_opt("default").await?.and_then(|found| found.uid()) {
            Some(uid) => break uid,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), BARE);
    let leaf = Arc::new(leaf);
    let began = Instant::now();
    each(accounts, |at| {
        let belongs = secret::Owner {
            name: "default",
            uid: &owner,
            spiffe_id: &id,
        };
        let mut new = secret::make(
            BARE,
            &format!("bare-{at}"),
            &leaf,
            authority.roots_pem(),
            Some(belongs),
            None,
        );
        // The operator would take it for one of its own.
        new.metadata.labels = Some(BTreeMap::from([("pinnace-bench".to_owned(), "issuance".to_owned())]));
        let secrets = secrets.clone();
        async move {
            secrets.create(&PostParams::default(), &new).await?;
            Ok(())
        }
    })
    .await?;
    let took = began.elapsed().as_secs_f64();
    secrets
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().labels("pinnace-bench=issuance"),
        )
        .await?;
    Ok(took)
}

/// Starts the operator; seconds from its taking the lease to the last Secret, and to the last nudge.
async fn issue(client: &Client, accounts: usize, replicas: i32) -> anyhow::Result<(f64, f64)> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let before = acquired(&leases).await?;
    let secrets = Api::<Secret>::namespaced(client.clone(), PODS);
    scale(client, replicas).await?;
    let until = Instant::now() + PATIENCE;
    // Counted, and not watched: the bare loop has no watch of its own to pay for either.
    let last = loop {
        let made = count(&secrets).await?;
        if made >= accounts {
            break jiff::Timestamp::now();
        }
        ensure!(Instant::now() < until, "{made} of {accounts} Secrets were made");
        let near = made >= accounts / 10 * 8;
        tokio::time::sleep(if near { LOOK } else { LOOK_FROM_AFAR }).await;
    };
    let leader = acquired(&leases).await?.context("nobody holds the lease")?;
    ensure!(Some(leader) != before, "the lease was not taken anew");
    let issued = (last - leader).total(jiff::Unit::Second)?;

    let pods: Api<Pod> = Api::namespaced(client.clone(), PODS);
    loop {
        let told = pods.list_metadata(&ListParams::default()).await?.items;
        let told = told
            .iter()
            .filter(|pod| {
                pod.annotations()
                    .contains_key("security.pinnace.dev/certificate-serial")
            })
            .count();
        if told == accounts {
            break;
        }
        ensure!(Instant::now() < until, "{told} of {accounts} pods were told");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok((issued, (jiff::Timestamp::now() - leader).total(jiff::Unit::Second)?))
}

/// How many Secrets there are in a namespace, of which the API server reads one.
async fn count(secrets: &Api<Secret>) -> anyhow::Result<usize> {
    let first = secrets.list_metadata(&ListParams::default().limit(1)).await?;
    let more = first.metadata.remaining_item_count.unwrap_or_default();
    Ok(first.items.len() + usize::try_from(more)?)
}

/// When the lease was taken.
async fn acquired(leases: &Api<Lease>) -> anyhow::Result<Option<jiff::Timestamp>> {
    let lease = leases.get_opt(OPERATOR).await?;
    Ok(lease.and_then(|lease| lease.spec?.acquire_time).map(|time| time.0))
}

/// Gives the operator this many replicas, and waits until none is left where that is zero.
async fn scale(client: &Client, replicas: i32) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch_scale(OPERATOR, &PatchParams::default(), &patch)
        .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let until = Instant::now() + PATIENCE;
    if replicas > 0 {
        return Ok(());
    }
    loop {
        let left = pods.list_metadata(&ListParams::default()).await?.items;
        if !left.iter().any(|pod| pod.name_any().starts_with(OPERATOR)) {
            break;
        }
        ensure!(Instant::now() < until, "the operator does not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn remove(client: &Client) -> anyhow::Result<()> {
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    // No kubelet would end these.
    let pods: Api<Pod> = Api::namespaced(client.clone(), PODS);
    pods.delete_collection(&now, &ListParams::default()).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in [PODS, BARE] {
        gone(&namespaces, name).await?;
    }
    gone(&Api::<Node>::all(client.clone()), NODE).await
}

async fn gone<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            // One that is going already.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
        ensure!(Instant::now() < until, "{name} does not go");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn create<K>(api: &Api<K>, object: serde_json::Value) -> anyhow::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Does something for each number, [`IN_FLIGHT`] at a time.
async fn each<F>(count: usize, what: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    stream::iter(0..count)
        .map(what)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}
