use super::*;
use mesh_core::destination::{Endpoint, Subset};
use mesh_core::routing::Routes;
use mesh_core::traffic::{OutlierDetection, Traffic, Warmup};

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

fn destination(host: &str, last: &[u8], traffic: Traffic) -> Destination {
    Destination {
        host: host.into(),
        port: 80,
        endpoints: last.iter().map(|last| Endpoint::at(address(*last))).collect(),
        traffic: Arc::new(traffic),
        ..Destination::default()
    }
}

fn outliers() -> Traffic {
    Traffic {
        outliers: Some(OutlierDetection {
            consecutive_5xx: 2,
            base_ejection_time: Duration::from_secs(30),
            interval: Duration::from_secs(1),
            max_ejection_percent: 50,
            ..OutlierDetection::default()
        }),
        ..Traffic::default()
    }
}

fn made(clusters: &Clusters, destination: Destination) -> Arc<Cluster> {
    clusters.cluster(Arc::new(destination), &Place::default())
}

const ASKED: Asked<'_> = Asked {
    hash: None,
    dialled: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    tried: &[],
    elsewhere: false,
};

fn chosen(cluster: &Cluster) -> std::collections::BTreeSet<usize> {
    (0..200).filter_map(|_| cluster.choose(&ASKED)).collect()
}

#[test]
fn what_is_known_of_an_endpoint_outlives_versions_and_no_longer() {
    let clusters = Clusters::default();
    let first = made(&clusters, destination("web", &[1, 2], Traffic::default()));
    let (one, two) = (first.begin(0).unwrap(), first.begin(1).unwrap());
    let second = made(&clusters, destination("web", &[2, 3], Traffic::default()));
    drop(first);
    assert_eq!(
        second.hosts.iter().map(|host| host.under_way()).collect::<Vec<_>>(),
        [1, 0]
    );
    drop((one, two));
    assert_eq!(second.hosts[0].under_way(), 0);
    let third = made(&clusters, destination("web", &[3], Traffic::default()));
    drop(second);
    assert_eq!(third.state.all_hosts().len(), 1);
    let other = made(&clusters, destination("other", &[3], Traffic::default()));
    assert!(
        !Arc::ptr_eq(&other.hosts[0], &third.hosts[0]),
        "each cluster has its own"
    );
}

#[test]
fn an_endpoint_that_fails_is_left_out_for_a_while() {
    let clusters = Clusters::default();
    let cluster = made(&clusters, destination("web", &[1, 2, 3, 4], outliers()));
    let same = made(&clusters, destination("web", &[4, 3, 2, 1], outliers()));
    assert_eq!(chosen(&cluster).len(), 4);
    cluster.report(1, Outcome::Answered(500));
    cluster.report(1, Outcome::Answered(200));
    cluster.report(1, Outcome::Answered(500));
    assert_eq!(chosen(&cluster).len(), 4);
    cluster.report(1, Outcome::NotConnected);
    assert!(cluster.is_ejected(1));
    assert_eq!(chosen(&cluster), [0, 2, 3].into());
    assert_eq!(chosen(&same), [0, 1, 3].into(), "every version of the cluster knows it");
    // Half of them at the most.
    for at in [0, 2, 3] {
        (0..2).for_each(|_| cluster.report(at, Outcome::Answered(503)));
    }
    assert_eq!(chosen(&cluster).len(), 2);
    // A newer version without the rule asks for nobody to be left out.
    let without = made(&clusters, destination("web", &[1, 2, 3, 4], Traffic::default()));
    assert_eq!(chosen(&without).len(), 4);
    let again = made(&clusters, destination("web", &[1, 2, 3, 4], outliers()));
    assert_eq!(chosen(&again).len(), 2);

    let now = clusters
        .cluster(Arc::new(Destination::default()), &Place::default())
        .state
        .now();
    assert!(clusters.look(now + Duration::from_secs(29)));
    assert_eq!(chosen(&cluster).len(), 2);
    assert!(clusters.look(now + Duration::from_secs(31)));
    assert_eq!(chosen(&cluster).len(), 4);
    assert!(!clusters.look(now + Duration::from_secs(33)), "all is forgotten");
}

#[test]
fn where_all_are_ejected_nobody_is_chosen_unless_too_few_are_healthy() {
    for (min_health_percent, expected) in [(0, None), (50, Some(0))] {
        let mut traffic = outliers();
        if let Some(rule) = &mut traffic.outliers {
            rule.min_health_percent = min_health_percent;
        }
        let cluster = made(&Clusters::default(), destination("web", &[1], traffic));
        (0..2).for_each(|_| cluster.report(0, Outcome::Reset));
        assert_eq!(cluster.choose(&ASKED), expected, "{min_health_percent}");
    }
}

#[test]
fn what_was_tried_is_taken_only_where_nothing_else_is_left() {
    for balancer in [Balancer::LeastRequest, Balancer::RoundRobin, Balancer::Random] {
        let traffic = Traffic {
            balancer,
            ..Traffic::default()
        };
        let cluster = made(&Clusters::default(), destination("web", &[1, 2, 3], traffic));
        for _ in 0..50 {
            for (tried, expected) in [(&[0, 1][..], &[2][..]), (&[1], &[0, 2]), (&[0, 1, 2], &[0, 1, 2])] {
                let at = cluster.choose(&Asked { tried, ..ASKED }).unwrap();
                assert!(expected.contains(&at), "{tried:?}: {at}");
            }
        }
    }
    assert_eq!(made(&Clusters::default(), Destination::default()).choose(&ASKED), None);
}

#[test]
fn a_client_that_chose_itself_has_whom_it_dialled() {
    let cluster = made(
        &Clusters::default(),
        Destination {
            resolution: Resolution::OriginalDestination,
            ..destination("db", &[1, 2], Traffic::default())
        },
    );
    for (last, expected) in [(1, Some(0)), (2, Some(1)), (3, None)] {
        let asked = Asked {
            dialled: address(last),
            ..ASKED
        };
        assert_eq!(cluster.choose(&asked), expected);
    }
}

#[test]
fn routes_lead_to_subsets_and_other_destinations() {
    let subset = |name: &str, endpoints: &[u32]| Subset {
        name: name.into(),
        endpoints: endpoints.to_vec(),
        tls: None,
        traffic: Arc::default(),
        ..Subset::default()
    };
    let other = Destination {
        subsets: vec![subset("v2", &[0])],
        ..destination("other", &[7, 8], Traffic::default())
    };
    let cluster = made(
        &Clusters::default(),
        Destination {
            subsets: vec![subset("v1", &[0, 2]), subset("none", &[])],
            routes: Some(Arc::new(Routes {
                destinations: vec![Arc::new(other)],
                ..Routes::default()
            })),
            ..destination("web", &[1, 2, 3], Traffic::default())
        },
    );
    for (leads, subset, expected) in [
        (Leads::Own, InSubset::All, Some(("outbound|80||web", 3))),
        (Leads::Own, InSubset::Of(0), Some(("outbound|80|v1|web", 2))),
        (Leads::Own, InSubset::Of(1), Some(("outbound|80|none|web", 0))),
        (Leads::Own, InSubset::Of(2), None),
        (Leads::Own, InSubset::Unknown, None),
        (Leads::Other(0), InSubset::All, Some(("outbound|80||other", 2))),
        (Leads::Other(0), InSubset::Of(0), Some(("outbound|80|v2|other", 1))),
        (Leads::Other(1), InSubset::All, None),
        (Leads::Nowhere, InSubset::All, None),
    ] {
        let led = cluster.led_to(Target { leads, subset });
        let got = led.map(|it| (it.cluster_name(), it.endpoints.len()));
        assert_eq!(got, expected.map(|(name, len)| (name.to_owned(), len)));
        if let (Some(led), true) = (led, got.is_some_and(|got| got.1 == 0)) {
            assert_eq!(led.choose(&ASKED), None);
        }
    }
}

#[test]
fn a_new_endpoint_warms_up() {
    let traffic = Traffic {
        warmup: Some(Warmup {
            duration: Duration::from_secs(3600),
            minimum_percent: 10.0,
            aggression: 1.0,
        }),
        ..Traffic::default()
    };
    let cluster = made(&Clusters::default(), destination("web", &[1, 2], traffic));
    // All are new alike.
    assert_eq!(chosen(&cluster).len(), 2);
    let Plans::Changing { current, .. } = &cluster.plans else {
        panic!("it changes")
    };
    assert!(current.load().until.is_some());
}
