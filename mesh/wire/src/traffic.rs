//! Between the messages of how a destination's endpoints are used and `mesh_core`'s types.

use crate::check::{amount, bounded, each, known, named, nanos, shared, status, texts, within};
use crate::convert::ConvertError;
use crate::resources as wire;
use mesh_core::traffic::{
    Balancer, ConsistentHash, Cookie, Distribute, Failover, HashAlgorithm, HashKey, Http2KeepAlive, HttpLimits,
    Keepalive, LocalitySetting, OutlierDetection, ProxyProtocol, RetryBudget, TcpLimits, Traffic, UpgradePolicy,
    Warmup,
};
use std::time::Duration;

/// The most entries of a list in a locality setting, or attributes of a cookie.
const MOST_ENTRIES: usize = 1000;

/// The largest ring and the largest table, as Envoy has them: both are memory of every client.
const MOST_POINTS: u32 = 8 << 20;
const MOST_PLACES: u32 = 5_000_011;

impl TryFrom<&wire::Traffic> for Traffic {
    type Error = ConvertError;

    fn try_from(message: &wire::Traffic) -> Result<Self, ConvertError> {
        let proxy_protocol = match wire::ProxyProtocol::try_from(message.proxy_protocol) {
            Ok(wire::ProxyProtocol::None) => None,
            Ok(wire::ProxyProtocol::V1) => Some(ProxyProtocol::V1),
            Ok(wire::ProxyProtocol::V2) => Some(ProxyProtocol::V2),
            Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "traffic.proxy_protocol",
                    value: message.proxy_protocol,
                });
            }
        };
        Ok(Self {
            balancer: message.balancer.as_ref().map_or(Ok(Balancer::default()), balancer)?,
            locality: message.locality.as_ref().map(locality).transpose()?,
            warmup: message.warmup.as_ref().map(warmup).transpose()?,
            tcp: message.tcp.as_ref().map_or_else(TcpLimits::default, tcp),
            http: message.http.as_ref().map_or(Ok(HttpLimits::default()), http)?,
            outliers: message.outliers.as_ref().map(outliers).transpose()?,
            retry_budget: message.retry_budget.as_ref().map(budget).transpose()?,
            proxy_protocol,
        })
    }
}

impl From<&Traffic> for wire::Traffic {
    fn from(traffic: &Traffic) -> Self {
        Self {
            balancer: (traffic.balancer != Balancer::default()).then(|| (&traffic.balancer).into()),
            locality: traffic.locality.as_ref().map(Into::into),
            warmup: traffic.warmup.as_ref().map(|warmup| wire::Warmup {
                duration: nanos(warmup.duration),
                minimum_percent: warmup.minimum_percent,
                aggression: warmup.aggression,
            }),
            tcp: (traffic.tcp != TcpLimits::default()).then(|| (&traffic.tcp).into()),
            http: (traffic.http != HttpLimits::default()).then(|| (&traffic.http).into()),
            outliers: traffic.outliers.as_ref().map(Into::into),
            retry_budget: traffic.retry_budget.as_ref().map(|budget| wire::RetryBudget {
                percent: budget.percent,
                min_concurrency: budget.min_concurrency,
                interval: budget.interval.map(nanos),
            }),
            proxy_protocol: match traffic.proxy_protocol {
                None => wire::ProxyProtocol::None,
                Some(ProxyProtocol::V1) => wire::ProxyProtocol::V1,
                Some(ProxyProtocol::V2) => wire::ProxyProtocol::V2,
            }
            .into(),
        }
    }
}

fn balancer(message: &wire::Balancer) -> Result<Balancer, ConvertError> {
    const FIELD: &str = "traffic.balancer";
    Ok(match known(FIELD, message.kind.as_ref())? {
        wire::BalancerKind::Hash(hash) => Balancer::Hash(consistent(hash)?),
        wire::BalancerKind::Simple(simple) => match wire::SimpleBalancer::try_from(*simple) {
            Ok(wire::SimpleBalancer::LeastRequest) => Balancer::LeastRequest,
            Ok(wire::SimpleBalancer::RoundRobin) => Balancer::RoundRobin,
            Ok(wire::SimpleBalancer::Random) => Balancer::Random,
            Ok(wire::SimpleBalancer::Passthrough) => Balancer::Passthrough,
            Ok(wire::SimpleBalancer::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: FIELD,
                    value: *simple,
                });
            }
        },
    })
}

impl From<&Balancer> for wire::Balancer {
    fn from(balancer: &Balancer) -> Self {
        let simple = |simple: wire::SimpleBalancer| wire::BalancerKind::Simple(simple.into());
        Self {
            kind: Some(match balancer {
                Balancer::LeastRequest => simple(wire::SimpleBalancer::LeastRequest),
                Balancer::RoundRobin => simple(wire::SimpleBalancer::RoundRobin),
                Balancer::Random => simple(wire::SimpleBalancer::Random),
                Balancer::Passthrough => simple(wire::SimpleBalancer::Passthrough),
                Balancer::Hash(hash) => wire::BalancerKind::Hash(hash.into()),
            }),
        }
    }
}

fn consistent(message: &wire::ConsistentHash) -> Result<ConsistentHash, ConvertError> {
    let key = match known("traffic.balancer.key", message.key.as_ref())? {
        wire::HashKey::Header(name) => HashKey::Header(named("traffic.balancer.header", name)?),
        wire::HashKey::QueryParameter(name) => HashKey::QueryParameter(named("traffic.balancer.query", name)?),
        wire::HashKey::SourceIp(_) => HashKey::SourceIp,
        wire::HashKey::Cookie(cookie) => {
            bounded("traffic.balancer.cookie.attributes", &cookie.attributes, MOST_ENTRIES)?;
            let attributes = cookie.attributes.iter();
            HashKey::Cookie(Cookie {
                name: named("traffic.balancer.cookie.name", &cookie.name)?,
                path: cookie.path.as_deref().map(Into::into),
                ttl: cookie.ttl.map(Duration::from_nanos),
                attributes: attributes
                    .map(|pair| (pair.key.as_str().into(), pair.value.as_str().into()))
                    .collect(),
            })
        }
    };
    let algorithm = match known("traffic.balancer.algorithm", message.algorithm)? {
        wire::HashAlgorithm::Ring(points) => HashAlgorithm::Ring {
            minimum_size: within(
                "traffic.balancer.ring",
                points,
                |points| points <= MOST_POINTS,
                "at most 8388608",
            )?,
        },
        wire::HashAlgorithm::Maglev(places) => HashAlgorithm::Maglev {
            table_size: within(
                "traffic.balancer.maglev",
                places,
                |places| (1..=MOST_PLACES).contains(&places),
                "1 to 5000011",
            )?,
        },
    };
    Ok(ConsistentHash { key, algorithm })
}

impl From<&ConsistentHash> for wire::ConsistentHash {
    fn from(hash: &ConsistentHash) -> Self {
        Self {
            key: Some(match &hash.key {
                HashKey::Header(name) => wire::HashKey::Header(name.to_string()),
                HashKey::QueryParameter(name) => wire::HashKey::QueryParameter(name.to_string()),
                HashKey::SourceIp => wire::HashKey::SourceIp(true),
                HashKey::Cookie(cookie) => wire::HashKey::Cookie(wire::Cookie {
                    name: cookie.name.to_string(),
                    path: cookie.path.as_ref().map(ToString::to_string),
                    ttl: cookie.ttl.map(nanos),
                    attributes: cookie.attributes.iter().map(|(key, value)| pair(key, value)).collect(),
                }),
            }),
            algorithm: Some(match hash.algorithm {
                HashAlgorithm::Ring { minimum_size } => wire::HashAlgorithm::Ring(minimum_size),
                HashAlgorithm::Maglev { table_size } => wire::HashAlgorithm::Maglev(table_size),
            }),
        }
    }
}

fn pair(key: &str, value: &str) -> wire::KeyValue {
    wire::KeyValue {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn locality(message: &wire::LocalitySetting) -> Result<LocalitySetting, ConvertError> {
    bounded("traffic.locality.distribute", &message.distribute, MOST_ENTRIES)?;
    bounded("traffic.locality.failover", &message.failover, MOST_ENTRIES)?;
    bounded(
        "traffic.locality.failover_priority",
        &message.failover_priority,
        MOST_ENTRIES,
    )?;
    let distribute = each("traffic.locality.distribute", &message.distribute, |entry| {
        bounded("to", &entry.to, MOST_ENTRIES)?;
        Ok(Distribute {
            from: entry.from.as_str().into(),
            to: entry
                .to
                .iter()
                .map(|share| (share.place.as_str().into(), share.percent))
                .collect(),
        })
    })?;
    let failover = message.failover.iter().map(|pair| Failover {
        from: pair.key.as_str().into(),
        to: pair.value.as_str().into(),
    });
    Ok(LocalitySetting {
        distribute,
        failover: failover.collect(),
        failover_priority: shared(&message.failover_priority),
        always: message.always,
    })
}

impl From<&LocalitySetting> for wire::LocalitySetting {
    fn from(setting: &LocalitySetting) -> Self {
        let distribute = setting.distribute.iter().map(|entry| wire::Distribute {
            from: entry.from.to_string(),
            to: entry
                .to
                .iter()
                .map(|(place, percent)| wire::Share {
                    place: place.to_string(),
                    percent: *percent,
                })
                .collect(),
        });
        Self {
            distribute: distribute.collect(),
            failover: setting.failover.iter().map(|it| pair(&it.from, &it.to)).collect(),
            failover_priority: texts(&setting.failover_priority),
            always: setting.always,
        }
    }
}

fn warmup(message: &wire::Warmup) -> Result<Warmup, ConvertError> {
    Ok(Warmup {
        duration: Duration::from_nanos(message.duration),
        minimum_percent: amount("traffic.warmup.minimum_percent", message.minimum_percent)?,
        aggression: amount("traffic.warmup.aggression", message.aggression)?,
    })
}

fn tcp(message: &wire::TcpLimits) -> TcpLimits {
    TcpLimits {
        max_connections: message.max_connections,
        connect_timeout: message.connect_timeout.map(Duration::from_nanos),
        keepalive: message.keepalive.as_ref().map(|keepalive| Keepalive {
            probes: keepalive.probes,
            time: keepalive.time.map(Duration::from_nanos),
            interval: keepalive.interval.map(Duration::from_nanos),
        }),
        max_connection_duration: message.max_connection_duration.map(Duration::from_nanos),
        idle_timeout: message.idle_timeout.map(Duration::from_nanos),
    }
}

impl From<&TcpLimits> for wire::TcpLimits {
    fn from(limits: &TcpLimits) -> Self {
        Self {
            max_connections: limits.max_connections,
            connect_timeout: limits.connect_timeout.map(nanos),
            keepalive: limits.keepalive.as_ref().map(|keepalive| wire::Keepalive {
                probes: keepalive.probes,
                time: keepalive.time.map(nanos),
                interval: keepalive.interval.map(nanos),
            }),
            max_connection_duration: limits.max_connection_duration.map(nanos),
            idle_timeout: limits.idle_timeout.map(nanos),
        }
    }
}

fn http(message: &wire::HttpLimits) -> Result<HttpLimits, ConvertError> {
    let upgrade = match wire::UpgradePolicy::try_from(message.upgrade) {
        Ok(wire::UpgradePolicy::Default) => UpgradePolicy::Default,
        Ok(wire::UpgradePolicy::DoNotUpgrade) => UpgradePolicy::DoNotUpgrade,
        Ok(wire::UpgradePolicy::Upgrade) => UpgradePolicy::Upgrade,
        Err(_) => {
            return Err(ConvertError::Enumeration {
                field: "traffic.http.upgrade",
                value: message.upgrade,
            });
        }
    };
    Ok(HttpLimits {
        max_pending: message.max_pending,
        max_requests: message.max_requests,
        max_requests_per_connection: message.max_requests_per_connection,
        max_retries: message.max_retries,
        idle_timeout: message.idle_timeout.map(Duration::from_nanos),
        upgrade,
        use_client_protocol: message.use_client_protocol,
        max_concurrent_streams: message.max_concurrent_streams,
        http2_keep_alive: message.http2_keep_alive.as_ref().map(|pings| Http2KeepAlive {
            interval: Duration::from_nanos(pings.interval),
            timeout: Duration::from_nanos(pings.timeout),
        }),
    })
}

impl From<&HttpLimits> for wire::HttpLimits {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            max_pending: limits.max_pending,
            max_requests: limits.max_requests,
            max_requests_per_connection: limits.max_requests_per_connection,
            max_retries: limits.max_retries,
            idle_timeout: limits.idle_timeout.map(nanos),
            upgrade: match limits.upgrade {
                UpgradePolicy::Default => wire::UpgradePolicy::Default,
                UpgradePolicy::DoNotUpgrade => wire::UpgradePolicy::DoNotUpgrade,
                UpgradePolicy::Upgrade => wire::UpgradePolicy::Upgrade,
            }
            .into(),
            use_client_protocol: limits.use_client_protocol,
            max_concurrent_streams: limits.max_concurrent_streams,
            http2_keep_alive: limits.http2_keep_alive.as_ref().map(|pings| wire::Http2KeepAlive {
                interval: nanos(pings.interval),
                timeout: nanos(pings.timeout),
            }),
        }
    }
}

fn outliers(message: &wire::OutlierDetection) -> Result<OutlierDetection, ConvertError> {
    bounded("traffic.outliers.error_codes", &message.error_codes, MOST_ENTRIES)?;
    let percent = |field, value| within(field, value, |value| value <= 100, "0 to 100");
    Ok(OutlierDetection {
        split_local_errors: message.split_local_errors,
        consecutive_local: message.consecutive_local,
        consecutive_gateway: message.consecutive_gateway,
        consecutive_5xx: message.consecutive_5xx,
        interval: Duration::from_nanos(message.interval),
        base_ejection_time: Duration::from_nanos(message.base_ejection_time),
        max_ejection_percent: percent("traffic.outliers.max_ejection_percent", message.max_ejection_percent)?,
        min_health_percent: percent("traffic.outliers.min_health_percent", message.min_health_percent)?,
        error_codes: each("traffic.outliers.error_codes", &message.error_codes, |code| {
            status("code", *code)
        })?,
    })
}

impl From<&OutlierDetection> for wire::OutlierDetection {
    fn from(outliers: &OutlierDetection) -> Self {
        Self {
            split_local_errors: outliers.split_local_errors,
            consecutive_local: outliers.consecutive_local,
            consecutive_gateway: outliers.consecutive_gateway,
            consecutive_5xx: outliers.consecutive_5xx,
            interval: nanos(outliers.interval),
            base_ejection_time: nanos(outliers.base_ejection_time),
            max_ejection_percent: outliers.max_ejection_percent,
            min_health_percent: outliers.min_health_percent,
            error_codes: outliers.error_codes.iter().map(|code| (*code).into()).collect(),
        }
    }
}

fn budget(message: &wire::RetryBudget) -> Result<RetryBudget, ConvertError> {
    Ok(RetryBudget {
        percent: amount("traffic.retry_budget.percent", message.percent)?,
        min_concurrency: message.min_concurrency,
        interval: message.interval.map(Duration::from_nanos),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    /// With every field set.
    pub(crate) fn whole() -> Traffic {
        let seconds = Duration::from_secs;
        Traffic {
            balancer: Balancer::Hash(ConsistentHash {
                key: HashKey::Cookie(Cookie {
                    name: "session".into(),
                    path: Some("/".into()),
                    ttl: Some(Duration::ZERO),
                    attributes: vec![("SameSite".into(), "Lax".into())],
                }),
                algorithm: HashAlgorithm::Maglev { table_size: 65537 },
            }),
            locality: Some(LocalitySetting {
                distribute: vec![Distribute {
                    from: "eu/*".into(),
                    to: [(Arc::from("eu/a/*"), 80), (Arc::from("us/*"), 20)].into(),
                }],
                failover: vec![Failover {
                    from: "eu".into(),
                    to: "us".into(),
                }],
                failover_priority: vec!["topology.kubernetes.io/region".into(), "version=v1".into()],
                always: true,
            }),
            warmup: Some(Warmup {
                duration: seconds(30),
                minimum_percent: 12.5,
                aggression: 1.5,
            }),
            tcp: TcpLimits {
                max_connections: Some(0),
                connect_timeout: Some(Duration::from_millis(250)),
                keepalive: Some(Keepalive {
                    probes: Some(3),
                    time: Some(seconds(7200)),
                    interval: Some(seconds(75)),
                }),
                max_connection_duration: Some(seconds(3600)),
                idle_timeout: Some(Duration::ZERO),
            },
            http: HttpLimits {
                max_pending: Some(1),
                max_requests: Some(2),
                max_requests_per_connection: Some(3),
                max_retries: Some(4),
                idle_timeout: Some(seconds(5)),
                upgrade: UpgradePolicy::Upgrade,
                use_client_protocol: true,
                max_concurrent_streams: Some(6),
                http2_keep_alive: Some(Http2KeepAlive {
                    interval: seconds(7),
                    timeout: seconds(8),
                }),
            },
            outliers: Some(OutlierDetection {
                split_local_errors: true,
                consecutive_local: 1,
                consecutive_gateway: 2,
                consecutive_5xx: 3,
                interval: seconds(4),
                base_ejection_time: seconds(5),
                max_ejection_percent: 6,
                min_health_percent: 7,
                error_codes: vec![500, 599],
            }),
            retry_budget: Some(RetryBudget {
                percent: 12.5,
                min_concurrency: 4,
                interval: Some(seconds(10)),
            }),
            proxy_protocol: Some(ProxyProtocol::V2),
        }
    }

    fn returned(traffic: &Traffic) -> Result<Traffic, ConvertError> {
        Traffic::try_from(&wire::Traffic::from(traffic))
    }

    #[test]
    fn traffic_survives_the_wire() {
        assert_eq!(returned(&Traffic::default()), Ok(Traffic::default()));
        assert_eq!(returned(&whole()), Ok(whole()));
        let hash = |key, algorithm| Balancer::Hash(ConsistentHash { key, algorithm });
        let ring = HashAlgorithm::Ring { minimum_size: 1024 };
        for balancer in [
            Balancer::LeastRequest,
            Balancer::RoundRobin,
            Balancer::Random,
            Balancer::Passthrough,
            hash(HashKey::Header("x-user".into()), ring),
            hash(HashKey::SourceIp, ring),
            hash(HashKey::QueryParameter("user".into()), ring),
        ] {
            let traffic = Traffic {
                balancer,
                proxy_protocol: Some(ProxyProtocol::V1),
                ..Traffic::default()
            };
            assert_eq!(returned(&traffic), Ok(traffic));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        type Damage = (&'static str, fn(&mut wire::Traffic));
        fn hash(traffic: &mut wire::Traffic) -> &mut wire::ConsistentHash {
            match &mut traffic.balancer.as_mut().unwrap().kind {
                Some(wire::BalancerKind::Hash(hash)) => hash,
                _ => unreachable!(),
            }
        }
        let damage: [Damage; 14] = [
            ("traffic.balancer", |t| t.balancer = Some(wire::Balancer::default())),
            ("traffic.balancer", |t| {
                t.balancer = Some(wire::Balancer {
                    kind: Some(wire::BalancerKind::Simple(99)),
                });
            }),
            ("traffic.balancer.key", |t| hash(t).key = None),
            ("traffic.balancer.header", |t| {
                hash(t).key = Some(wire::HashKey::Header(String::new()));
            }),
            ("traffic.balancer.algorithm", |t| hash(t).algorithm = None),
            ("traffic.balancer.ring", |t| {
                hash(t).algorithm = Some(wire::HashAlgorithm::Ring(u32::MAX));
            }),
            ("traffic.balancer.maglev", |t| {
                hash(t).algorithm = Some(wire::HashAlgorithm::Maglev(0));
            }),
            ("traffic.locality.failover", |t| {
                t.locality.as_mut().unwrap().failover = vec![wire::KeyValue::default(); 1001];
            }),
            ("traffic.warmup.aggression", |t| {
                t.warmup.as_mut().unwrap().aggression = f64::NAN;
            }),
            ("traffic.http.upgrade", |t| t.http.as_mut().unwrap().upgrade = 9),
            ("traffic.outliers.max_ejection_percent", |t| {
                t.outliers.as_mut().unwrap().max_ejection_percent = 101;
            }),
            ("traffic.outliers.error_codes[1]", |t| {
                t.outliers.as_mut().unwrap().error_codes[1] = 70_000;
            }),
            ("traffic.retry_budget.percent", |t| {
                t.retry_budget.as_mut().unwrap().percent = -1.0;
            }),
            ("traffic.proxy_protocol", |t| t.proxy_protocol = 3),
        ];
        for (field, damage) in damage {
            let mut message = wire::Traffic::from(&whole());
            damage(&mut message);
            let error = Traffic::try_from(&message).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }
}
