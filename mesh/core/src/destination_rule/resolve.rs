//! What rules say of one port, of all endpoints or of a subset, with Istio's inheritance.
//!
//! The settings of a port take the place of the whole policy and inherit nothing. Over what the rule says of the port a
//! subset's policy is laid field by field, or, where it has settings for the port, in place of all that such settings can
//! say. What is still absent is the mesh's, or Istio's default.

use super::policy::{LocalityRule, Settings, TrafficPolicy};
use super::{Merged, Subset};
use crate::client_tls::{ClientTls, TlsRule};
use crate::protocol::Declared;
use crate::traffic::{
    Balancer, Distribution, HttpLimits, Keepalive, LocalitySetting, MeshDefaults, ProxyProtocol, RetryBudget,
    TcpLimits, Traffic, UpgradePolicy,
};
use std::sync::Arc;
use std::time::Duration;

/// The port that is asked about, and what holds where no rule says anything.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The Service's port.
    pub port: u16,
    /// What the port was declared to speak.
    pub protocol: Declared,
    /// What the Service says of places.
    pub distribution: Distribution,
    /// The mesh's settings.
    pub defaults: &'a MeshDefaults,
}

impl Asked<'_> {
    /// What holds where there is no rule at all.
    #[must_use]
    pub fn without_rule(&self) -> Traffic {
        Parts::default().traffic(self)
    }
}

impl Merged {
    /// `namespace/name` of the rule whose traffic policy is in force, or of the oldest where none has one.
    #[must_use]
    pub fn rule(&self) -> Arc<str> {
        let oldest = || self.parts.first().map(|part| &part.name);
        let name = self.policy.as_ref().map(|(name, _)| name).or_else(oldest);
        format!("{}/{}", self.namespace, name.map_or("", |name| name)).into()
    }

    /// A subset by its name.
    #[must_use]
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    /// What it says of TLS on a Service's port.
    #[must_use]
    pub fn tls_rule(&self, port: u16) -> Option<TlsRule> {
        self.parts_of(port, None).tls_rule()
    }

    /// What it says of TLS on a Service's port to a subset.
    #[must_use]
    pub fn subset_tls_rule(&self, port: u16, subset: &Subset) -> Option<TlsRule> {
        self.parts_of(port, Some(subset)).tls_rule()
    }

    /// What it says of everything else on a Service's port.
    #[must_use]
    pub fn traffic(&self, asked: &Asked<'_>) -> Traffic {
        self.parts_of(asked.port, None).traffic(asked)
    }

    /// What it says of everything else on a Service's port to a subset.
    #[must_use]
    pub fn subset_traffic(&self, asked: &Asked<'_>, subset: &Subset) -> Traffic {
        self.parts_of(asked.port, Some(subset)).traffic(asked)
    }

    fn parts_of<'a>(&'a self, port: u16, subset: Option<&'a Subset>) -> Parts<'a> {
        let mut parts = Parts::default();
        if let Some((name, policy)) = &self.policy {
            let rule = (&*self.namespace, &**name);
            parts = Parts::of(rule, policy, port).0;
        }
        if let Some(subset) = subset
            && let Some(policy) = &subset.policy
        {
            let (own, of_port) = Parts::of((&self.namespace, &subset.rule), policy, port);
            parts.overlay(own, of_port);
        }
        parts
    }
}

/// The parts of policies that hold together.
#[derive(Debug, Default)]
struct Parts<'a> {
    /// With the namespace and name of the rule that says it.
    tls: Option<((&'a str, &'a str), &'a Arc<ClientTls>)>,
    settings: SettingsOf<'a>,
    proxy_protocol: Option<ProxyProtocol>,
    retry_budget: Option<&'a RetryBudget>,
}

#[derive(Debug, Default)]
struct SettingsOf<'a> {
    balancer: Option<&'a super::policy::LoadBalancer>,
    pool: Option<&'a super::policy::ConnectionPool>,
    outliers: Option<&'a crate::traffic::OutlierDetection>,
}

impl<'a> From<&'a Settings> for SettingsOf<'a> {
    fn from(settings: &'a Settings) -> Self {
        Self {
            balancer: settings.balancer.as_ref(),
            pool: settings.pool.as_ref(),
            outliers: settings.outliers.as_ref(),
        }
    }
}

impl<'a> Parts<'a> {
    /// A policy's, and whether they are those of its port.
    fn of(rule: (&'a str, &'a str), policy: &'a TrafficPolicy, port: u16) -> (Self, bool) {
        match policy.ports.get(&port) {
            Some(port) => (
                Self {
                    tls: port.tls.as_ref().map(|tls| (rule, tls)),
                    settings: (&port.settings).into(),
                    ..Self::default()
                },
                true,
            ),
            None => (
                Self {
                    tls: policy.tls.as_ref().map(|tls| (rule, tls)),
                    settings: (&policy.settings).into(),
                    proxy_protocol: policy.proxy_protocol,
                    retry_budget: policy.retry_budget.as_ref(),
                },
                false,
            ),
        }
    }

    /// Lays a subset's over the rule's. Those of a port replace what a port can say, absent or not.
    fn overlay(&mut self, own: Self, of_port: bool) {
        if of_port {
            self.tls = own.tls;
            self.settings = own.settings;
            return;
        }
        let (held, settings) = (&mut self.settings, own.settings);
        self.tls = own.tls.or(self.tls);
        held.balancer = settings.balancer.or(held.balancer);
        held.pool = settings.pool.or(held.pool);
        held.outliers = settings.outliers.or(held.outliers);
        self.proxy_protocol = own.proxy_protocol.or(self.proxy_protocol);
        self.retry_budget = own.retry_budget.or(self.retry_budget);
    }

    fn tls_rule(&self) -> Option<TlsRule> {
        self.tls.map(|((namespace, name), tls)| TlsRule {
            rule: format!("{namespace}/{name}").into(),
            tls: tls.clone(),
        })
    }

    fn traffic(&self, asked: &Asked<'_>) -> Traffic {
        let SettingsOf {
            balancer,
            pool,
            outliers,
        } = &self.settings;
        let (tcp, http) = pool
            .map(|pool| (pool.tcp.clone(), pool.http.clone()))
            .unwrap_or_default();
        let chosen = balancer.map(|it| it.balancer.clone()).unwrap_or_default();
        // Only these two slow down for endpoints that are new.
        let warms = matches!(chosen, Balancer::LeastRequest | Balancer::RoundRobin);
        let locality = match balancer.map(|it| &it.locality) {
            Some(LocalityRule::Off) => None,
            Some(LocalityRule::Set(setting)) => in_force(setting, outliers.is_some()),
            Some(LocalityRule::Unsaid) | None => match asked.distribution.setting() {
                // A Service's wish needs no outlier detection.
                Some(setting) => Some(setting),
                None => asked
                    .defaults
                    .locality
                    .as_ref()
                    .and_then(|setting| in_force(setting, outliers.is_some())),
            },
        };
        Traffic {
            locality,
            warmup: balancer.and_then(|it| it.warmup.clone()).filter(|_| warms),
            balancer: chosen,
            http: http_limits(http, tcp.idle_timeout, asked),
            tcp: tcp_limits(tcp, asked.defaults),
            outliers: outliers.cloned(),
            retry_budget: self.retry_budget.cloned(),
            proxy_protocol: self.proxy_protocol,
        }
    }
}

/// A setting, as far as it decides anything: without outlier detection nothing ever fails over.
fn in_force(setting: &LocalitySetting, outliers: bool) -> Option<LocalitySetting> {
    if !setting.distribute.is_empty() {
        return Some(LocalitySetting {
            distribute: setting.distribute.clone(),
            ..LocalitySetting::default()
        });
    }
    outliers.then(|| setting.clone())
}

fn tcp_limits(limits: TcpLimits, defaults: &MeshDefaults) -> TcpLimits {
    let (own, mesh) = (limits.keepalive.unwrap_or_default(), defaults.keepalive);
    let keepalive = match mesh {
        // Field by field over the mesh's.
        Some(mesh) => Some(Keepalive {
            probes: own.probes.or(mesh.probes),
            time: own.time.or(mesh.time),
            interval: own.interval.or(mesh.interval),
        }),
        None => limits.keepalive,
    };
    TcpLimits {
        connect_timeout: limits.connect_timeout.or(defaults.connect_timeout),
        keepalive,
        ..limits
    }
}

fn http_limits(limits: HttpLimits, tcp_idle: Option<Duration>, asked: &Asked<'_>) -> HttpLimits {
    let upgrade = match limits.upgrade {
        UpgradePolicy::Default
            if asked.defaults.upgrade && asked.protocol == Declared::Http && !limits.use_client_protocol =>
        {
            UpgradePolicy::Upgrade
        }
        said => said,
    };
    HttpLimits {
        idle_timeout: limits.idle_timeout.or(tcp_idle),
        upgrade,
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConnectionPool, Export, LoadBalancer, PortPolicy, Rule, Rules};
    use super::*;
    use crate::labels::Labels;
    use crate::traffic::{Distribute, OutlierDetection, Warmup};

    fn balancer(balancer: Balancer) -> Option<LoadBalancer> {
        Some(LoadBalancer {
            balancer,
            ..LoadBalancer::default()
        })
    }

    fn pool(max_connections: u32) -> Option<ConnectionPool> {
        Some(ConnectionPool {
            tcp: TcpLimits {
                max_connections: Some(max_connections),
                ..TcpLimits::default()
            },
            ..ConnectionPool::default()
        })
    }

    fn merged(policy: Option<TrafficPolicy>, subset: Option<TrafficPolicy>) -> Merged {
        let rule = Rule {
            namespace: "shop".into(),
            name: "r".into(),
            created: 0,
            host: "reviews".into(),
            export_to: Export::everywhere(),
            selector: None,
            policy,
            subsets: vec![Subset {
                rule: "r".into(),
                name: "v1".to_owned(),
                labels: Labels::new(),
                policy: subset,
            }],
        };
        let mut rules = Rules::default();
        rules.set(&"shop".into(), &"r".into(), Some(rule), "cluster.local");
        rules.merged("shop", "r").unwrap().clone()
    }

    fn asked(port: u16, defaults: &MeshDefaults) -> Asked<'_> {
        Asked {
            port,
            protocol: Declared::Http,
            distribution: Distribution::Any,
            defaults,
        }
    }

    fn of(settings: Settings) -> TrafficPolicy {
        TrafficPolicy {
            settings,
            proxy_protocol: Some(ProxyProtocol::V1),
            ..TrafficPolicy::default()
        }
    }

    #[test]
    fn a_port_inherits_nothing_and_a_subset_field_by_field() {
        let defaults = MeshDefaults::default();
        let ports = |settings: Settings| [(90, PortPolicy { tls: None, settings })].into();
        let rule = TrafficPolicy {
            tls: Some(Arc::new(ClientTls::Disable)),
            ports: ports(Settings {
                balancer: balancer(Balancer::Random),
                ..Settings::default()
            }),
            ..of(Settings {
                balancer: balancer(Balancer::RoundRobin),
                pool: pool(1),
                outliers: Some(OutlierDetection::default()),
            })
        };
        let subset = TrafficPolicy {
            proxy_protocol: None,
            ports: [
                (
                    90,
                    PortPolicy {
                        tls: Some(Arc::new(ClientTls::Disable)),
                        settings: Settings::default(),
                    },
                ),
                (91, PortPolicy::default()),
            ]
            .into(),
            ..of(Settings {
                pool: pool(2),
                ..Settings::default()
            })
        };
        let both = merged(Some(rule), Some(subset));
        let seen = |port, subset: bool| {
            let v1 = both.subset("v1").unwrap();
            let asked = asked(port, &defaults);
            let (traffic, tls) = if subset {
                (both.subset_traffic(&asked, v1), both.subset_tls_rule(port, v1))
            } else {
                (both.traffic(&asked), both.tls_rule(port))
            };
            let outliers = traffic.outliers.is_some();
            let proxy = traffic.proxy_protocol.is_some();
            (
                traffic.balancer,
                traffic.tcp.max_connections,
                outliers,
                proxy,
                tls.is_some(),
            )
        };
        let random = Balancer::Random;
        for (port, subset, expected) in [
            (80, false, (Balancer::RoundRobin, Some(1), true, true, true)),
            (80, true, (Balancer::RoundRobin, Some(2), true, true, true)),
            (90, false, (random, None, false, false, false)),
            (90, true, (Balancer::LeastRequest, None, false, false, true)),
            (91, true, (Balancer::LeastRequest, None, false, true, false)),
        ] {
            assert_eq!(seen(port, subset), expected, "{port} {subset}");
        }
        assert_eq!(both.subset("v2"), None);
        let alone = merged(None, Some(of(Settings::default())));
        let v1 = alone.subset("v1").unwrap();
        assert!(alone.subset_traffic(&asked(80, &defaults), v1).proxy_protocol.is_some());
        assert!(alone.traffic(&asked(80, &defaults)).proxy_protocol.is_none());
    }

    #[test]
    fn places_count_with_outlier_detection_or_where_a_service_asks() {
        let failover = LocalitySetting {
            failover_priority: vec!["a".into()],
            ..LocalitySetting::default()
        };
        let shares = LocalitySetting {
            distribute: vec![Distribute {
                from: "*".into(),
                to: [("eu".into(), 100)].into(),
            }],
            ..LocalitySetting::default()
        };
        let on = Some(LocalitySetting::default());
        let same_zone = Distribution::SameZone.setting();
        let set = |setting: &LocalitySetting| LocalityRule::Set(setting.clone());
        let (any, zone) = (Distribution::Any, Distribution::SameZone);
        for (rule, outliers, distribution, mesh, expected) in [
            (LocalityRule::Unsaid, false, any, &on, None),
            (LocalityRule::Unsaid, true, any, &on, on.clone()),
            (LocalityRule::Unsaid, true, any, &None, None),
            (LocalityRule::Unsaid, false, zone, &None, same_zone.clone()),
            (LocalityRule::Off, true, zone, &on, None),
            (set(&failover), false, any, &on, None),
            (set(&failover), false, zone, &on, None),
            (set(&failover), true, any, &None, Some(failover.clone())),
            (set(&shares), false, any, &on, Some(shares.clone())),
        ] {
            let defaults = MeshDefaults {
                locality: mesh.clone(),
                ..MeshDefaults::default()
            };
            let policy = of(Settings {
                balancer: Some(LoadBalancer {
                    locality: rule.clone(),
                    ..LoadBalancer::default()
                }),
                outliers: outliers.then(OutlierDetection::default),
                ..Settings::default()
            });
            let asked = Asked {
                distribution,
                ..asked(80, &defaults)
            };
            let seen = merged(Some(policy), None).traffic(&asked).locality;
            assert_eq!(seen, expected, "{rule:?} {outliers} {distribution:?} {mesh:?}");
        }
    }

    #[test]
    fn the_mesh_fills_in_what_no_rule_says() {
        let seconds = Duration::from_secs;
        let defaults = MeshDefaults {
            connect_timeout: Some(seconds(3)),
            keepalive: Some(Keepalive {
                probes: Some(1),
                time: Some(seconds(1)),
                interval: None,
            }),
            upgrade: true,
            ..MeshDefaults::default()
        };
        let without = asked(80, &defaults).without_rule();
        assert_eq!(
            (without.tcp.connect_timeout, without.tcp.keepalive),
            (Some(seconds(3)), defaults.keepalive)
        );
        assert_eq!(without.http.upgrade, UpgradePolicy::Upgrade);
        let undeclared = Asked {
            protocol: Declared::Detect,
            ..asked(80, &defaults)
        };
        assert_eq!(undeclared.without_rule().http.upgrade, UpgradePolicy::Default);
        assert_eq!(asked(80, &MeshDefaults::default()).without_rule(), Traffic::default());

        let policy = of(Settings {
            balancer: Some(LoadBalancer {
                balancer: Balancer::Random,
                warmup: Some(Warmup {
                    duration: seconds(1),
                    minimum_percent: 10.0,
                    aggression: 1.0,
                }),
                ..LoadBalancer::default()
            }),
            pool: Some(ConnectionPool {
                tcp: TcpLimits {
                    connect_timeout: Some(seconds(1)),
                    keepalive: Some(Keepalive {
                        time: Some(seconds(9)),
                        ..Keepalive::default()
                    }),
                    idle_timeout: Some(seconds(7)),
                    ..TcpLimits::default()
                },
                http: HttpLimits {
                    upgrade: UpgradePolicy::DoNotUpgrade,
                    ..HttpLimits::default()
                },
            }),
            ..Settings::default()
        });
        let traffic = merged(Some(policy), None).traffic(&asked(80, &defaults));
        let keepalive = traffic.tcp.keepalive.unwrap();
        assert_eq!(traffic.tcp.connect_timeout, Some(seconds(1)));
        assert_eq!((keepalive.probes, keepalive.time), (Some(1), Some(seconds(9))));
        assert_eq!(traffic.http.idle_timeout, Some(seconds(7)));
        assert_eq!(traffic.http.upgrade, UpgradePolicy::DoNotUpgrade);
        assert_eq!(traffic.warmup, None, "only two balancers know it");
    }

    #[test]
    fn what_services_say_of_places() {
        assert_eq!(Distribution::parse("PreferClose"), Some(Distribution::SameZone));
        assert_eq!(Distribution::parse("preferclose"), None);
        assert_eq!(Distribution::annotated("preferSameNode"), Distribution::SameNode);
        assert_eq!(Distribution::annotated("PreferNothing"), Distribution::Any);
        assert_eq!(Distribution::SameNode.setting().unwrap().failover_priority.len(), 5);
        assert_eq!(LocalitySetting::label("a=b"), ("a", Some("b")));
        assert_eq!(LocalitySetting::label("a"), ("a", None));
    }
}
