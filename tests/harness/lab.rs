//! One network, one authority, the names of its registries, and whatever nodes and registries a test puts there.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex};

use super::ca::Ca;
use super::cri::Login;
use super::images::Image;
use super::netns::Netns;
use super::node::{Node, NodeOptions};
use super::process::{self, COMMAND_TIMEOUT, Output};
use super::registry::{Registry, RegistryOptions};
use super::rootfs;
use super::token_server::TokenServer;
use super::workdir::WorkDir;

/// A lab. Nodes and registries keep its network alive, so they may be dropped in any order.
#[derive(Debug)]
pub struct Lab {
    netns: Arc<Netns>,
    ca: Ca,
    names: Mutex<Vec<(String, String)>>,
}

impl Lab {
    /// An empty lab; panics with the `apt-get` command when the host lacks a tool.
    pub fn create() -> Self {
        rootfs::require_prerequisites().unwrap_or_else(|problem| panic!("{problem}"));
        Self { netns: Arc::new(Netns::create()), ca: Ca::create(), names: Mutex::default() }
    }

    /// The authority every node of the lab trusts.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The network, for a piece of the test that must run inside.
    pub fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// Names an address in /etc/hosts of every node booted from now on.
    pub fn name(&self, address: &str, names: &str) {
        self.names.lock().map(|mut known| known.push((address.to_owned(), names.to_owned()))).ok();
    }

    /// Boots a node that trusts the lab's authority and knows its names.
    pub fn boot(&self, options: NodeOptions) -> Node {
        let mut options = options;
        options.trusted.push(self.ca.certificate().to_owned());
        options.hosts.extend(self.names.lock().map(|names| names.clone()).unwrap_or_default());
        Node::boot(&self.netns, &options)
    }

    /// Starts a registry.
    pub fn registry(&self, options: RegistryOptions) -> Registry {
        Registry::start_new(&self.netns, options)
    }

    /// Starts an upstream: https on port 443 of the address, under public names (`gcr.io registry-1.docker.io`) that nodes
    /// booted from now on look up there.
    pub fn upstream(&self, address: &str, names: &str) -> Registry {
        self.name(address, names);
        self.registry(self.upstream_options(address, names))
    }

    /// The options of [`Lab::upstream`], to add a login or a shared storage to; the caller names the address.
    pub fn upstream_options(&self, address: &str, names: &str) -> RegistryOptions {
        let names: Vec<_> = names.split_whitespace().chain([address]).collect();
        RegistryOptions::new(&format!("{address}:443")).tls(self.ca.issue(&names))
    }

    /// Starts a token server at `ADDRESS:PORT`.
    pub fn token_server(&self, address: &str, logins: Vec<Login>) -> TokenServer {
        TokenServer::start(&self.netns, &self.ca, address, logins)
    }

    /// Pushes an image with skopeo, as a person does.
    pub fn push(&self, image: &Image, registry: &Registry, login: Option<&Login>) -> Output {
        let work = WorkDir::claim();
        image.write_layout(work.path());
        let source = format!("oci:{}:{}", work.path().display(), image.tag);
        let target = format!("docker://{}", image.reference(&registry.address().to_string()));
        let login = login.map_or_else(Vec::new, |login| vec!["--dest-creds".to_owned(), format!("{}:{}", login.user, login.password)]);
        let words = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false"].map(str::to_owned);
        self.run(words.into_iter().chain(login).chain([source, target]))
    }

    /// Runs a program of the host in the lab's network.
    pub fn run<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Output {
        let mut argv = argv.into_iter();
        let program = argv.next().unwrap_or_else(|| panic!("no program"));
        let mut command = self.netns.command(program);
        command.args(argv);
        process::run(command, COMMAND_TIMEOUT)
    }
}
