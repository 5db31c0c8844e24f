//! Reads everything once. What cannot be read is unknown because of something; nothing here decides.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::ErrorKind,
};

use super::{
    blame::Blame,
    clock,
    commands::{self, CommandError},
    containerd::Containerd,
    cri::Cri,
    facts,
    files::{FileError, Files},
    inputs::{self, SpecOnDisk},
    listener,
    state::State,
    units,
};
use crate::{
    config::{self, RestartDriver, Settings},
    observed::{
        Config, ConfigFile, Containerd as ContainerdFacts, Fact, HostEntry, Observed, Place, Process, RestartFacts, Unit,
        effective::{ConfigText, Registry},
        entry::{Content, Entry},
        record::Record,
        version::Version,
    },
    render::host_directory::HOSTS_TOML,
    spec::{names::Digest, problem::Problem},
};

/// A directory of host directories.
type Root = (String, BTreeMap<String, HostEntry>);

/// A file and when it changed.
type FileTime = (String, i64);

/// A drop-in is never larger.
const CONFIG_LIMIT: u64 = 4 << 20;

/// The node, as far as the agent can reach it.
#[derive(Debug)]
pub struct Host {
    /// Its files.
    pub files: Files,
    /// The daemon's settings.
    pub settings: Settings,
    /// The paths are below another root: no process of this node is asked.
    pub is_offline: bool,
    /// Who wrote, as far as the kernel tells.
    pub blame: Blame,
    asked: RefCell<Answers>,
}

/// Answers of programs that only change when their question does.
#[derive(Debug, Default)]
struct Answers {
    versions: BTreeMap<(String, Option<i64>), Version>,
    /// By the binary and the files it reads, with the times they changed.
    dumps: BTreeMap<Vec<FileTime>, Fact<Registry>>,
}

impl Host {
    /// The node below `files`' root.
    #[must_use]
    pub fn new(files: Files, settings: Settings, is_offline: bool) -> Self {
        Self { files, settings, is_offline, blame: Blame::default(), asked: RefCell::default() }
    }

    /// The agent's memory.
    #[must_use]
    pub fn state(&self) -> State<'_> {
        State::new(&self.files, &self.settings.state.dir)
    }

    /// Digest of the text of the node's own spec, whether it can be used or not; `None` when there is none.
    #[must_use]
    pub fn spec_digest(&self) -> Option<Digest> {
        match inputs::spec(&self.files, &self.settings.spec.path) {
            SpecOnDisk::Texts(texts) => Some(inputs::digest_of(&texts)),
            _ => None,
        }
    }

    /// Where the running containerd is reached.
    ///
    /// # Errors
    /// When settings and unit disagree, or the address is no path.
    pub async fn containerd(&self, record: &Record) -> Result<(Containerd, Place, Fact<Unit>, u32), Problem> {
        let (unit, main_pid) = self.unit().await;
        let place = self.place(unit.known(), record.place.as_ref())?;
        Ok((self.client(&place)?, place, unit, main_pid))
    }

    /// A client for the containerd at a place.
    ///
    /// # Errors
    /// When its address is no path.
    pub fn client(&self, place: &Place) -> Result<Containerd, Problem> {
        Containerd::at(&place.address).map_err(|error| Problem::new("containerd.address", error.to_string(), "mend [containerd] address"))
    }

    async fn unit(&self) -> (Fact<Unit>, u32) {
        if self.is_offline {
            return (Fact::Unknown("the root is not this node's".into()), 0);
        }
        match units::look(&self.settings.containerd.unit).await {
            Ok((unit, pid)) => {
                let files = unit.files.iter().map(|file| self.read_through_links(&file.path)).collect();
                (Fact::Known(Unit { files, ..unit }), pid)
            }
            Err(error) => (Fact::Unknown(error.to_string()), 0),
        }
    }

    /// Config file, binary and socket: from the unit; a setting that says otherwise is refused. A unit that cannot be asked, as before
    /// the bus is up, is taken to say what it said the last time; a setting goes before that.
    fn place(&self, unit: Option<&Unit>, last: Option<&Place>) -> Result<Place, Problem> {
        let settings = &self.settings.containerd;
        if let (None, Some(last)) = (unit, last) {
            let choose = |setting: &Option<String>, last: &String| setting.as_ref().unwrap_or(last).clone();
            return Ok(Place {
                config: choose(&settings.config, &last.config),
                binary: choose(&settings.binary, &last.binary),
                address: choose(&settings.address, &last.address),
            });
        }
        let choose = |key: &str, setting: &Option<String>, said: Option<&str>, default: &str| match (setting, said) {
            (Some(setting), Some(said)) if setting != said => Err(Problem::new(
                "containerd.disagree",
                format!("[containerd] {key} = \"{setting}\", but unit {} says {said}", settings.unit),
                "take the setting out, or change the unit",
            )),
            (Some(setting), _) => Ok(setting.clone()),
            (None, said) => Ok(said.unwrap_or(default).to_owned()),
        };
        let config = choose("config", &settings.config, unit.and_then(Unit::config_argument), config::CONTAINERD_CONFIG_PATH)?;
        let in_config = self.address_in(&config);
        let default = in_config.as_deref().unwrap_or(config::CONTAINERD_SOCKET_PATH);
        Ok(Place {
            address: choose("address", &settings.address, unit.and_then(Unit::address_argument), default)?,
            binary: choose("binary", &settings.binary, unit.and_then(Unit::binary), "/usr/bin/containerd")?,
            config,
        })
    }

    /// `[grpc] address`; from version 4 on it is in a plugin's table (CONTAINERD.md 1.1).
    fn address_in(&self, config: &str) -> Option<String> {
        let found = self.files.read(config).ok()??;
        let parsed = ConfigText::parse(config, found.content.text()).ok()?;
        let in_plugin = parsed.plugin("io.containerd.server.v1.grpc").and_then(|table| table.get("address"));
        let in_grpc = || parsed.document.get("grpc").and_then(|grpc| grpc.get("address"));
        let address = if parsed.version >= Some(4) { in_plugin } else { in_grpc() };
        address.and_then(toml_edit::Item::as_str).filter(|address| address.starts_with('/')).map(str::to_owned)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// When containerd's files cannot be looked at: then nothing may be planned.
    pub async fn observe(&self, record: Record) -> Result<Observed, Problem> {
        let (client, place, unit, main_pid) = self.containerd(&record).await?;
        let containerd = self.containerd_facts(&client, place, unit, main_pid).await;
        let version = containerd.version_to_be(false).cloned();
        let config = self.config(&containerd.place, version.as_ref()).await.map_err(unreadable)?;
        let registry = parsed_registry(&config);
        let hosts_dir = &self.settings.containerd.hosts_dir;
        let tree = self.hosts_tree(hosts_dir).map_err(unreadable)?;
        let proven = self.proven(&client, &containerd, &record, &config, &registry).await;
        let originals = self.originals(&record).map_err(unreadable)?;
        let mut observed = Observed {
            missing_parents: self.missing_parents(&containerd.place.config),
            made_directories: self.made_directories(&record).map_err(unreadable)?,
            other_roots: self.other_roots(&registry, version.as_ref()).map_err(unreadable)?,
            named_files: self.named_files(&record, &registry, originals.get(&config.root.path)),
            originals,
            now: clock::unix_seconds(),
            can_change_owner: facts::can_change_owner(),
            hosts_dir: tree,
            restart: None,
            containerd,
            config,
            record,
            proven,
        };
        // Seen once, before somebody edits a file, it is known from then on.
        observed.record.start = observed.start().or(observed.record.start);
        Ok(observed)
    }

    /// Looks up what a restart needs.
    #[must_use]
    pub fn restart_facts(&self) -> RestartFacts {
        RestartFacts { inotify_head_room: facts::inotify_head_room().into() }
    }

    async fn containerd_facts(&self, client: &Containerd, place: Place, unit: Fact<Unit>, main_pid: u32) -> ContainerdFacts {
        let installed = self.installed(&place.binary).await;
        if self.is_offline {
            let offline = || "the root is not this node's".to_owned();
            let (running, process, cri) = (Fact::Unknown(offline()), Fact::Unknown(offline()), Fact::Unknown(offline()));
            return ContainerdFacts { place, unit, running, installed, process, started_ms: 0, cri };
        }
        let process: Fact<Process> = client.process(main_pid).await.into();
        ContainerdFacts {
            running: client.version().await.into(),
            started_ms: process.known().map_or(0, |process| clock::unix_millis_of(process.start_ticks)),
            process,
            cri: Cri::on(client.channel()).check().await.into(),
            place,
            unit,
            installed,
        }
    }

    async fn installed(&self, binary: &str) -> Fact<Version> {
        let key = (binary.to_owned(), self.files.changed_ms(binary));
        if let Some(version) = self.asked.borrow().versions.get(&key) {
            return Fact::Known(version.clone());
        }
        let seen = self.files.seen(binary);
        match commands::containerd_version(&seen.to_string_lossy()).await {
            Ok(version) => {
                self.asked.borrow_mut().versions.insert(key, version.clone());
                Fact::Known(version)
            }
            Err(error) => Fact::Unknown(error.to_string()),
        }
    }

    async fn config(&self, place: &Place, version: Option<&Version>) -> Result<Config, FileError> {
        let entry = self.files.entry(&place.config)?;
        let (root, imports) = self.config_files(&place.config)?;
        let files = std::iter::once(&root).chain(&imports);
        let import_directories = files.flat_map(import_patterns).map(|pattern| directory_of(&pattern)).collect();
        let mut config = Config { root, entry, imports, import_directories, dumped: None };
        config.dumped = self.dumped(place, &config, version).await;
        Ok(config)
    }

    /// Whether containerd's config is still what was observed, imports included.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_still(&self, config: &Config) -> Result<bool, FileError> {
        let (root, imports) = self.config_files(&config.root.path)?;
        let now: BTreeMap<_, _> = [&root].into_iter().chain(&imports).map(text_of).collect();
        Ok(now == config.files().map(text_of).collect())
    }

    fn config_files(&self, path: &str) -> Result<(ConfigFile, Vec<ConfigFile>), FileError> {
        let found = self.files.read(path)?;
        let changed_ms = found.as_ref().map_or(0, |found| found.changed_ms);
        let root = ConfigFile { path: path.to_owned(), changed_ms, text: found.map(|found| found.content) };
        let imports = self.imports(&root);
        Ok((root, imports))
    }

    /// Imported files, breadth first, each once (CONTAINERD.md 1.6).
    fn imports(&self, root: &ConfigFile) -> Vec<ConfigFile> {
        let mut seen = BTreeSet::from([root.path.clone()]);
        let mut queue = VecDeque::from([(root.path.clone(), root.text.clone())]);
        let mut files = Vec::new();
        while let Some((path, text)) = queue.pop_front() {
            for import in self.imported_by(&path, text.as_ref()) {
                if !seen.insert(import.clone()) {
                    continue;
                }
                let file = self.read_through_links(&import);
                queue.push_back((import, file.text.clone()));
                files.push(file);
            }
        }
        files
    }

    /// Links are followed, as containerd and systemd do.
    fn read_through_links(&self, path: &str) -> ConfigFile {
        let text = self.files.read_named(path, CONFIG_LIMIT).ok().map(Content::from);
        ConfigFile { path: path.to_owned(), changed_ms: self.files.changed_ms(path).unwrap_or(0), text }
    }

    fn imported_by(&self, path: &str, text: Option<&Content>) -> Vec<String> {
        let patterns = patterns_of(path, text).into_iter();
        patterns.flat_map(|pattern| if pattern.contains('*') { self.files.matching(&pattern) } else { vec![pattern] }).collect()
    }

    async fn dumped(&self, place: &Place, config: &Config, version: Option<&Version>) -> Option<Fact<Registry>> {
        if self.is_offline || config.root.text.is_none() || version.is_none() {
            return None;
        }
        let files = config.files().map(|file| (file.path.clone(), file.changed_ms));
        let binary = (place.binary.clone(), self.files.changed_ms(&place.binary).unwrap_or_default());
        let key: Vec<FileTime> = std::iter::once(binary).chain(files).collect();
        if let Some(dumped) = self.asked.borrow().dumps.get(&key) {
            return Some(dumped.clone());
        }
        let dumped = match commands::containerd_config_dump(&place.binary, &place.config).await {
            Ok(text) => Fact::Known(ConfigText::parse("config dump", Some(&text)).map(|parsed| parsed.registry()).unwrap_or_default()),
            // That says nothing of the config, and the trial before a restart asks again.
            Err(CommandError::NotStarted { .. } | CommandError::Late { .. }) => return None,
            Err(error) => Fact::Unknown(error.to_string()),
        };
        let mut asked = self.asked.borrow_mut();
        asked.dumps.clear();
        asked.dumps.insert(key, dumped.clone());
        Some(dumped)
    }

    fn hosts_tree(&self, directory: &str) -> Result<Option<BTreeMap<String, HostEntry>>, FileError> {
        let tree = self.files.tree(directory, HOSTS_TOML)?;
        let is_host = |name: &String| !name.starts_with('.') && !listener::is_nonce_directory(name);
        Ok(tree.map(|tree| {
            tree.into_iter()
                .filter(|(name, _)| is_host(name))
                .map(|(name, looked)| (name, HostEntry { entry: looked.entry, hosts_toml: looked.wanted, links: looked.links }))
                .collect()
        }))
    }

    fn missing_parents(&self, config: &str) -> Vec<String> {
        let hosts_dir = &self.settings.containerd.hosts_dir;
        let mut missing = Vec::new();
        for path in [hosts_dir.as_str(), config] {
            let parents = path.match_indices('/').skip(1).map(|(end, _)| path[..end].to_owned());
            missing.extend(parents.filter(|parent| matches!(self.files.entry(parent), Ok(Entry::Absent))));
        }
        missing.sort();
        missing.dedup();
        missing
    }

    fn made_directories(&self, record: &Record) -> Result<BTreeMap<String, Vec<String>>, FileError> {
        let hosts_dir = &self.settings.containerd.hosts_dir;
        let made = record.originals.iter().filter(|(path, entry)| **entry == Entry::Absent && hosts_dir.starts_with(path.as_str()));
        let listed = made.map(|(path, _)| match self.files.names(path) {
            Ok(names) => Ok(Some((path.clone(), names))),
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        listed.filter_map(Result::transpose).collect()
    }

    /// The other directories of a list; since 2.2 an unset `config_path` is one.
    fn other_roots(&self, registry: &Registry, version: Option<&Version>) -> Result<Vec<Root>, FileError> {
        let default = version.is_some_and(Version::has_default_config_path) && registry.mirrors.is_empty();
        let default = if default { "/etc/containerd/certs.d:/etc/docker/certs.d" } else { "" };
        let list = registry.config_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(default);
        let mut roots = Vec::new();
        for root in list.split(':').filter(|root| root.starts_with('/') && *root != self.settings.containerd.hosts_dir) {
            if let Some(tree) = self.hosts_tree(root.trim_end_matches('/'))? {
                roots.push((root.trim_end_matches('/').to_owned(), tree));
            }
        }
        Ok(roots)
    }

    fn originals(&self, record: &Record) -> Result<BTreeMap<String, Content>, FileError> {
        let state = self.state();
        let files = record.originals.iter().filter_map(|(path, entry)| Some((path, entry.digest()?)));
        let kept = files.map(|(path, digest)| Ok(state.object(digest)?.map(|content| (path.clone(), content))));
        kept.filter_map(Result::transpose).collect()
    }

    fn named_files(&self, record: &Record, registry: &Registry, original: Option<&Content>) -> BTreeMap<String, Fact<()>> {
        let original = original.and_then(|original| ConfigText::parse("original", original.text()).ok());
        let original = original.map(|original| original.registry()).unwrap_or_default();
        let named = record.carried.tls.values().chain(registry.tls.values()).chain(original.tls.values());
        let paths = named.flat_map(|tls| [&tls.ca_file, &tls.cert_file, &tls.key_file]).filter(|path| !path.is_empty());
        paths.map(|path| (path.clone(), self.pem_file(path))).collect()
    }

    fn pem_file(&self, path: &str) -> Fact<()> {
        match self.files.read_named(path, 4 << 20) {
            Ok(bytes) if String::from_utf8_lossy(&bytes).contains("-----BEGIN ") => Fact::Known(()),
            Ok(_) => Fact::Unknown("it holds nothing in PEM form".into()),
            Err(error) => Fact::Unknown(error.to_string()),
        }
    }

    /// Whether somebody can be asked to restart containerd.
    #[must_use]
    pub fn can_restart(&self) -> bool {
        self.settings.restart.driver != RestartDriver::Never && !self.is_offline
    }
}

/// Absolute patterns of the `imports` of a config file.
fn patterns_of(path: &str, text: Option<&Content>) -> Vec<String> {
    let Some(parsed) = text.and_then(|text| ConfigText::parse(path, text.text()).ok()) else { return Vec::new() };
    let patterns = parsed.document.get("imports").and_then(toml_edit::Item::as_array);
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let absolute = |pattern: &str| if pattern.starts_with('/') { pattern.to_owned() } else { format!("{directory}/{pattern}") };
    patterns.into_iter().flatten().filter_map(toml_edit::Value::as_str).map(absolute).collect()
}

fn import_patterns(file: &ConfigFile) -> Vec<String> {
    patterns_of(&file.path, file.text.as_ref())
}

/// The directory of a pattern, as far as it has no wildcard.
fn directory_of(pattern: &str) -> String {
    let fixed = pattern.split('*').next().unwrap_or(pattern);
    fixed.rsplit_once('/').map_or("/", |(directory, _)| directory).to_owned()
}

fn parsed_registry(config: &Config) -> Registry {
    let text = config.root.text.as_ref().map_or(Some(""), Content::text);
    ConfigText::parse(&config.root.path, text).map(|parsed| parsed.registry()).unwrap_or_default()
}

fn unreadable(error: FileError) -> Problem {
    Problem::new("host.unreadable", error.to_string(), "mirrorlet has to be able to read containerd's files; nothing was changed")
}

fn text_of(file: &ConfigFile) -> (&str, Option<&Content>) {
    (&file.path, file.text.as_ref())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_unit_that_cannot_be_asked_says_what_it_said_last() {
        let mut host = Host::new(Files::open(Path::new("/")).unwrap(), Settings::default(), true);
        let last = Place { config: "/unit.toml".into(), binary: "/unit".into(), address: "/unit.sock".into() };
        assert_eq!(host.place(None, Some(&last)).unwrap(), last);
        host.settings.containerd.config = Some("/settings.toml".into());
        let place = host.place(None, Some(&last)).unwrap();
        assert_eq!((place.config.as_str(), place.binary.as_str()), ("/settings.toml", "/unit"));
        assert_eq!(host.place(None, None).unwrap().binary, "/usr/bin/containerd");
    }
}
