//! How the parts are put together, and the order in which they end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use mesh_api::MeshConfig;
use rustls::crypto::CryptoProvider;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::ca::load::{self, Loaded};
use crate::ca::{Authority, store};
use crate::debug::{self, Debug};
use crate::discovery;
use crate::discovery::credentials::{self, Current, Holder};
use crate::discovery::service::Discovery;
use crate::discovery::streams::Streams;
use crate::feeds::{self, Policies, Progress};
use crate::health::{self, Health};
use crate::index::{Index, MeshFacts};
use crate::jwks::names::Names;
use crate::jwks::protected::follow_addresses;
use crate::jwks::{self, Askings, Guard, Times};
use crate::kubernetes::install;
use crate::kubernetes::leader::{self, Leadership};
use crate::mesh_config;
use crate::metrics::Metrics;
use crate::reports::{Forward, Ledger, Outgoing, Reports, service};
use crate::settings::Settings;
use crate::when_ready::{self, Board};
use crate::writers::{ca_bundle, identities, nudge, serving, status};
use mesh_client::connect;

/// How long streams and the lease may take to end.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// Runs the operator until `stop` turns true.
///
/// # Errors
/// When the API server cannot be configured or a port cannot be listened on.
pub async fn run(settings: Settings, provider: Arc<CryptoProvider>, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let client = connect().await?;
    let metrics = Arc::new(Metrics::new());
    let discovery_listener = TcpListener::bind(settings.discovery_addr)
        .await
        .with_context(|| format!("cannot listen on --discovery-addr {}", settings.discovery_addr))?;
    let metrics_listener = TcpListener::bind(settings.metrics_addr)
        .await
        .with_context(|| format!("cannot listen on --metrics-addr {}", settings.metrics_addr))?;

    let debug_listener = TcpListener::bind(settings.debug_addr)
        .await
        .with_context(|| format!("cannot listen on --debug-addr {}", settings.debug_addr))?;

    let (authority_in, authority) = watch::channel::<Option<Arc<Authority>>>(None);
    let (loaded_in, loaded) = watch::channel::<Option<Loaded>>(None);
    let (config_in, config) = watch::channel::<Option<Arc<MeshConfig>>>(None);
    let nothing = mesh_config::facts(
        &MeshConfig::default(),
        &settings.namespace,
        &settings.cluster_domain,
        None,
    );
    let (facts_in, facts) = watch::channel::<Arc<MeshFacts>>(Arc::new(nothing.clone()));
    let index = Arc::new(Index::new(nothing, metrics.clone()));
    let policies = Arc::new(Policies::default());
    let progress = Progress::new(0);
    let leadership = Leadership::default();
    let current = Current::default();
    let listening = Arc::new(AtomicBool::new(false));
    let streams = Streams::default();
    let ledger = Ledger::default();
    let outgoing = Outgoing::default();

    let health = Health {
        metrics: metrics.clone(),
        progress: progress.clone(),
        credentials: current.clone(),
        listening: listening.clone(),
    };
    let health = tokio::spawn(health::serve(metrics_listener, health, stopped(stop.clone())));

    let debug = Debug {
        replica: settings.pod_name.clone(),
        leadership: leadership.clone(),
        streams: streams.clone(),
        ledger: ledger.clone(),
    };
    let debug = tokio::spawn(debug::serve(debug_listener, debug, stopped(stop.clone())));

    let secrets = Api::namespaced(client.clone(), &settings.namespace);
    let config_maps = Api::namespaced(client.clone(), &settings.namespace);
    let config_map = settings.revisioned(mesh_api::mesh_config::CONFIG_MAP);
    let publish = load::Publish {
        loaded: loaded_in,
        authority: authority_in,
    };
    tokio::spawn(load::load(secrets, publish, metrics.clone()));
    tokio::spawn(mesh_config::load(config_maps, config_map, config_in, metrics.clone()));
    tokio::spawn(mesh_config::join(
        config.clone(),
        authority.clone(),
        settings.namespace.clone(),
        settings.cluster_domain.clone(),
        facts_in,
        index.clone(),
    ));
    tokio::spawn(feeds::run(
        client.clone(),
        index.clone(),
        policies.clone(),
        progress.clone(),
        metrics.clone(),
    ));
    let guard = Arc::new(Guard::new(settings.jwks_blocked_cidrs.clone()));
    tokio::spawn(follow_addresses(client.clone(), guard.clone(), metrics.clone()));
    let names = Names::new(&settings.cluster_domain)?;
    let key_servers = jwks::Client::new(guard, names, provider.clone(), settings.jwks_extra_root_ca.clone());
    let times = Times {
        refresh: settings.jwks_refresh_interval,
        keep: jwks::KEEP,
        asked: jwks::ASKED,
    };
    let askings = Askings::default();
    tokio::spawn(jwks::run(
        index.clone(),
        Arc::new(key_servers),
        times,
        askings.clone(),
        metrics.clone(),
    ));
    let publishing = index.clone();
    tokio::spawn(async move { publishing.publish().await });

    let owner = install::owner(&client, &settings.namespace, &settings.service_account).await;
    let election = leader::run(
        Api::namespaced(client.clone(), &settings.namespace),
        settings.revisioned("pinnace-operator"),
        settings.pod_name.clone(),
        owner,
        leadership.clone(),
        metrics.clone(),
        stopped(stop.clone()),
    );
    let (known, ending) = (progress.clone(), stop.clone());
    let lease = tokio::spawn(async move {
        // Who could not act yet leaves the lease to who can.
        tokio::select! {
            () = feeds::synced(&known) => election.await,
            () = stopped(ending) => {}
        }
    });
    let replicas = (settings.namespace.clone(), settings.service_account.clone());
    let reports = Reports::from(service::Shared {
        index: index.clone(),
        ledger: ledger.clone(),
        leadership: leadership.clone(),
        forward: Forward {
            leadership: leadership.clone(),
            index: index.clone(),
            outgoing: outgoing.clone(),
            replicas: replicas.clone(),
            port: settings.discovery_addr.port(),
            connection: tokio::sync::Mutex::default(),
        },
        replicas,
        metrics: metrics.clone(),
    });
    let writers = Writers {
        settings: settings.clone(),
        client,
        index: index.clone(),
        policies,
        ledger,
        authority: authority.clone(),
        loaded,
        config: config.clone(),
        progress: progress.clone(),
        leadership,
        metrics: metrics.clone(),
        provider: provider.clone(),
    };
    tokio::spawn(writers.run());

    // Nothing is served before it is known: a stream that opened earlier would be told of an empty mesh.
    let ready = async {
        feeds::synced(&progress).await;
        // A sender that is gone means that the process ends.
        let _ = config.clone().wait_for(Option::is_some).await;
        let _ = authority.clone().wait_for(Option::is_some).await;
    };
    tokio::select! {
        () = ready => {}
        () = stopped(stop.clone()) => {}
    }
    let holder = Holder {
        namespace: settings.namespace.clone(),
        service_account: settings.service_account.clone(),
        ttl: settings.workload_cert_ttl,
    };
    tokio::spawn(credentials::keep(
        current.clone(),
        outgoing,
        authority,
        facts,
        holder,
        provider,
        metrics.clone(),
    ));
    let discovery = tokio::spawn(discovery::serve(
        discovery_listener,
        current,
        Discovery {
            index,
            metrics,
            streams,
            askings,
            stop: stop.clone(),
        },
        reports,
        listening,
    ));

    stopped(stop).await;
    info!("stops");
    let ending = async {
        let (lease, discovery, health, debug) = tokio::join!(lease, discovery, health, debug);
        if lease.is_err() || discovery.is_err() || health.is_err() || debug.is_err() {
            warn!("a part did not end in order");
        }
    };
    if tokio::time::timeout(SHUTDOWN, ending).await.is_err() {
        warn!("some streams did not end in time");
    }
    Ok(())
}

/// What the lease holder runs.
struct Writers {
    settings: Settings,
    client: Client,
    index: Arc<Index>,
    policies: Arc<Policies>,
    ledger: Ledger,
    authority: watch::Receiver<Option<Arc<Authority>>>,
    loaded: watch::Receiver<Option<Loaded>>,
    config: watch::Receiver<Option<Arc<MeshConfig>>>,
    progress: Progress,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    provider: Arc<CryptoProvider>,
}

impl Writers {
    /// Writes whenever the lease is held, for as long as it is.
    async fn run(mut self) {
        loop {
            self.leadership.gained().await;
            install::report_others(&self.client, &self.settings.namespace, &self.settings.service_account).await;
            let leadership = self.leadership.clone();
            tokio::select! {
                () = self.write() => return,
                () = leadership.lost() => {}
            }
            // Whoever holds the lease now knows these.
            self.ledger.forget_sidecars();
            self.metrics.nearest_expiry.set(f64::INFINITY);
            self.metrics.foreign_secrets.set(0);
        }
    }

    async fn write(&mut self) {
        let Self {
            settings,
            client,
            index,
            policies,
            ledger,
            leadership,
            metrics,
            provider,
            ..
        } = self;
        let secrets = Api::namespaced(client.clone(), &settings.namespace);
        let keep = store::keep(
            secrets,
            settings.namespace.clone(),
            self.loaded.clone(),
            leadership.clone(),
        );
        let rest = async {
            feeds::synced(&self.progress).await;
            // A sender that is gone means that the process ends.
            let _ = self.config.wait_for(Option::is_some).await;
            let _ = self.authority.clone().wait_for(Option::is_some).await;
            let board = Board::default();
            let (news, announced) = mpsc::channel(nudge::QUEUED);
            let reporter = Reporter {
                controller: "pinnace-operator".to_owned(),
                instance: Some(settings.pod_name.clone()),
            };
            let events = Recorder::new(client.clone(), reporter.clone());
            let identities = identities::run(Arc::new(identities::Context {
                client: client.clone(),
                index: index.clone(),
                authority: self.authority.clone(),
                ttl: settings.workload_cert_ttl,
                namespaces: settings.secret_namespaces.clone(),
                leadership: leadership.clone(),
                metrics: metrics.clone(),
                provider: provider.clone(),
                events,
                news,
                memory: std::sync::Mutex::default(),
            }));
            let nudges = nudge::run(
                client.clone(),
                index.clone(),
                announced,
                leadership.clone(),
                metrics.clone(),
            );
            let serving = serving::Serving {
                client: client.clone(),
                namespace: settings.namespace.clone(),
                secret: settings.revisioned("pinnace-webhook-tls"),
                service: settings.revisioned("pinnace-webhook"),
                cluster_domain: settings.cluster_domain.clone(),
                authority: self.authority.clone(),
                leadership: leadership.clone(),
                metrics: metrics.clone(),
                provider: provider.clone(),
            };
            let injector = ca_bundle::keep::<MutatingWebhookConfiguration>(
                client.clone(),
                settings.revisioned("pinnace-sidecar-injector"),
                self.authority.clone(),
                leadership.clone(),
                metrics.clone(),
            );
            let validator = ca_bundle::keep::<ValidatingWebhookConfiguration>(
                client.clone(),
                settings.revisioned("pinnace-validator"),
                self.authority.clone(),
                leadership.clone(),
                metrics.clone(),
            );
            let statuses = status::keep(
                client.clone(),
                index.clone(),
                policies.clone(),
                ledger.clone(),
                board.clone(),
                leadership.clone(),
                metrics.clone(),
            );
            let when_ready = when_ready::run::run(when_ready::run::Context {
                client: client.clone(),
                index: index.clone(),
                policies: policies.clone(),
                ledger: ledger.clone(),
                board,
                quiet: settings.strict_when_ready_quiet,
                revision: settings.revision.clone(),
                tags: settings.revision_tags.clone(),
                leadership: leadership.clone(),
                metrics: metrics.clone(),
                reporter,
            });
            tokio::join!(
                identities,
                nudges,
                serving.run(),
                injector,
                validator,
                statuses,
                when_ready
            );
        };
        tokio::join!(keep, rest);
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means that the process ends.
    let _ = stop.wait_for(|stop| *stop).await;
}
