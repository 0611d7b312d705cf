//! What the operator said, kept in a file, so that a sidecar that starts again while no operator answers serves at once as
//! it did before. The folder is a volume in memory that lives as long as the pod; no key is ever written to it.
//!
//! The file holds resources as the operator sends them, and is read through the same checks as a response. It is written
//! whole beside the old one and renamed over it, so that there is always one good file. What is damaged, of another version
//! or another pod is refused with the reason, and the sidecar starts as on its first day.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use mesh_wire::resources::{self as wire, SELF_NAME, type_url};
use prost::Message;

use super::apply::Applier;
use super::mesh::Mesh;
use super::table::Known;

/// The file's name.
const FILE: &str = "discovery.snapshot";

/// What the file begins with: a name, and the version of what follows.
const HEAD: &[u8; 8] = b"PNNSNAP\x01";

/// The most that is written; the volume holds four times as much. Of more destinations than that, those used last are kept.
const MOST_BYTES: usize = 16 << 20;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);

/// Writing may take this share of the time, one part in so many.
const SHARE: u32 = 50;

/// How often the file's time is set to now while a stream is open, so that a reader knows how old its content is.
const CONFIRM: Duration = Duration::from_secs(10);

/// What is in the file.
#[derive(Clone, PartialEq, Message)]
struct Saved {
    /// `namespace/pod` whose knowledge it is.
    #[prost(string, tag = "1")]
    pod: String,
    /// One for each type of resource.
    #[prost(message, repeated, tag = "2")]
    responses: Vec<DeltaDiscoveryResponse>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not one of ours, or of another version.
    #[error("it is not of the version that this proxy writes")]
    Version,
    /// It was cut or changed.
    #[error("it is damaged")]
    Damaged,
    /// It is larger than any that is written.
    #[error("it is larger than {MOST_BYTES} bytes")]
    TooLarge,
    /// It is another pod's.
    #[error("it is of pod {0}")]
    OtherPod(String),
    /// A resource in it is refused.
    #[error("{0}")]
    Refused(String),
}

/// The file of one pod.
#[derive(Debug, Clone)]
pub struct File {
    folder: PathBuf,
    pod: String,
}

impl File {
    /// The file in a folder.
    #[must_use]
    pub fn new(folder: &Path, namespace: &str, pod: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            pod: format!("{namespace}/{pod}"),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads the file into a mesh that knows nothing yet; says how old it is, or nothing where there is no file.
    ///
    /// # Errors
    /// [`SavedError`]; the mesh is not ready then.
    pub fn load(&self, mesh: &Mesh) -> Result<Option<Duration>, SavedError> {
        let file = match std::fs::File::open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let confirmed = file.metadata()?.modified()?;
        let mut bytes = Vec::new();
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        Read::take(&file, most + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MOST_BYTES {
            return Err(SavedError::TooLarge);
        }
        let saved = decode(&bytes)?;
        if saved.pod != self.pod {
            return Err(SavedError::OtherPod(saved.pod));
        }
        let mut applier = Applier::default();
        for response in &saved.responses {
            let destinations = response.type_url == type_url::DESTINATION;
            for resource in response.resources.iter().filter(|_| destinations) {
                mesh.expect(&resource.name);
            }
            match applier.apply(mesh, response).refused {
                // A destination that is refused is asked for anew, and concerns no other.
                Some(reason) if !destinations => return Err(SavedError::Refused(reason)),
                _ => {}
            }
        }
        mesh.freshness().restore(confirmed);
        Ok(Some(SystemTime::now().duration_since(confirmed).unwrap_or_default()))
    }

    /// Writes what is known, if enough is known to start from.
    fn save(&self, mesh: &Mesh) -> io::Result<bool> {
        let Some(saved) = saved(mesh, &self.pod) else {
            return Ok(false);
        };
        let bytes = encode(&saved);
        let beside = self.folder.join(format!("{FILE}.new"));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&beside, self.path())?;
        Ok(true)
    }

    fn confirm(&self) -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(self.path())?;
        file.set_modified(SystemTime::now())
    }

    /// Keeps the file in step with what is known, until dropped. Without a folder that can be written to, it says so once
    /// and again when it changes.
    pub async fn keep(self, mesh: Mesh) {
        let mut failed = false;
        let mut rest = GATHER;
        loop {
            tokio::select! {
                () = mesh.freshness().changed.notified() => {
                    tokio::time::sleep(rest).await;
                    let (file, knowing) = (self.clone(), mesh.clone());
                    let began = Instant::now();
                    let written = tokio::task::spawn_blocking(move || file.save(&knowing)).await;
                    rest = (began.elapsed() * SHARE).max(GATHER);
                    match written {
                        Ok(Ok(_)) => failed = false,
                        Ok(Err(error)) if !failed => {
                            failed = true;
                            tracing::warn!(file = %self.path().display(), %error, "the last good configuration cannot be kept");
                        }
                        _ => {}
                    }
                }
                () = tokio::time::sleep(CONFIRM) => {
                    if mesh.connected() {
                        // A file that is not there yet has nothing to confirm.
                        let _ = self.confirm();
                    }
                }
            }
        }
    }
}

fn encode(saved: &Saved) -> Vec<u8> {
    let body = saved.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEAD.len() + SHA256_OUTPUT_LEN + body.len());
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(digest(&SHA256, &body).as_ref());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
    let rest = bytes.strip_prefix(HEAD).ok_or(SavedError::Version)?;
    let (sum, body) = rest.split_at_checked(SHA256_OUTPUT_LEN).ok_or(SavedError::Damaged)?;
    if digest(&SHA256, body).as_ref() != sum {
        return Err(SavedError::Damaged);
    }
    Saved::decode(body).map_err(|_| SavedError::Damaged)
}

/// What is known, as the operator would send it; `None` while a sidecar could not start from it.
fn saved(mesh: &Mesh, pod: &str) -> Option<Saved> {
    let held = mesh.own_versions();
    let bundle = mesh.trust().borrow().clone()?;
    let policy = mesh.inbound_policy()?;
    let (authorization, tokens) = mesh.authorization_resources()?;
    if !mesh.has_workload() {
        return None;
    }
    let own = |type_url: &str, version: String, message: Vec<u8>| DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        resources: vec![resource(SELF_NAME, version, type_url, message)],
        ..Default::default()
    };
    let bundle = wire::TrustBundle::from(&*bundle).encode_to_vec();
    let workload_message = wire::Workload::from(&*mesh.workload()).encode_to_vec();
    let policy = wire::InboundPolicy::from(&*policy).encode_to_vec();
    let authorization = wire::AuthorizationPolicies::from(&*authorization).encode_to_vec();
    let tokens = wire::RequestAuthentications::from(&*tokens).encode_to_vec();
    let mut saved = Saved {
        pod: pod.to_owned(),
        responses: vec![
            own(type_url::TRUST_BUNDLE, held.trust, bundle),
            own(type_url::WORKLOAD, held.workload, workload_message),
            own(type_url::INBOUND_POLICY, held.inbound, policy),
            own(type_url::AUTHORIZATION_POLICIES, held.authorization, authorization),
            own(type_url::REQUEST_AUTHENTICATIONS, held.tokens, tokens),
        ],
    };

    let mut asked = mesh.asked();
    asked.sort_unstable_by_key(|(_, slot)| std::cmp::Reverse(slot.used()));
    let mut room = MOST_BYTES.saturating_sub(saved.encoded_len() + (64 << 10));
    let mut destinations = Vec::new();
    for (name, slot) in asked {
        let Some(Known::Found { cluster, version }) = slot.known().as_deref().cloned() else {
            continue;
        };
        let message = wire::Destination::from(&**cluster).encode_to_vec();
        let entry = resource(&name, version.into(), type_url::DESTINATION, message);
        // The tag and length before it.
        let length = entry.encoded_len() + 8;
        if length > room {
            break;
        }
        room -= length;
        destinations.push(entry);
    }
    saved.responses.push(DeltaDiscoveryResponse {
        type_url: type_url::DESTINATION.to_owned(),
        resources: destinations,
        ..Default::default()
    });
    Some(saved)
}

fn resource(name: &str, version: String, type_url: &str, value: Vec<u8>) -> Resource {
    Resource {
        name: name.to_owned(),
        version,
        resource: Some(Any {
            type_url: type_url.to_owned(),
            value,
        }),
        ..Default::default()
    }
}

impl Mesh {
    /// Whether what is known was read from a file and no operator has answered since.
    #[must_use]
    pub fn restored(&self) -> bool {
        self.freshness().restored()
    }

    /// How old what is known is: nothing while a stream is open, `None` while nothing is known.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        if self.connected() {
            return Some(Duration::ZERO);
        }
        let confirmed = self.freshness().confirmed()?;
        Some(SystemTime::now().duration_since(confirmed).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::authorization::{Compiled, Ready};
    use crate::discovery::tests::JWKS;
    use crate::discovery::{Limits, Lookup};
    use mesh_core::authorization::policy::{Action, Policy};
    use mesh_core::destination::{Destination, Subset};
    use mesh_core::jwt::{KeySource, Rule};
    use mesh_core::peer_authentication::{Effective, PortMode};
    use mesh_core::request::Normalization;
    use mesh_core::routing::Routes;
    use mesh_core::traffic::{Balancer, Locality, Traffic};
    use mesh_wire::authorization::AuthorizationPolicies;
    use mesh_wire::convert::{TrustBundle, Workload};
    use mesh_wire::request_authentication::{Jwks, RequestAuthentication, RequestAuthentications};
    use std::sync::Arc;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pinnace-saved-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> File {
            File::new(&self.0, "shop", "web-1")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mesh() -> Mesh {
        let (mesh, requests) = Mesh::new(Limits::default());
        // Nobody asks in these tests; the queue stays.
        std::mem::forget(requests);
        mesh
    }

    fn message(host: &str) -> wire::Destination {
        wire::Destination {
            host: host.to_owned(),
            namespace: "shop".to_owned(),
            port: 80,
            protocol: wire::Protocol::Http.into(),
            ..Default::default()
        }
    }

    /// With what only newer operators say.
    fn routed(host: &str) -> Destination {
        let plain = Destination::try_from(&message(host)).unwrap();
        let traffic = Traffic {
            balancer: Balancer::RoundRobin,
            ..Traffic::default()
        };
        let routes = Routes {
            sources: vec!["shop/routes".into()],
            destinations: vec![Arc::new(plain.clone())],
            ..Routes::default()
        };
        Destination {
            traffic: Arc::new(traffic.clone()),
            subsets: vec![Subset {
                name: "v1".into(),
                endpoints: Vec::new(),
                unready: Vec::new(),
                tls: None,
                traffic: Arc::new(traffic),
            }],
            routes: Some(Arc::new(routes)),
            ..plain
        }
    }

    fn enforced() -> (AuthorizationPolicies, RequestAuthentications) {
        let calls = AuthorizationPolicies {
            policies: vec![Policy {
                namespace: "shop".into(),
                name: "nothing".into(),
                action: Action::Allow,
                rules: Vec::new(),
                dry_run: false,
            }],
            paths: Normalization::MergeSlashes,
            trusted_proxies: 2,
            trust_domain: "cluster.local".parse().unwrap(),
            aliases: Vec::new(),
            providers: mesh_core::ext_authz::Providers::new(),
        };
        let rule = Rule::new("https://issuer.example", KeySource::Uri("http://keys".into()));
        let tokens = RequestAuthentications {
            policies: vec![RequestAuthentication {
                namespace: "shop".into(),
                name: "jwt".into(),
                rules: vec![(rule, Jwks::Known(JWKS.into()))],
            }],
        };
        (calls, tokens)
    }

    fn known() -> Mesh {
        let mesh = mesh();
        let root = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert;
        let bundle = TrustBundle {
            trust_domain: "cluster.local".parse().unwrap(),
            aliases: vec!["old.example".parse().unwrap()],
            roots: vec![bytes::Bytes::copy_from_slice(root.der())],
        };
        mesh.set_trust(bundle, "t1");
        let workload = Workload {
            namespace: "shop".into(),
            pod: "web-1".into(),
            service_account: "web".into(),
            labels: [("app".into(), "web".into())].into(),
            locality: Some(Locality::parse("eu/a")),
            ahead: vec![mesh_wire::query::parse("host/reviews:80").unwrap()],
            ..Workload::default()
        };
        mesh.set_workload(workload, "w1");
        let policy = Effective {
            mode: PortMode::Strict,
            ports: [(80, PortMode::Permissive)].into(),
            ..Effective::default()
        };
        mesh.set_inbound(policy, "p1");
        let (calls, tokens) = enforced();
        mesh.set_authorization(Compiled::new(calls), "a1");
        mesh.set_tokens(Ready::new(tokens).unwrap(), "j1");
        for (name, host) in [("host/reviews:80", "reviews"), ("host/ratings:80", "ratings")] {
            mesh.expect(name);
            let destination = routed(host);
            mesh.slot_named(name).unwrap().set(Known::Found {
                cluster: mesh.cluster(destination),
                version: "d1".into(),
            });
        }
        mesh.expect("host/nothing:80");
        mesh.slot_named("host/nothing:80").unwrap().set(Known::Absent);
        mesh
    }

    #[test]
    fn what_was_known_is_known_again() {
        let folder = Folder::new("again");
        let before = known();
        assert!(folder.file().save(&before).unwrap());
        let after = mesh();
        assert!(!after.is_ready());
        let age = folder.file().load(&after).unwrap().unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
        assert!(after.is_ready() && after.restored() && !after.connected());
        assert!(after.age().is_some());
        assert_eq!(after.own_versions(), before.own_versions());
        assert_eq!(after.workload(), before.workload());
        assert_eq!(after.inbound_policy(), before.inbound_policy());
        assert_eq!(*after.trust().borrow(), *before.trust().borrow());
        let resources = after.authorization_resources().unwrap();
        assert_eq!(((*resources.0).clone(), (*resources.1).clone()), enforced());
        assert_eq!(after.authorization().unwrap().paths, Normalization::MergeSlashes);
        assert!(matches!(after.lookup_host("reviews", 80), Lookup::Found(found) if **found == routed("reviews")));
        assert!(matches!(after.lookup_host("ratings", 80), Lookup::Found(_)));
        // What the mesh did not know it may know now.
        assert!(matches!(after.lookup_host("nothing", 80), Lookup::Unknown));
    }

    #[test]
    fn too_little_is_not_kept_and_no_file_is_no_error() {
        let folder = Folder::new("little");
        assert!(!folder.file().save(&mesh()).unwrap());
        assert!(folder.file().load(&mesh()).unwrap().is_none());
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let folder = Folder::new("whole");
        let file = folder.file();
        file.save(&known()).unwrap();
        let good = std::fs::read(file.path()).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            let mesh = mesh();
            let error = file.load(&mesh).unwrap_err().to_string();
            assert!(!mesh.is_ready() && !mesh.restored(), "{error}");
            error
        };
        let mut other = good.clone();
        other[7] = 2;
        assert_eq!(refused(&other), "it is not of the version that this proxy writes");
        assert_eq!(refused(b""), "it is not of the version that this proxy writes");
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bytes in [&flipped[..], &good[..good.len() - 1], &good[..20]] {
            assert_eq!(refused(bytes), "it is damaged");
        }
        assert!(refused(&vec![0; MOST_BYTES + 1]).starts_with("it is larger"));
        std::fs::write(file.path(), &good).unwrap();
        let stranger = File::new(&folder.0, "shop", "web-2");
        assert_eq!(
            stranger.load(&mesh()).unwrap_err().to_string(),
            "it is of pod shop/web-1"
        );
        assert!(file.load(&mesh()).unwrap().is_some());
    }

    #[test]
    fn of_too_many_destinations_those_used_last_are_kept() {
        let folder = Folder::new("many");
        let mesh = known();
        let long = "x".repeat(4000);
        for at in 0..5000 {
            let name = format!("host/h{at}:80");
            mesh.expect(&name);
            let mut destination = message(&format!("h{at}"));
            destination.namespace.clone_from(&long);
            mesh.slot_named(&name).unwrap().set(Known::Found {
                cluster: mesh.cluster(Destination::try_from(&destination).unwrap()),
                version: "1".into(),
            });
            mesh.slot_named(&name).unwrap().touch(at);
        }
        folder.file().save(&mesh).unwrap();
        let size = std::fs::metadata(folder.file().path()).unwrap().len();
        assert!(size <= MOST_BYTES as u64 && size > MOST_BYTES as u64 / 2, "{size}");
        let after = self::mesh();
        folder.file().load(&after).unwrap();
        assert!(matches!(after.lookup_host("h4999", 80), Lookup::Found(_)));
        assert!(matches!(after.lookup_host("h0", 80), Lookup::Unknown));
    }
}
