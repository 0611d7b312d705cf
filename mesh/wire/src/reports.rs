//! What a sidecar tells the operator of what it saw, in a call beside the discovery stream: what policies denied or would
//! have denied, and who called in the clear where that is still taken. Counts and names alone: no token, no query.
//!
//! `pinnace.mesh.v1.Reports/Send` takes a [`Report`] and answers with [`Taken`]. The connection is the stream's, and so is
//! the proof of who reports. Field numbers are the protocol: never reuse or renumber one.

use prost::Message;

use crate::admin;

/// The gRPC service.
pub const SERVICE: &str = "pinnace.mesh.v1.Reports";

/// The path of its one method.
pub const SEND: &str = "/pinnace.mesh.v1.Reports/Send";

/// The most entries of [`Report::seen`]; a sidecar counts what goes beyond in [`Report::dropped`].
pub const MOST_SEEN: usize = 1024;

/// The most entries of [`Report::records`].
pub const MOST_RECORDS: usize = 32;

/// The most entries of [`Report::plaintext`].
pub const MOST_PORTS: usize = 64;

/// A sidecar that has nothing to tell says that every so many seconds, so that its silence means that it is gone.
pub const HEARTBEAT_SECONDS: u64 = 30;

/// What a sidecar saw since its last report that an operator took.
#[derive(Clone, PartialEq, Message)]
pub struct Report {
    /// The pod's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The pod's name.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// The report's own number, drawn at random and kept when it is sent again: one that was taken is not counted twice.
    #[prost(uint64, tag = "3")]
    pub id: u64,
    /// Of how many seconds up to now it tells: since the last report that was taken, or the sidecar's start.
    #[prost(uint64, tag = "4")]
    pub seconds: u64,
    /// What was seen, at most [`MOST_SEEN`] entries.
    #[prost(message, repeated, tag = "5")]
    pub seen: Vec<Seen>,
    /// How much was seen for which there was no room.
    #[prost(uint64, tag = "6")]
    pub dropped: u64,
    /// The last denials of the time, oldest first, at most [`MOST_RECORDS`].
    #[prost(message, repeated, tag = "7")]
    pub records: Vec<Record>,
    /// When callers in the clear were last there since the sidecar started, by port, at most [`MOST_PORTS`] entries.
    #[prost(message, repeated, tag = "8")]
    pub plaintext: Vec<PlaintextPort>,
    /// Whether the sidecar ends now, and takes nothing more.
    #[prost(bool, tag = "9")]
    pub ends: bool,
    /// How many seconds ago it was made, for one that could not be sent at once.
    #[prost(uint64, tag = "10")]
    pub age: u64,
}

/// The answer: the report was taken.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Taken {}

/// A port that took callers in the clear and that STRICT would refuse them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PlaintextPort {
    /// The workload's port; 0 stands for all for which there was no room.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// When one was last there, in seconds since the epoch.
    #[prost(uint64, tag = "2")]
    pub last: u64,
}

/// What was seen of one kind, by one policy, from one caller, on one port.
#[derive(Clone, PartialEq, Message)]
pub struct Seen {
    /// What happened.
    #[prost(enumeration = "SeenKind", tag = "1")]
    pub kind: i32,
    /// `KIND/NAMESPACE/NAME` of the policy; `KIND` alone where no single one did it: no ALLOW rule matched
    /// (`AuthorizationPolicy`), or a token that no rule took (`RequestAuthentication`). Empty for [`SeenKind::Plaintext`].
    #[prost(string, tag = "2")]
    pub policy: String,
    /// The set of candidates that would have denied it; empty for `istio.io/dry-run`, and for what is no candidate's.
    #[prost(string, tag = "3")]
    pub set: String,
    /// The SPIFFE ID that the caller proved; empty in the clear.
    #[prost(string, tag = "4")]
    pub identity: String,
    /// The caller's IP address; empty where there is an identity.
    #[prost(string, tag = "5")]
    pub address: String,
    /// The workload's port that was called.
    #[prost(uint32, tag = "6")]
    pub port: u32,
    /// How often: requests, or connections of opaque traffic; for [`SeenKind::Plaintext`], connections. 0 for one that was
    /// counted before and is still open.
    #[prost(uint64, tag = "7")]
    pub count: u64,
    /// When last, in seconds since the epoch.
    #[prost(uint64, tag = "8")]
    pub last: u64,
}

/// What happened. What cannot be decoded is nothing that may be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SeenKind {
    /// Not a kind.
    Invalid = 0,
    /// A policy in force denied it.
    Denied = 1,
    /// A dry-run policy, or a set of candidates, would have.
    WouldDeny = 2,
    /// It came in the clear and was taken, and STRICT would have refused it.
    Plaintext = 3,
}

/// A denial; see [`admin::Denial`] for what each field says.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "admin::Denial says what each field means")]
pub struct Record {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint64, tag = "2")]
    pub at: u64,
    #[prost(string, tag = "3")]
    pub action: String,
    #[prost(string, tag = "4")]
    pub detail: String,
    #[prost(uint32, tag = "5")]
    pub status: u32,
    #[prost(string, optional, tag = "6")]
    pub identity: Option<String>,
    #[prost(string, tag = "7")]
    pub source: String,
    #[prost(string, optional, tag = "8")]
    pub remote: Option<String>,
    #[prost(string, tag = "9")]
    pub destination: String,
    #[prost(uint32, tag = "10")]
    pub port: u32,
    #[prost(message, optional, tag = "11")]
    pub request: Option<RecordedRequest>,
    #[prost(string, optional, tag = "12")]
    pub policy: Option<String>,
    #[prost(uint64, optional, tag = "13")]
    pub rule: Option<u64>,
    #[prost(message, optional, tag = "14")]
    pub nearest: Option<RecordedRule>,
    #[prost(string, optional, tag = "15")]
    pub problem: Option<String>,
}

/// See [`admin::DeniedRequest`].
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "admin::DeniedRequest says what each field means")]
pub struct RecordedRequest {
    #[prost(string, tag = "1")]
    pub method: String,
    #[prost(string, tag = "2")]
    pub host: String,
    #[prost(string, tag = "3")]
    pub path: String,
    #[prost(string, tag = "4")]
    pub id: String,
    #[prost(string, optional, tag = "5")]
    pub principal: Option<String>,
}

/// See [`admin::NearestRule`].
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "admin::NearestRule says what each field means")]
pub struct RecordedRule {
    #[prost(string, tag = "1")]
    pub policy: String,
    #[prost(uint64, tag = "2")]
    pub rule: u64,
    #[prost(string, tag = "3")]
    pub field: String,
    #[prost(string, repeated, tag = "4")]
    pub expected: Vec<String>,
    #[prost(string, optional, tag = "5")]
    pub seen: Option<String>,
}

impl From<&admin::Denial> for Record {
    fn from(denial: &admin::Denial) -> Self {
        Self {
            id: denial.id.clone(),
            at: denial.at,
            action: denial.action.clone(),
            detail: denial.detail.clone(),
            status: denial.status.into(),
            identity: denial.identity.clone(),
            source: denial.source.clone(),
            remote: denial.remote.clone(),
            destination: denial.destination.clone(),
            port: denial.port.into(),
            request: denial.request.as_ref().map(|request| RecordedRequest {
                method: request.method.clone(),
                host: request.host.clone(),
                path: request.path.clone(),
                id: request.id.clone(),
                principal: request.principal.clone(),
            }),
            policy: denial.policy.clone(),
            rule: denial.rule.map(|rule| rule as u64),
            nearest: denial.nearest.as_ref().map(|nearest| RecordedRule {
                policy: nearest.policy.clone(),
                rule: nearest.rule as u64,
                field: nearest.field.clone(),
                expected: nearest.expected.clone(),
                seen: nearest.seen.clone(),
            }),
            problem: denial.problem.clone(),
        }
    }
}

impl From<Record> for admin::Denial {
    fn from(record: Record) -> Self {
        let place = |rule: u64| usize::try_from(rule).unwrap_or(usize::MAX);
        Self {
            id: record.id,
            at: record.at,
            action: record.action,
            detail: record.detail,
            status: u16::try_from(record.status).unwrap_or_default(),
            identity: record.identity,
            source: record.source,
            remote: record.remote,
            destination: record.destination,
            port: u16::try_from(record.port).unwrap_or_default(),
            request: record.request.map(|request| admin::DeniedRequest {
                method: request.method,
                host: request.host,
                path: request.path,
                id: request.id,
                principal: request.principal,
            }),
            policy: record.policy,
            rule: record.rule.map(place),
            nearest: record.nearest.map(|nearest| admin::NearestRule {
                policy: nearest.policy,
                rule: place(nearest.rule),
                field: nearest.field,
                expected: nearest.expected,
                seen: nearest.seen,
            }),
            problem: record.problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let denial = admin::Denial {
            id: "00".into(),
            at: 7,
            action: "ALLOW".into(),
            detail: "none".into(),
            status: 403,
            identity: Some("spiffe://a/ns/b/sa/c".into()),
            source: "10.0.0.1:1".into(),
            remote: None,
            destination: "10.0.0.2:80".into(),
            port: 80,
            request: Some(admin::DeniedRequest {
                method: "GET".into(),
                host: "web".into(),
                path: "/".into(),
                id: "x".into(),
                principal: Some("i/s".into()),
            }),
            policy: Some("shop/web".into()),
            rule: Some(2),
            nearest: Some(admin::NearestRule {
                policy: "shop/web".into(),
                rule: 1,
                field: "from[0]".into(),
                expected: vec!["a".into()],
                seen: Some("b".into()),
            }),
            problem: Some("c".into()),
        };
        let record = Record::from(&denial);
        let wire = Record::decode(&*record.encode_to_vec()).unwrap();
        assert_eq!(admin::Denial::from(wire), denial);
    }
}
