//! A pull through the CRI, asked for by somebody: what the kubelet would get, with every phase told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::mpsc::UnboundedSender, time::timeout};

use crate::{
    host::{
        clock,
        containerd::{Containerd, ContainerdError},
        cri::{Cri, PullLogin},
        facts,
    },
    render::host_directory,
    spec::{
        inputs::Login,
        names::{Reference, RegistryHost},
        problem::Problem,
    },
    status::Status,
};

/// A login for one pull.
#[derive(Debug, Clone)]
pub struct PullCredentials {
    /// User; `oauth2accesstoken` with a token as password for cloud registries.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
    /// Host it is meant for; empty: the ref's own registry.
    pub host: String,
}

/// A pull that is asked for.
#[derive(Debug, Clone, Default)]
pub struct PullOrder {
    /// As a person writes it.
    pub reference: String,
    /// Absent: no login.
    pub credentials: Option<PullCredentials>,
    /// Names that this pull created stay.
    pub keeps: bool,
    /// Also refs on hosts that the spec does not name.
    pub any: bool,
    /// Host that is expected to serve it; empty: not checked.
    pub expect_host: String,
}

/// Where a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPhase {
    /// The registry is asked what the tag means.
    Resolving,
    /// Content is fetched.
    Fetching,
    /// Layers are unpacked.
    Unpacking,
    /// Names that the pull created are removed.
    Cleaning,
    /// It is over.
    Done,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PullResult {
    /// Full name.
    pub reference: String,
    /// Config digest, as crictl prints it.
    pub image_id: String,
    /// NAME@DIGEST.
    pub repo_digest: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds.
    pub elapsed_ms: u64,
    /// Names that were removed again.
    pub removed_names: Vec<String>,
    /// Hosts that containerd may have asked, in order.
    pub asked_in_order: Vec<String>,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// How far it is: bytes so far, bytes in all (0: unknown).
    At(PullPhase, u64, u64),
    /// It succeeded.
    Pulled(Box<PullResult>),
    /// It did not.
    Failed(Problem),
}

/// How often containerd is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A pull neither starts nor goes on when the disk that holds containerd's content would be left with less than this, in bytes, …
const LEAST_BYTES: u64 = 1 << 30;
/// … or with less than one in so many parts of it (the kubelet evicts pods at 15 %, and at 5 % of inodes).
const LEAST_PART: u64 = 20;

/// Pulls, and tells every phase; ends with [`PullEvent::Pulled`] or [`PullEvent::Failed`]. Dropping it cancels the pull.
pub async fn pull(status: Status, order: PullOrder, events: UnboundedSender<PullEvent>) {
    let event = match Pull::prepare(status, order) {
        Err(problem) => PullEvent::Failed(problem),
        Ok(pull) => match pull.run(&events).await {
            Ok(result) => PullEvent::Pulled(Box::new(result)),
            Err(problem) => PullEvent::Failed(problem),
        },
    };
    let _ = events.send(event);
}

/// A pull that may be done.
struct Pull {
    reference: Reference,
    login: Option<PullLogin>,
    keeps: bool,
    status: Status,
    client: Containerd,
    before: BTreeMap<String, String>,
}

impl Pull {
    fn prepare(status: Status, order: PullOrder) -> Result<Self, Problem> {
        let reference = Reference::parse(&order.reference).map_err(|reason| {
            Problem::new(
                "pull.reference",
                format!("\"{}\" is no image name: {reason}", order.reference),
                "write it as a pod would, e.g. gcr.io/NAME:TAG",
            )
        })?;
        if !order.expect_host.is_empty() {
            return Err(Problem::new(
                "pull.expect",
                "which host served a pull cannot be told yet",
                "leave --expect out, and look at the mirror's access log",
            ));
        }
        if !order.any && !is_on_spec_host(&status, &reference.domain) {
            return Err(Problem::new(
                "pull.not-mirrored",
                format!("{} is neither mirrored nor a mirror, so this pull would show nothing", reference.domain),
                "name a registry of the spec, or allow it with --any",
            ));
        }
        if status.containerd.address.is_empty() {
            return Err(Problem::new("pull.no-containerd", "containerd's socket is not known", "see mirrorctl status"));
        }
        check_disk(&status)?;
        let client = Containerd::at(&status.containerd.address).map_err(|error| containerd_problem(&error))?;
        let login = order.credentials.map(|credentials| login_for(credentials, &reference, &status)).transpose()?;
        Ok(Self { reference, login, keeps: order.keeps, status, client, before: BTreeMap::new() })
    }

    async fn run(mut self, events: &UnboundedSender<PullEvent>) -> Result<PullResult, Problem> {
        self.before = self.client.image_names().await.map_err(|error| containerd_problem(&error))?;
        let begun = clock::monotonic();
        let image_id = self.follow(events).await?;
        let elapsed_ms = begun.elapsed().as_millis() as u64;
        let cri = Cri::on(self.client.channel());
        let image = cri.image(&image_id).await.ok().flatten();
        let _ = events.send(PullEvent::At(PullPhase::Cleaning, 0, 0));
        let removed_names = if self.keeps { Vec::new() } else { self.remove_what_came(&image_id).await? };
        let repo_digests = image.as_ref().map(|image| image.repo_digests.clone()).unwrap_or_default();
        let repository = format!("{}/{}@", self.reference.domain, self.reference.path);
        Ok(PullResult {
            reference: self.reference.to_string(),
            repo_digest: repo_digests.into_iter().find(|digest| digest.starts_with(&repository)).unwrap_or_default(),
            size: image.map_or(0, |image| image.size),
            image_id,
            elapsed_ms,
            removed_names,
            asked_in_order: asked_in_order(&self.status, &self.reference.domain),
        })
    }

    /// Pulls, and tells how far it is from containerd's ingests.
    async fn follow(&self, events: &UnboundedSender<PullEvent>) -> Result<String, Problem> {
        let _ = events.send(PullEvent::At(PullPhase::Resolving, 0, 0));
        let name = self.reference.to_string();
        let cri = Cri::on(self.client.channel());
        let pull = cri.pull(&name, self.login.as_ref());
        tokio::pin!(pull);
        let mut fetched = Fetched::since(self.client.ingests().await.unwrap_or_default());
        loop {
            match timeout(LOOK_EVERY, &mut pull).await {
                Ok(Ok(image_id)) => return Ok(image_id),
                Ok(Err(status)) => return Err(pull_failed(&name, &status)),
                Err(_) => {
                    fetched.look(self.client.ingests().await.unwrap_or_default());
                    let _ = events.send(fetched.event());
                    check_disk(&self.status)?;
                }
            }
        }
    }

    /// Removes the names that this pull created. An image that was there before, or that a container uses, stays.
    async fn remove_what_came(&self, image_id: &str) -> Result<Vec<String>, Problem> {
        let failed = |error: ContainerdError| containerd_problem(&error);
        let after = self.client.image_names().await.map_err(failed)?;
        let in_use = self.client.images_in_use().await.map_err(failed)?;
        let repository = format!("{}/{}", self.reference.domain, self.reference.path);
        let is_ours = |name: &str| name == image_id || name.strip_prefix(&repository).is_some_and(|rest| rest.starts_with([':', '@']));
        let created: Vec<&String> = after.keys().filter(|name| !self.before.contains_key(*name) && is_ours(name)).collect();
        let target = after.get(image_id);
        let is_used = in_use
            .iter()
            .any(|name| name == image_id || created.contains(&name) || after.get(name).is_some_and(|there| Some(there) == target));
        if is_used {
            return Ok(Vec::new());
        }
        let is_named_otherwise = after.iter().any(|(name, there)| Some(there) == target && name != image_id && !created.contains(&name));
        let mut removed = Vec::new();
        for name in created.into_iter().filter(|name| *name != image_id || !is_named_otherwise) {
            self.client.remove_image_name(name).await.map_err(failed)?;
            removed.push(name.clone());
        }
        Ok(removed)
    }
}

/// Ingests that came since the pull began.
struct Fetched {
    others: BTreeSet<String>,
    seen: BTreeMap<String, (u64, u64)>,
    active: usize,
}

impl Fetched {
    fn since(ingests: Vec<(String, u64, u64)>) -> Self {
        Self { others: ingests.into_iter().map(|(name, ..)| name).collect(), seen: BTreeMap::new(), active: 0 }
    }

    /// One that is no longer there was fetched whole.
    fn look(&mut self, ingests: Vec<(String, u64, u64)>) {
        let now: BTreeMap<String, (u64, u64)> = ingests
            .into_iter()
            .filter(|(name, ..)| !self.others.contains(name))
            .map(|(name, offset, total)| (name, (offset, total)))
            .collect();
        self.active = now.len();
        for (name, (offset, total)) in &mut self.seen {
            if !now.contains_key(name) {
                *offset = (*total).max(*offset);
            }
        }
        self.seen.extend(now);
    }

    fn event(&self) -> PullEvent {
        let (fetched, total) = self.seen.values().fold((0, 0), |(fetched, all), (offset, total)| (fetched + offset, all + total));
        let phase = match (self.seen.is_empty(), self.active) {
            (true, _) => PullPhase::Resolving,
            (false, 0) => PullPhase::Unpacking,
            (false, _) => PullPhase::Fetching,
        };
        PullEvent::At(phase, fetched, total)
    }
}

fn is_on_spec_host(status: &Status, domain: &str) -> bool {
    let is_mirrored = status.hosts.iter().any(|host| host.host == domain || host.host == "*");
    is_mirrored || status.endpoints.iter().any(|endpoint| authority(&endpoint.endpoint) == domain)
}

fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, authority)| authority)
}

/// The hosts containerd would ask for this registry, in order.
#[must_use]
pub fn asked_in_order(status: &Status, domain: &str) -> Vec<String> {
    let upstream = host_directory::upstream_url(domain);
    let Some(host) = status.hosts.iter().find(|host| host.host == domain) else {
        let own = status.endpoints.iter().find(|endpoint| authority(&endpoint.endpoint) == domain);
        return vec![own.map_or(upstream, |endpoint| endpoint.endpoint.clone())];
    };
    let mut asked: Vec<String> = host.endpoints.iter().chain(&host.carried_endpoints).cloned().collect();
    asked.extend(host.falls_back.then_some(upstream));
    asked
}

/// The login is sent to one host only, named with its scheme: without one containerd would send it to no host at all, and without a host to
/// every one that asks (LAB.md 4).
fn login_for(credentials: PullCredentials, reference: &Reference, status: &Status) -> Result<PullLogin, Problem> {
    let host = match credentials.host.as_str() {
        "" | "docker.io" if reference.domain == "docker.io" => "registry-1.docker.io".to_owned(),
        "" => reference.domain.clone(),
        host => RegistryHost::parse(host).map(|host| host.as_str().to_owned()).map_err(|reason| {
            Problem::new("pull.creds-for", format!("\"{host}\" is no registry: {reason}"), "name a host as the spec does")
        })?,
    };
    let known = status.endpoints.iter().find(|endpoint| authority(&endpoint.endpoint) == host);
    let host_url = known.map_or_else(|| format!("https://{host}"), |endpoint| endpoint.endpoint.clone());
    let login = Login::new(&credentials.username, credentials.password.expose_secret())?;
    Ok(PullLogin { login, host_url })
}

fn check_disk(status: &Status) -> Result<(), Problem> {
    let Some(disk) = facts::disk(Path::new(&status.containerd.content_dir)) else { return Ok(()) };
    let least = LEAST_BYTES.max(disk.total / LEAST_PART);
    if disk.available >= least {
        return Ok(());
    }
    Err(Problem::new(
        "pull.disk",
        format!(
            "the disk of {} has {} MiB left, and a test pull leaves at least {}",
            status.containerd.content_dir,
            disk.available >> 20,
            least >> 20
        ),
        "make room first, e.g. with \"crictl rmi --prune\"",
    ))
}

fn containerd_problem(error: &ContainerdError) -> Problem {
    Problem::new("pull.containerd", error.to_string(), "see mirrorctl status")
}

fn pull_failed(name: &str, status: &tonic::Status) -> Problem {
    Problem::new(
        "pull.failed",
        format!("{name} could not be pulled: {}", status.message()),
        "mirrorctl status shows which hosts are asked, and their logins",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{EndpointStatus, MirroredHost};

    fn status() -> Status {
        Status {
            hosts: vec![MirroredHost {
                host: "gcr.io".into(),
                endpoints: vec!["http://192.0.2.1:5000/v2/team".into()],
                carried_endpoints: Vec::new(),
                falls_back: true,
            }],
            endpoints: vec![EndpointStatus { endpoint: "http://192.0.2.1:5000".into(), ..EndpointStatus::default() }],
            ..Status::default()
        }
    }

    fn credentials(host: &str) -> PullCredentials {
        PullCredentials { username: "u".into(), password: "p".into(), host: host.into() }
    }

    fn sent_to(reference: &str, host: &str) -> String {
        login_for(credentials(host), &Reference::parse(reference).unwrap(), &status()).unwrap().host_url
    }

    #[test]
    fn a_login_is_for_one_host_with_its_scheme() {
        assert_eq!(sent_to("gcr.io/x", ""), "https://gcr.io");
        assert_eq!(sent_to("gcr.io/x", "192.0.2.1:5000"), "http://192.0.2.1:5000");
        assert_eq!(sent_to("busybox", ""), "https://registry-1.docker.io");
        assert_eq!(sent_to("192.0.2.1:5000/x", ""), "http://192.0.2.1:5000");
    }

    #[test]
    fn only_refs_of_the_spec_are_pulled() {
        assert!(is_on_spec_host(&status(), "gcr.io") && is_on_spec_host(&status(), "192.0.2.1:5000"));
        assert!(!is_on_spec_host(&status(), "quay.io"));
    }

    #[test]
    fn hosts_are_asked_in_the_order_of_the_file() {
        assert_eq!(asked_in_order(&status(), "gcr.io"), ["http://192.0.2.1:5000/v2/team", "https://gcr.io"]);
        assert_eq!(asked_in_order(&status(), "192.0.2.1:5000"), ["http://192.0.2.1:5000"]);
    }

    #[test]
    fn progress_counts_what_is_gone_as_fetched() {
        let mut fetched = Fetched::since(vec![("other".into(), 1, 9)]);
        fetched.look(vec![("other".into(), 5, 9), ("layer".into(), 10, 100)]);
        assert_eq!(fetched.event(), PullEvent::At(PullPhase::Fetching, 10, 100));
        fetched.look(vec![("other".into(), 9, 9)]);
        assert_eq!(fetched.event(), PullEvent::At(PullPhase::Unpacking, 100, 100));
    }
}
