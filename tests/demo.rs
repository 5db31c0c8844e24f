//! A walk through the product on one booted node, as a person would go it: `make demo`. Each claim is checked; the first that does not
//! hold ends the walk with its reason and exit code 1. Nothing of it remains on the host.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a program that is all effects, and ends at the first surprise"
)]

use std::panic::{PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};

use harness::{
    access_log::Served,
    ca::Ca,
    cri::Login,
    images::Image,
    lab::Lab,
    node::{Node, NodeOptions},
    process::{Output, holds_within},
    registry::{Registry, RegistryOptions},
    rootfs::{Generation, containerd_version},
    workdir::owner,
};

mod harness;

const UPSTREAM: &str = "192.0.2.10";
const FIRST_MIRROR: &str = "192.0.2.20";
const SECOND_MIRROR: &str = "192.0.2.21";
const PUBLIC_NAMES: &str = "somehost.io otherhost.io gcr.io";
const SPEC: &str = "/root/mirrors.yaml";
const SPEC_IN_PLACE: &str = "/etc/mirrorlet/mirrors.yaml";
const CONFIG: &str = "/etc/containerd/config.toml";
const HOSTS_DIR: &str = "/etc/containerd/certs.d";
const CONTAINER: &str = "worker";
/// An apply that restarts containerd: 30 s at most to come back, 10 s of settling, and room.
const APPLY_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let began = Instant::now();
    std::panic::set_hook(Box::new(remember_why));
    if catch_unwind(walk).is_err() {
        // last, below what the node's journal says
        eprintln!("\nThe demo ends here: {}", WHY.get().map_or("for no known reason", String::as_str));
        return ExitCode::FAILURE;
    }
    let left = leftovers();
    if !left.is_empty() {
        eprintln!("\nThe walk is over, but this remained on the host: {left:?}");
        return ExitCode::FAILURE;
    }
    println!("\nThat was all, in {} seconds; nothing of it remains on this host.", began.elapsed().as_secs());
    ExitCode::SUCCESS
}

/// The first surprise, and where it was found.
static WHY: OnceLock<String> = OnceLock::new();

fn remember_why(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("for no known reason");
    let place = panic.location().map_or_else(String::new, |place| format!("\n(found at {}:{})", place.file(), place.line()));
    WHY.set(format!("{message}{place}")).ok();
}

/// Folders, cgroups and mounts of the test house that belong to this process, and its children; a network namespace lives as long as a
/// child that holds it.
fn leftovers() -> Vec<String> {
    let owner = owner();
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let [folder, group, child] =
        [format!("/mirrorlet-house/{owner}."), format!("/mirrorlet-house.{owner}."), format!(" {} ", std::process::id())];
    let folders = ["/var/tmp/mirrorlet-house", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(names).concat();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().map(str::to_owned).collect();
    // "PID (NAME) STATE PARENT …"
    let stats = names("/proc").into_iter().filter_map(|process| std::fs::read_to_string(process + "/stat").ok());
    let children =
        stats.filter(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.get(2..).is_some_and(|rest| rest.starts_with(&child))));
    let ours = |name: &String| name.contains(&folder) || name.contains(&group);
    [folders, mounts].concat().into_iter().filter(ours).chain(children).collect()
}

fn walk() {
    let package = package();
    let stage = Stage::set();
    let present = leftovers();
    for kind in ["/mirrorlet-house/", "/mirrorlet-house."] {
        assert!(present.iter().any(|name| name.contains(kind)), "what would remain is not seen even now: {present:?}");
    }
    let worker = stage.start_worker();
    let before = Snapshot::take(&stage.node);

    stage.install(&package, &before);
    stage.plan(&before);
    stage.apply(worker);
    stage.pull_from_the_mirror();
    stage.fall_back();
    stage.change_the_mirror(worker);
    stage.disable(worker, &before);
    stage.remove(worker, &before);
}

fn package() -> PathBuf {
    let path = std::env::var_os("MIRRORLET_DEB")
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("MIRRORLET_DEB does not name the package; use: make demo"));
    assert!(path.is_file(), "there is no {}; build it with: make deb", path.display());
    path
}

/// The node, the registries, and the images in them.
struct Stage {
    node: Node,
    upstream: Registry,
    first: Registry,
    second: Registry,
    images: Images,
    _lab: Lab,
}

struct Images {
    first: Image,
    second: Image,
    rare: Image,
}

impl Stage {
    fn set() -> Self {
        let (lab, private) = (Lab::create(), Ca::create());
        chapter("A node, a public registry, and a mirror");
        let login = Login::new("puller", "correct horse");
        let upstream = lab.upstream(UPSTREAM, PUBLIC_NAMES);
        let mirror_at = |address: &str| {
            RegistryOptions::new(&format!("{address}:5000")).tls(private.issue(&[address])).basic(&login.user, &login.password)
        };
        let first = lab.registry(mirror_at(FIRST_MIRROR));
        let second = lab.registry(mirror_at(SECOND_MIRROR).storage(first.storage()));
        tell(&format!("somehost.io, otherhost.io and gcr.io are, in this little internet, one registry at {UPSTREAM}."));
        tell(&format!("The mirror {} speaks TLS under a private CA and wants a login. skopeo fills both:", first.url()));

        let images = Images {
            first: Image::random("team/app", "1", &[1000, 200_000]),
            second: Image::random("team/app", "2", &[1000, 200_000]),
            rare: Image::random("team/rare", "1", &[50_000]),
        };
        let worker = Image::sleeper("team/worker", "1");
        for image in [&images.first, &images.second, &images.rare, &worker] {
            push(&lab, image, &upstream, None);
        }
        for image in [&images.first, &images.second] {
            push(&lab, image, &first, Some(&login));
        }

        let generation = Generation::V16;
        let node = lab.boot(NodeOptions::new(generation));
        tell(&format!("The node: Debian {}, its own systemd, containerd {}.", generation.suite(), containerd_version(generation)));
        claim(!node.read_text(CONFIG).contains("registry"), &format!("{CONFIG} says nothing about registries"));
        write_inputs(&node, &private, &login);
        Self { node, upstream, first, second, images, _lab: lab }
    }

    /// A container that must not notice anything of all this.
    fn start_worker(&self) -> u32 {
        let reference = "somehost.io/team/worker:1";
        self.node
            .pull(reference, None)
            .unwrap_or_else(|error| panic!("the node cannot pull {reference} from the public registry: {error}"));
        let pid = self.node.run_container(reference, CONTAINER);
        tell(&format!("A container of {reference} runs on it, process {pid}."));
        claim(!self.upstream.served("team/worker").is_nothing(), "today the node pulls from the public registry");
        pid
    }

    fn install(&self, package: &Path, before: &Snapshot) {
        chapter("Installing the package touches nothing");
        self.node.install(&[(package, "/root/mirrorlet.deb", 0o644)]);
        self.must(&["dpkg", "-i", "/root/mirrorlet.deb"]);
        self.is_untouched(before, "containerd's files are as they were, and it was not restarted");
        let state = self.node.run(["systemctl", "is-enabled", "mirrorlet"]).stdout;
        claim(state.trim() == "disabled", &format!("the service is not enabled (systemd says: {})", state.trim()));

        chapter("The service, still without a spec");
        self.must(&["systemctl", "enable", "--now", "mirrorlet"]);
        let status = self.show(&["mirrorctl", "status"]);
        let knows = status.stdout.contains("no-spec") && status.stdout.contains(&format!("pid {}, CRI ready", before.pid));
        claim(knows, "it knows containerd, and that there is no spec");
        self.is_untouched(before, "without a spec nothing is done");
    }

    fn plan(&self, before: &Snapshot) {
        chapter("Asking first");
        self.must(&["cat", SPEC]);
        let plan = self.show(&["mirrorctl", "plan", SPEC]);
        claim(plan.code == Some(1), "there is something to do (exit 1; 0 would be nothing)");
        claim(plan.stdout.contains("hosts.toml") && plan.stdout.contains("config_path"), "it shows the files that would change");
        claim(plan.stdout.contains("\nrestart: yes, because "), "it says that containerd would be restarted, once, and why");
        claim(!plan.stdout.contains(&secret()), "the login does not stand in it");
        self.is_untouched(before, "asking changed nothing");
    }

    fn apply(&self, worker: u32) {
        chapter("Applying it: one restart, and proof");
        let (starts, pid) = (self.node.containerd_starts(), self.containerd());
        self.must(&["mirrorctl", "apply", SPEC, "--wait"]);
        self.is_in_effect();
        let now = self.containerd();
        claim(
            self.node.containerd_starts() == starts + 1 && now != pid,
            &format!("containerd was restarted once: process {pid}, now {now}"),
        );
        self.worker_lives(worker);
        claim(self.node.exists(SPEC_IN_PLACE), &format!("the spec is now {SPEC_IN_PLACE}, which is watched"));
    }

    fn pull_from_the_mirror(&self) {
        chapter("A pull, and who served it");
        self.pull(&self.images.first, &self.first, &[&self.upstream, &self.second]);
    }

    fn fall_back(&self) {
        chapter("What the mirror has not comes from the registry itself");
        self.pull(&self.images.rare, &self.upstream, &[&self.first]);
        tell(&format!("The access log of {}:", self.first.url()));
        quote(&self.first.log(), "team/rare");
        let was_asked = self.first.requests().iter().any(|request| request.repository() == Some("team/rare") && request.status == 404);
        claim(was_asked, "the mirror was asked first, and had it not");
    }

    fn change_the_mirror(&self, worker: u32) {
        chapter("Another mirror: an edit of the file is enough");
        let (starts, pid) = (self.node.containerd_starts(), self.containerd());
        let expression = format!("s/{FIRST_MIRROR}:/{SECOND_MIRROR}:/");
        self.must(&["sed", "-i", &expression, SPEC_IN_PLACE]);
        let hosts_toml = &format!("{HOSTS_DIR}/somehost.io/hosts.toml");
        let noticed =
            holds_within(APPLY_TIMEOUT, || self.node.exists(hosts_toml) && self.node.read_text(hosts_toml).contains(&self.second.url()));
        claim(noticed, &format!("{hosts_toml} names {}", self.second.url()));
        self.is_in_effect();
        self.pull(&self.images.second, &self.second, &[&self.upstream, &self.first]);
        let now = self.containerd();
        claim(
            now == pid && self.node.containerd_starts() == starts,
            &format!("without a restart: containerd was process {pid} and is {now}"),
        );
        self.worker_lives(worker);
    }

    fn disable(&self, worker: u32, before: &Snapshot) {
        chapter("Off again");
        self.must(&["mirrorctl", "disable"]);
        self.must(&["cmp", CONFIG, "/root/config.toml.before"]);
        let now = Snapshot::take(&self.node);
        println!("      before  {}\n      after   {}", before.digest, now.digest);
        claim(now.digest == before.digest, "config.toml is the same, byte for byte");
        self.same_tree(before, &now, "so is everything below /etc/containerd, with owners and modes");
        let status = self.show(&["mirrorctl", "status"]);
        claim(status.stdout.contains("held"), "the spec that is still there is held, until: mirrorctl resume");
        let image = &self.images.first;
        [&self.upstream, &self.second].into_iter().for_each(Registry::forget);
        let pulled = self.node.pull(&image.reference("somehost.io"), None);
        claim(
            pulled.is_ok() && self.second.served(&image.name).is_nothing() && !self.upstream.served(&image.name).is_nothing(),
            "the node pulls from the public registry again, as in the beginning",
        );
        self.worker_lives(worker);
    }

    fn remove(&self, worker: u32, before: &Snapshot) {
        chapter("And gone");
        let pid = self.containerd();
        self.must(&["dpkg", "--purge", "mirrorlet"]);
        self.same_tree(before, &Snapshot::take(&self.node), "containerd's files stayed as they were found");
        claim(self.containerd() == pid, "containerd was not restarted for that");
        claim(!self.node.exists("/var/lib/mirrorlet") && !self.node.exists("/etc/mirrorlet"), "nothing of mirrorlet is left on the node");
        self.worker_lives(worker);
    }

    /// A test pull that one registry must have served whole, and the others not at all.
    #[track_caller]
    fn pull(&self, image: &Image, server: &Registry, others: &[&Registry]) {
        [&self.upstream, &self.first, &self.second].into_iter().for_each(Registry::forget);
        let seen = server.log().len();
        self.must(&["mirrorctl", "pull", &image.reference("somehost.io")]);
        let served = server.served(&image.name);
        tell(&format!("The access log of {}:", server.url()));
        quote(server.log().get(seen..).unwrap_or_default(), &image.name);
        // the config is a blob too
        let whole = Served { tags: served.tags.max(1), manifests: served.manifests.max(1), blobs: image.layers.len() + 1 };
        claim(
            served == whole,
            &format!("{} served the whole image: manifest, config and each layer ({})", server.url(), image.layers.len()),
        );
        for other in others {
            claim(other.served(&image.name).is_nothing(), &format!("{} served nothing of it", other.url()));
        }
    }

    #[track_caller]
    fn is_in_effect(&self) {
        holds_within(APPLY_TIMEOUT, || self.node.run(["mirrorctl", "status"]).success());
        let status = self.show(&["mirrorctl", "status"]);
        claim(status.success() && status.stdout.contains("in-effect"), "status says that the spec is in effect (exit 0)");
        let proof = format!("containerd (process {}) read a test name from {HOSTS_DIR}", self.containerd());
        claim(status.stdout.contains(&proof), "and that this containerd was seen reading the new files");
    }

    #[track_caller]
    fn is_untouched(&self, before: &Snapshot, what: &str) {
        let now = Snapshot::take(&self.node);
        self.same_tree(before, &now, what);
        claim(before.pid == now.pid, &format!("containerd is still process {}", now.pid));
    }

    #[track_caller]
    fn same_tree(&self, before: &Snapshot, now: &Snapshot, what: &str) {
        let lost: Vec<_> = before.tree.lines().filter(|line| !now.tree.lines().any(|other| other == *line)).collect();
        let new: Vec<_> = now.tree.lines().filter(|line| !before.tree.lines().any(|other| other == *line)).collect();
        let difference = format!("lost:\n{}\nnew:\n{}", lost.join("\n"), new.join("\n"));
        assert!(lost.is_empty() && new.is_empty(), "it does not hold that {what}\n{difference}");
        claim(true, what);
    }

    #[track_caller]
    fn worker_lives(&self, pid: u32) {
        let now = self.node.container_pid(CONTAINER);
        claim(
            now == Some(pid) && self.node.process_exists(pid),
            &format!("the container did not notice: still process {pid} (containerd says {now:?})"),
        );
    }

    fn containerd(&self) -> u32 {
        self.node.containerd_pid().unwrap_or_else(|| panic!("containerd does not run"))
    }

    /// Runs a command that must work and shows what it says.
    #[track_caller]
    fn must(&self, argv: &[&str]) {
        let output = self.show(argv);
        assert!(output.success(), "`{}` ended with {:?} (its words stand above)", argv.join(" "), output.code);
    }

    /// Runs a command and shows what it says, in the order in which a terminal would.
    fn show(&self, argv: &[&str]) -> Output {
        println!("\n    node# {}", argv.join(" "));
        let together = [&["sh", "-c", "exec \"$@\" 2>&1", "sh"], argv].concat();
        let output = self.node.run_within(APPLY_TIMEOUT + Duration::from_secs(30), &together);
        indent(&output.stdout);
        output
    }
}

/// What must be the same when mirrorlet has gone.
struct Snapshot {
    /// Mode, owner, path and digest of everything below /etc/containerd.
    tree: String,
    /// Of config.toml, as sha256sum prints it.
    digest: String,
    /// containerd's process.
    pid: u32,
}

impl Snapshot {
    fn take(node: &Node) -> Self {
        let list = "find /etc/containerd -printf '%M %u:%g %p %l\\n' | sort; find /etc/containerd -type f -exec sha256sum {} + | sort -k2";
        Self {
            tree: node.run_ok(["sh", "-c", list]),
            digest: node.run_ok(["sha256sum", CONFIG]).trim().to_owned(),
            pid: node.containerd_pid().unwrap_or_else(|| panic!("containerd does not run")),
        }
    }
}

/// The spec and the files it names, as they lie on an operator's machine.
fn write_inputs(node: &Node, private: &Ca, login: &Login) {
    let entry = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{}:{}", login.user, login.password)));
    node.write("/root/ca.crt", private.certificate());
    let logins = format!(r#"{{"auths":{{"{FIRST_MIRROR}:5000":{entry},"{SECOND_MIRROR}:5000":{entry}}}}}"#);
    node.write("/root/.docker/config.json", logins);
    node.run_ok(["chmod", "600", "/root/.docker/config.json"]);
    node.run_ok(["cp", "-p", CONFIG, "/root/config.toml.before"]);
    node.write(
        SPEC,
        format!(
            "registryMirrors:\n  - endpoint: https://{FIRST_MIRROR}:5000\n    caCertPath: /root/ca.crt\n    pullCredentialConfigPath: /root/.docker/config.json\n    hosts:\n      - somehost.io\n      - otherhost.io\n"
        ),
    );
}

/// What a leaked login would look like in a plan.
fn secret() -> String {
    STANDARD.encode("puller:correct horse")
}

fn push(lab: &Lab, image: &Image, registry: &Registry, login: Option<&Login>) {
    let reference = image.reference(&registry.address().to_string());
    lab.push(image, registry, login).expect_success(&format!("skopeo copy … docker://{reference}"));
    println!("      pushed {reference}");
}

/// The lines of an access log that speak of a repository.
fn quote(log: &str, repository: &str) {
    let needle = format!("/v2/{repository}/");
    let lines: Vec<_> = log.lines().filter(|line| !line.starts_with('{') && line.contains(&needle)).collect();
    indent(&lines.join("\n"));
}

fn chapter(title: &str) {
    println!("\n== {title}");
}

fn tell(sentence: &str) {
    println!("   {sentence}");
}

fn indent(text: &str) {
    text.trim_end().lines().for_each(|line| println!("      {line}"));
}

#[track_caller]
fn claim(holds: bool, what: &str) {
    assert!(holds, "it does not hold that {what}");
    println!("   ok: {what}");
}
