//! What the mesh says of traffic where no DestinationRule does: `connectTimeout`, `tcpKeepalive`, `h2UpgradePolicy` and
//! `localityLbSetting`.

use std::time::Duration;

use mesh_core::destination_rule::LocalityRule;
use mesh_core::traffic::{Keepalive, MeshDefaults};

use super::fields::Fields;
use crate::{destination_rule, duration};

/// Istio's `connectTimeout`, which is also that of a sidecar that was told none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn take(fields: &mut Fields) -> MeshDefaults {
    let whole =
        |fields: &mut Fields, name| fields.parsed(name, duration::WHOLE_MILLISECONDS, duration::whole_milliseconds);
    let connect_timeout = whole(fields, "connectTimeout").filter(|timeout| *timeout != CONNECT_TIMEOUT);
    let keepalive = fields.object("tcpKeepalive").map(|mut keepalive| {
        let probes = keepalive.number("probes", "a whole number", |number| u32::try_from(number).ok());
        let said = Keepalive {
            probes: probes.filter(|probes| *probes > 0),
            time: whole(&mut keepalive, "time"),
            interval: whole(&mut keepalive, "interval"),
        };
        fields.end(keepalive);
        said
    });
    let upgrade = fields.parsed("h2UpgradePolicy", "DO_NOT_UPGRADE or UPGRADE", |text| match text {
        "DO_NOT_UPGRADE" => Some(false),
        "UPGRADE" => Some(true),
        _ => None,
    });
    let setting = fields.value("localityLbSetting", "a LocalityLoadBalancerSetting", |value| {
        serde_json::from_value(value.clone()).ok()
    });
    let locality = setting.map_or(Ok(LocalityRule::Unsaid), |setting| {
        destination_rule::locality("localityLbSetting", &setting)
    });
    let locality = locality.unwrap_or_else(|errors| {
        fields.refused(errors);
        LocalityRule::Unsaid
    });
    MeshDefaults {
        connect_timeout,
        keepalive,
        upgrade: upgrade.unwrap_or(false),
        locality: match locality {
            LocalityRule::Unsaid => MeshDefaults::default().locality,
            LocalityRule::Off => None,
            LocalityRule::Set(setting) => Some(setting),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::MeshConfig;
    use mesh_core::traffic::MeshDefaults;
    use std::time::Duration;

    #[test]
    fn what_is_said_and_what_is_not() {
        let of = |text| MeshConfig::parse(text).unwrap().traffic;
        assert_eq!(of("connectTimeout: 10s"), MeshDefaults::default());
        let said = of(
            "connectTimeout: 3s\ntcpKeepalive: {probes: 2, time: 10s}\nh2UpgradePolicy: UPGRADE\n\
             localityLbSetting: {failover: [{from: eu, to: us}]}\n",
        );
        assert_eq!(said.connect_timeout, Some(Duration::from_secs(3)));
        let keepalive = said.keepalive.unwrap();
        assert_eq!((keepalive.probes, keepalive.interval), (Some(2), None));
        assert!(said.upgrade);
        assert_eq!(&*said.locality.unwrap().failover[0].to, "us");
        assert_eq!(of("localityLbSetting: {enabled: false}").locality, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field) in [
            ("connectTimeout: soon", "connectTimeout: "),
            ("tcpKeepalive: {time: 0s}", "tcpKeepalive.time: "),
            ("h2UpgradePolicy: MAYBE", "h2UpgradePolicy: "),
            ("localityLbSetting: 3", "localityLbSetting: "),
            (
                "localityLbSetting: {failover: [{from: eu, to: eu}]}",
                "localityLbSetting.failover[0]: ",
            ),
        ] {
            let errors = MeshConfig::parse(text).unwrap_err();
            assert!(crate::join(&errors).starts_with(field), "{text}: {errors:?}");
        }
    }
}
