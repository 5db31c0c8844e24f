//! Debian's docker-registry as a child in the lab's network, with its storage and access log on disk.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::access_log::{self, Request, Served};
use super::ca::Identity;
use super::cri::Login;
use super::netns::Netns;
use super::process::{self, Leashed, eventually, holds_within, leash};
use super::workdir::{WorkDir, write_file};

/// What a registry asks of its clients.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nothing.
    Open,
    /// One user, by HTTP Basic.
    Basic(Login),
    /// A token of this issuer.
    Token(TokenIssuer),
}

/// How a registry recognises its token server; [`super::token_server::TokenServer::issuer`] makes one.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    /// URL clients are sent to.
    pub realm: String,
    /// What the registry calls itself to the issuer.
    pub service: String,
    /// Name of the issuer in its tokens.
    pub issuer: String,
    /// The authority (PEM) that vouches for the signer.
    pub authority: String,
}

/// How a registry is made.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Where it listens, inside the lab's network.
    pub address: SocketAddr,
    /// Its certificate; plain HTTP without.
    pub identity: Option<Identity>,
    /// What it asks of its clients.
    pub access: Access,
    /// A folder it shares with other registries; its own without.
    pub storage: Option<PathBuf>,
}

impl RegistryOptions {
    /// An open plain-HTTP registry at `ADDRESS:PORT`.
    pub fn new(address: &str) -> Self {
        let address = address.parse().unwrap_or_else(|_| panic!("{address} is not ADDRESS:PORT"));
        Self { address, identity: None, access: Access::Open, storage: None }
    }

    /// Speaks TLS.
    pub fn tls(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Demands a Basic login.
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        self.access = Access::Basic(Login::new(user, password));
        self
    }

    /// Demands a token.
    pub fn token(mut self, issuer: TokenIssuer) -> Self {
        self.access = Access::Token(issuer);
        self
    }

    /// Serves what another registry serves.
    pub fn storage(mut self, folder: impl Into<PathBuf>) -> Self {
        self.storage = Some(folder.into());
        self
    }
}

/// A registry that runs until it is stopped or dropped; storage and log stay until it is dropped.
#[derive(Debug)]
pub struct Registry {
    options: RegistryOptions,
    netns: Arc<Netns>,
    server: Option<Leashed>,
    seen: AtomicUsize,
    work: WorkDir,
}

impl Registry {
    /// Starts a registry and waits until it listens.
    pub fn start_new(netns: &Arc<Netns>, options: RegistryOptions) -> Self {
        let work = WorkDir::claim();
        let mut registry = Self { options, netns: Arc::clone(netns), server: None, seen: AtomicUsize::new(0), work };
        registry.configure();
        registry.start();
        registry
    }

    /// Starts it again after [`Registry::stop`].
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the registry runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.unwrap_or_else(|error| panic!("no registry log: {error}"));
        let mut command = self.netns.command("docker-registry");
        command.arg("serve").arg(self.work.path().join("config.yml")).env_clear();
        command.env("PATH", "/usr/bin:/usr/sbin").env("OTEL_TRACES_EXPORTER", "none");
        command.stderr(log.try_clone().unwrap_or_else(|error| panic!("no registry log: {error}"))).stdout(log);
        let mut server = Leashed::spawn(command);
        let listens = holds_within(Duration::from_secs(10), || !server.is_alive() || self.is_listening());
        assert!(listens && server.is_alive(), "docker-registry did not start:\n{}", self.log());
        self.server = Some(server);
    }

    /// Kills it: its port refuses from now on.
    pub fn stop(&mut self) {
        self.server = None;
        eventually("the port is closed", Duration::from_secs(5), || !self.is_listening());
    }

    /// Whether its port is open.
    pub fn is_listening(&self) -> bool {
        self.netns.is_listening(self.options.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.options.address
    }

    /// `http://ADDRESS:PORT` or `https://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.options.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.options.address)
    }

    /// The folder its images lie in; another registry may share it.
    pub fn storage(&self) -> PathBuf {
        self.options.storage.clone().unwrap_or_else(|| self.work.folder("storage"))
    }

    /// What it answered since the start or the last [`Registry::forget`], in the order of the answers.
    pub fn requests(&self) -> Vec<Request> {
        access_log::parse(self.settled_log().get(self.seen.load(Ordering::Relaxed)..).unwrap_or_default())
    }

    /// Whatever was asked so far does not count any more.
    pub fn forget(&self) {
        self.seen.store(self.settled_log().len(), Ordering::Relaxed);
    }

    /// What it served of a repository, as [`Registry::requests`] counts.
    pub fn served(&self, repository: &str) -> Served {
        Served::count(&self.requests(), repository)
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// A line is written after its answer was sent: wait until the log stands still.
    fn settled_log(&self) -> String {
        let mut log = self.log();
        holds_within(Duration::from_secs(2), || {
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut log, self.log());
            before.len() == log.len()
        });
        log
    }

    fn log_path(&self) -> PathBuf {
        self.work.path().join("log")
    }

    fn configure(&self) {
        let folder = self.work.path();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: json\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: '{}'\n  secret: lab\n",
            self.storage().display(),
            self.options.address
        );
        if let Some(identity) = &self.options.identity {
            config.push_str(&tls(folder, identity));
        }
        config.push_str(&access(folder, &self.options.access));
        write_file(&folder.join("config.yml"), config);
    }
}

fn tls(folder: &Path, identity: &Identity) -> String {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    write_file(&certificate, &identity.certificate);
    write_file(&key, &identity.key);
    format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display())
}

fn access(folder: &Path, access: &Access) -> String {
    match access {
        Access::Open => String::new(),
        Access::Basic(login) => {
            let path = folder.join("htpasswd");
            write_file(&path, htpasswd(login));
            format!("auth:\n  htpasswd:\n    realm: lab\n    path: {}\n", path.display())
        }
        Access::Token(TokenIssuer { realm, service, issuer, authority }) => {
            let path = folder.join("token-authority.crt");
            write_file(&path, authority);
            let bundle = path.display();
            format!("auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {issuer}\n    rootcertbundle: {bundle}\n")
        }
    }
}

fn htpasswd(login: &Login) -> String {
    let mut command = leash("htpasswd");
    command.args(["-Bbn", &login.user, &login.password]);
    process::run(command, Duration::from_secs(10)).expect_success("htpasswd")
}
