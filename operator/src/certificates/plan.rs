//! What is to be done about a Secret: one pure function of what is there, whether it is used, and the time.

use std::time::Duration;

use mesh_core::certificate::renew_at;

use super::held::{Defect, Held, Pair};

/// How long a certificate that nothing uses any more is kept, for workloads that are scaled to nothing and back.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// The longest name that a service account may have so that its Secret, `istio.NAME`, can be named (DNS subdomain, 253
/// characters).
pub const LONGEST_ACCOUNT_NAME: usize = 247;

/// Whether anything uses the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Some pod's sidecar reads it.
    Now,
    /// Nothing has used it for this long.
    NotSince(Duration),
}

/// What is known when the plan is made.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The holder's name: the service account's.
    pub name: &'a str,
    /// Whether anything uses it.
    pub usage: Use,
    /// What there is.
    pub held: &'a Held,
    /// The time, seconds since the epoch.
    pub now: i64,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// Half of its life has passed.
    Due,
    /// There is something wrong with the one that is there.
    Defect(Defect),
}

/// Why nothing is done where something should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A Secret of that name exists that the mesh did not make.
    #[error(
        "a Secret of this name exists that the mesh did not make (no label app.kubernetes.io/managed-by=pinnace); it is left as it is, and without it the pods of this service account have no certificate"
    )]
    Foreign,
    /// The Secret's name would be too long.
    #[error(
        "the service account's name is longer than 247 characters, so its Secret istio.NAME cannot be named; use a shorter name"
    )]
    NameTooLong,
    /// The operator may not write Secrets there.
    #[error(
        "the namespace is not among those whose Secrets the operator may write (operator.namespaces of the chart), so \
         this service account has no certificate"
    )]
    OutsideNamespaces,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, ever, until something changes.
    Nothing,
    /// It is fit; look again then.
    Keep {
        /// The certificate that is there.
        pair: Pair,
        /// When it is due for renewal.
        renew_in: Duration,
    },
    /// Issue and write.
    Issue(Reason),
    /// Nothing uses it; look again then.
    Linger(Duration),
    /// Delete it.
    Remove,
    /// Say why nothing can be done.
    Refuse(Refusal),
}

/// Makes the plan.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    if let Use::NotSince(unused) = facts.usage {
        return match facts.held {
            Held::Nothing | Held::Foreign => Plan::Nothing,
            Held::Defective(_) | Held::Good(_) if unused >= GRACE => Plan::Remove,
            Held::Defective(_) | Held::Good(_) => Plan::Linger(GRACE - unused),
        };
    }
    if facts.name.len() > LONGEST_ACCOUNT_NAME {
        return Plan::Refuse(Refusal::NameTooLong);
    }
    match facts.held {
        Held::Foreign => Plan::Refuse(Refusal::Foreign),
        Held::Nothing => Plan::Issue(Reason::Missing),
        Held::Defective(defect) => Plan::Issue(Reason::Defect(defect.clone())),
        Held::Good(pair) => {
            let renewal = renew_at(pair.not_before, pair.not_after, draw(&pair.serial));
            match u64::try_from(renewal - facts.now) {
                Ok(seconds) if seconds > 0 => Plan::Keep {
                    pair: pair.clone(),
                    renew_in: Duration::from_secs(seconds),
                },
                _ => Plan::Issue(Reason::Due),
            }
        }
    }
}

/// A number in 0..1 that stays the same for the life of a certificate: the end of its random serial number.
fn draw(serial: &str) -> f64 {
    let tail = serial.get(serial.len().saturating_sub(8)..).unwrap_or_default();
    u32::from_str_radix(tail, 16).map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(lifetime: i64) -> Pair {
        Pair {
            not_before: 1000 - 120,
            not_after: 1000 + lifetime,
            serial: "00".repeat(12) + "7fffffff",
        }
    }

    #[test]
    fn every_case_has_its_plan() {
        let good = Held::Good(pair(3600));
        let broken = Held::Defective(Defect::KeyMismatch);
        let minute = Duration::from_secs(60);
        let long = "a".repeat(248);
        let longest = "a".repeat(247);
        let keep = |renew_in| Plan::Keep {
            pair: pair(3600),
            renew_in: Duration::from_secs(renew_in),
        };
        for (name, usage, held, now, want) in [
            ("sa", Use::Now, &Held::Nothing, 1000, Plan::Issue(Reason::Missing)),
            (
                "with.dots",
                Use::Now,
                &Held::Nothing,
                1000,
                Plan::Issue(Reason::Missing),
            ),
            (&*longest, Use::Now, &Held::Nothing, 1000, Plan::Issue(Reason::Missing)),
            (
                &*long,
                Use::Now,
                &Held::Nothing,
                1000,
                Plan::Refuse(Refusal::NameTooLong),
            ),
            (&*long, Use::NotSince(GRACE), &Held::Nothing, 1000, Plan::Nothing),
            ("sa", Use::Now, &Held::Foreign, 1000, Plan::Refuse(Refusal::Foreign)),
            ("sa", Use::NotSince(GRACE), &Held::Foreign, 1000, Plan::Nothing),
            (
                "sa",
                Use::Now,
                &broken,
                1000,
                Plan::Issue(Reason::Defect(Defect::KeyMismatch)),
            ),
            ("sa", Use::Now, &good, 1000, keep(1799)),
            ("sa", Use::Now, &good, 2798, keep(1)),
            ("sa", Use::Now, &good, 2799, Plan::Issue(Reason::Due)),
            ("sa", Use::Now, &good, 9999, Plan::Issue(Reason::Due)),
            ("sa", Use::NotSince(minute), &good, 1000, Plan::Linger(GRACE - minute)),
            ("sa", Use::NotSince(minute), &good, 9999, Plan::Linger(GRACE - minute)),
            ("sa", Use::NotSince(GRACE), &good, 1000, Plan::Remove),
            ("sa", Use::NotSince(GRACE), &broken, 1000, Plan::Remove),
        ] {
            assert_eq!(
                plan(&Facts { name, usage, held, now }),
                want,
                "{name} {usage:?} {held:?} {now}"
            );
        }
    }

    #[test]
    fn renewals_of_one_lifetime_are_spread() {
        let (mut first, mut last) = (u64::MAX, 0);
        for tail in ["00000000", "40000000", "ffffffff"] {
            let held = Held::Good(Pair {
                serial: tail.to_owned(),
                ..pair(86_400)
            });
            if let Plan::Keep { renew_in, .. } = plan(&Facts {
                name: "a",
                usage: Use::Now,
                held: &held,
                now: 1000,
            }) {
                first = first.min(renew_in.as_secs());
                last = last.max(renew_in.as_secs());
            }
        }
        assert!(last - first > 8000 && first > 38_000 && last < 48_000, "{first} {last}");
    }
}
