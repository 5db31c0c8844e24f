//! What containerd makes of its config files: which registry settings are in effect, and which drop-in would override or lose ours.
//!
//! `containerd config dump` runs no plugin validation and CRI Status shows no registry settings on 2.x, so the merge rules are modelled here
//! by version (measured on 1.6.20, 1.7.24 and 2.1.9; read in containerd's `cmd/containerd/server/config` for the others).

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use toml_edit::{DocumentMut, Item, TableLike};

use super::{
    Config, ConfigFile,
    record::{ConfigsTls, LegacyKeys, OwnKeys},
    version::Version,
};
use crate::spec::{
    inputs::Login,
    names::Digest,
    problem::{Location, Problem},
};

/// The CRI plugin of version 2 files.
pub const CRI_OF_VERSION_2: &str = "io.containerd.grpc.v1.cri";
/// The plugin that holds the registry settings in files of version 3 and 4.
pub const IMAGES_OF_VERSION_3: &str = "io.containerd.cri.v1.images";

/// One parsed config file.
#[derive(Debug, Clone)]
pub struct ConfigText {
    /// Path, for messages.
    pub path: String,
    /// The document, with all its spaces and comments.
    pub document: DocumentMut,
    /// `version = N`, if the file says so.
    pub version: Option<i64>,
}

impl ConfigText {
    /// Parses a file.
    ///
    /// # Errors
    /// When it is not UTF-8 or not TOML; containerd would not start with it either.
    pub fn parse(path: &str, text: Option<&str>) -> Result<Self, Problem> {
        let text = text.ok_or_else(|| {
            Problem::new("config.not-text", format!("{path} is not UTF-8"), "containerd cannot read it either; restore it")
        })?;
        let document: DocumentMut =
            text.trim_start_matches('\u{feff}').replace("\r\n", "\n").parse().map_err(|error| syntax_problem(path, text, &error))?;
        let version = document.get("version").and_then(Item::as_integer);
        Ok(Self { path: path.into(), document, version })
    }

    /// The plugin whose `registry` table this file's version puts the settings in.
    #[must_use]
    pub fn registry_plugin(&self) -> &'static str {
        registry_plugin(self.version.unwrap_or(2))
    }

    /// The table of one plugin.
    #[must_use]
    pub fn plugin(&self, id: &str) -> Option<&dyn TableLike> {
        self.document.get("plugins")?.as_table_like()?.get(id)?.as_table_like()
    }

    /// The registry settings of this file alone.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let table = self.plugin(self.registry_plugin()).and_then(|plugin| plugin.get("registry")).and_then(Item::as_table_like);
        table.map(Registry::of).unwrap_or_default()
    }

    fn disabled_plugins(&self) -> Vec<&str> {
        let array = self.document.get("disabled_plugins").and_then(Item::as_array);
        array.into_iter().flatten().filter_map(toml_edit::Value::as_str).collect()
    }
}

/// The plugin whose `registry` table a file of this version puts the settings in.
#[must_use]
pub const fn registry_plugin(file_version: i64) -> &'static str {
    if file_version >= 3 { IMAGES_OF_VERSION_3 } else { CRI_OF_VERSION_2 }
}

fn syntax_problem(path: &str, text: &str, error: &toml_edit::TomlError) -> Problem {
    let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let location = Location { file: path.into(), line: line as u32, column: column as u32 };
    Problem::new(
        "config.syntax",
        format!("not TOML: {}", error.message().trim().replace('\n', ", ")),
        "containerd does not start with it; mend it first",
    )
    .at(location, "")
}

/// The CRI's registry settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// `config_path`, when it is set.
    pub config_path: Option<String>,
    /// `mirrors."NAMESPACE".endpoint`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `configs."HOST".tls`.
    pub tls: BTreeMap<String, ConfigsTls>,
    /// Hosts that have a `configs."HOST".auth`.
    pub logins: BTreeSet<String>,
    /// `configs."HOST".auth` by host, for comparing; holds secrets.
    auths: BTreeMap<String, String>,
}

impl Registry {
    fn of(table: &dyn TableLike) -> Self {
        let configs = || table.get("configs").and_then(Item::as_table_like).into_iter().flat_map(TableLike::iter);
        Self {
            config_path: table.get("config_path").and_then(Item::as_str).map(str::to_owned),
            mirrors: mirrors_of(table),
            tls: configs().filter_map(|(host, config)| Some((host.to_owned(), tls_of(config.get("tls")?)))).collect(),
            logins: configs().filter(|(_, config)| config.get("auth").is_some()).map(|(host, _)| host.to_owned()).collect(),
            auths: configs()
                .filter_map(|(host, config)| Some((host.to_owned(), canonical(config.get("auth")?.as_table_like()?).to_string())))
                .collect(),
        }
    }

    /// One digest for what of ours a running containerd can only learn by a restart: `config_path`, and what these keys hold. What others
    /// change in the table waits for their own restart; their `mirrors` and TLS settings only ever go when `config_path` comes.
    #[must_use]
    pub fn digest(&self, keys: OwnKeys<'_>) -> Digest {
        let mut all = self.config_path.clone().unwrap_or_default();
        for (host, auth) in self.auths.iter().filter(|(host, _)| keys.logins.contains(*host)) {
            all.push_str(&format!("\0{host}\0{auth}"));
        }
        if let Some(legacy) = keys.legacy {
            let mirrors = self.mirrors.iter().filter(|(namespace, _)| legacy.mirrors.contains_key(*namespace));
            mirrors.for_each(|(namespace, endpoints)| all.push_str(&format!("\0mirror\0{namespace}\0{}", endpoints.join("\0"))));
            let tls = self.tls.iter().filter(|(host, _)| legacy.tls.contains(*host));
            tls.for_each(|(host, tls)| all.push_str(&format!("\0tls\0{host}\0{tls:?}")));
        }
        Digest::of(all.as_bytes())
    }

    /// The same without what is ours in the legacy tables; `original` is what was there before us.
    #[must_use]
    pub fn without(&self, legacy: Option<&LegacyKeys>, original: &Self) -> Self {
        let mut theirs = self.clone();
        let Some(legacy) = legacy else { return theirs };
        for namespace in legacy.mirrors.keys() {
            let others = legacy.of_others(namespace, self.mirrors.get(namespace), original.mirrors.get(namespace));
            replace(&mut theirs.mirrors, namespace, others);
        }
        for host in &legacy.tls {
            replace(&mut theirs.tls, host, original.tls.get(host).cloned());
        }
        theirs
    }

    /// Whether a host has a login, and it is another one.
    #[must_use]
    pub fn has_other_login(&self, host: &str, login: &Login) -> bool {
        let ours = json!({ "username": login.username, "password": login.password.expose_secret() });
        self.auths.get(host).is_some_and(|auth| serde_json::from_str::<Value>(auth).ok() != Some(ours))
    }

    /// Whether every mirror of `wanted` is here as it is there.
    #[must_use]
    pub fn has_mirrors_of(&self, wanted: &Self) -> bool {
        wanted.mirrors.iter().all(|(namespace, endpoints)| self.mirrors.get(namespace) == Some(endpoints))
    }
}

fn replace<T>(map: &mut BTreeMap<String, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

/// `mirrors."NAMESPACE".endpoint` of a registry table.
#[must_use]
pub fn mirrors_of(table: &dyn TableLike) -> BTreeMap<String, Vec<String>> {
    let mirrors = table.get("mirrors").and_then(Item::as_table_like).into_iter().flat_map(TableLike::iter);
    let endpoints = |mirror: &Item| {
        let array = mirror.get("endpoint").and_then(Item::as_array);
        array.into_iter().flatten().filter_map(toml_edit::Value::as_str).map(str::to_owned).collect()
    };
    mirrors.map(|(namespace, mirror)| (namespace.to_owned(), endpoints(mirror))).collect()
}

/// A `configs."HOST".tls`.
#[must_use]
pub fn tls_of(tls: &Item) -> ConfigsTls {
    let text = |key| tls.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
    ConfigsTls {
        ca_file: text("ca_file"),
        cert_file: text("cert_file"),
        key_file: text("key_file"),
        insecure_skip_verify: tls.get("insecure_skip_verify").and_then(Item::as_bool).unwrap_or(false),
    }
}

/// A table as plain values: no spaces, no comments, keys in order, so that equal meaning is equal text.
#[must_use]
pub fn canonical(table: &dyn TableLike) -> Value {
    let entries: BTreeMap<String, Value> = table.iter().map(|(key, item)| (key.to_owned(), canonical_item(item))).collect();
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}

fn canonical_item(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => canonical_value(value),
        Item::Table(table) => canonical(table),
        Item::ArrayOfTables(tables) => Value::Array(tables.iter().map(|table| canonical(table)).collect()),
    }
}

fn canonical_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::String(format!("{:?}", number.value())),
        toml_edit::Value::Boolean(truth) => Value::Bool(*truth.value()),
        toml_edit::Value::Datetime(time) => Value::String(time.value().to_string()),
        toml_edit::Value::Array(values) => Value::Array(values.iter().map(canonical_value).collect()),
        toml_edit::Value::InlineTable(table) => canonical(table),
    }
}

/// Takes tables out that hold nothing; they mean nothing to containerd.
pub fn prune(value: &mut Value) {
    if let Value::Object(entries) = value {
        entries.values_mut().for_each(prune);
        entries.retain(|_, entry| !is_nothing(entry));
    }
}

fn is_nothing(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// The config files together, as one containerd release reads them.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The root file.
    pub root: ConfigText,
    /// The registry settings in effect.
    pub registry: Registry,
}

/// Reads the config as `version` would, and refuses what we could not work with. `config_path` is what that key is to be; empty: mirrors
/// are to be in the root file.
///
/// # Errors
/// Every file that does not parse, has a version containerd would not honour, or a drop-in that overrides or loses the root file's settings.
pub fn effective(config: &Config, version: &Version, config_path: &str) -> Result<Effective, Vec<Problem>> {
    let root = parse(&config.root).map_err(|problem| vec![problem])?;
    let missing = config.imports.iter().filter(|file| file.text.is_none());
    let missing: Vec<_> = missing.map(|file| missing_import(&root.path, &file.path)).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let drop_ins: Vec<_> = config.imports.iter().map(parse).collect();
    let mut problems: Vec<_> = drop_ins.iter().filter_map(|parsed| parsed.as_ref().err().cloned()).collect();
    let drop_ins: Vec<_> = drop_ins.into_iter().filter_map(Result::ok).collect();
    problems.extend(version_problem(&root, version));
    problems.extend(drop_ins.iter().filter_map(|drop_in| drop_in_problem(&root, drop_in, version, config_path)));
    problems.extend(std::iter::once(&root).chain(&drop_ins).filter_map(disabled_cri_problem));
    problems.extend(wrong_table_problem(&root));
    if !problems.is_empty() {
        return Err(problems);
    }
    let registry = root.registry();
    Ok(Effective { root, registry })
}

fn parse(file: &ConfigFile) -> Result<ConfigText, Problem> {
    match &file.text {
        None => ConfigText::parse(&file.path, Some("version = 2\n")),
        Some(content) => ConfigText::parse(&file.path, content.text()),
    }
}

/// `config dump` of 2.x says nothing of it, but containerd does not start (CONTAINERD.md 1.4).
fn missing_import(root: &str, path: &str) -> Problem {
    Problem::new(
        "config.import-missing",
        format!("{root} imports {path}, which is not there: the running containerd would not start again"),
        "put it back, or take it out of imports",
    )
}

fn version_problem(root: &ConfigText, containerd: &Version) -> Option<Problem> {
    let path = &root.path;
    match root.version {
        None | Some(..=1) => Some(Problem::new(
            "config.version-1",
            format!(
                "{path} is a config of version 1 (no line \"version = 2\"): containerd 2.0 to 2.2 drop its CRI settings without a word"
            ),
            "add \"version = 2\" and move [plugins.cri] to [plugins.\"io.containerd.grpc.v1.cri\"], restart containerd, then apply again",
        )),
        Some(version) if version > containerd.newest_config_version() => Some(Problem::new(
            "config.version-too-new",
            format!(
                "{path} has version {version}, containerd {containerd} reads up to {}: it ignores the file or does not start",
                containerd.newest_config_version()
            ),
            "write it as version 2, which every release reads",
        )),
        Some(_) => None,
    }
}

fn drop_in_problem(root: &ConfigText, drop_in: &ConfigText, containerd: &Version, config_path: &str) -> Option<Problem> {
    let root_version = root.version.unwrap_or(2);
    let refuse = |key: String, why: String| {
        Some(Problem::new(
            "config.drop-in",
            format!("{} has {key}, {why}", drop_in.path),
            format!("move its CRI settings to {} and take them out of the drop-in", root.path),
        ))
    };
    if !containerd.merges_drop_ins_deeply() {
        return drop_in.plugin(CRI_OF_VERSION_2).and_then(|_| {
            let why =
                format!("and containerd {containerd} puts it in place of the whole table in {}, its registry settings included", root.path);
            refuse(format!("[plugins.\"{CRI_OF_VERSION_2}\"]"), why)
        });
    }
    if let Some(version) = drop_in.version.filter(|version| *version > root_version) {
        let why = format!(
            "which is newer than {root_version} in {}: containerd {containerd} then loses that file's CRI settings or does not start",
            root.path
        );
        return refuse(format!("version = {version}"), why);
    }
    let registry = drop_in.registry();
    if registry.config_path.as_deref().is_some_and(|path| path != config_path) {
        return refuse(
            format!("registry.config_path in [plugins.\"{}\"]", drop_in.registry_plugin()),
            format!("which overrides {}", root.path),
        );
    }
    if !registry.mirrors.is_empty() {
        let why = match config_path {
            "" => format!("which overrides those of {}", root.path),
            _ => "which switches the CRI off as soon as config_path is set".into(),
        };
        return refuse(format!("registry.mirrors in [plugins.\"{}\"]", drop_in.registry_plugin()), why);
    }
    None
}

fn disabled_cri_problem(file: &ConfigText) -> Option<Problem> {
    let disabled = file.disabled_plugins();
    let name = disabled.iter().find(|name| ["cri", CRI_OF_VERSION_2, IMAGES_OF_VERSION_3].contains(*name))?;
    Some(Problem::new(
        "config.cri-disabled",
        format!("disabled_plugins in {} holds \"{name}\", so this containerd serves no CRI (Docker's package ships it so)", file.path),
        format!("take \"{name}\" out of disabled_plugins, restart containerd, then apply again"),
    ))
}

fn wrong_table_problem(root: &ConfigText) -> Option<Problem> {
    let other = if root.registry_plugin() == CRI_OF_VERSION_2 { IMAGES_OF_VERSION_3 } else { CRI_OF_VERSION_2 };
    let registry = root.plugin(other)?.get("registry")?.as_table_like()?;
    if registry.is_empty() {
        return None;
    }
    Some(Problem::new(
        "config.wrong-table",
        format!(
            "{} has version {} but registry settings in [plugins.\"{other}\"], where only some releases look",
            root.path,
            root.version.unwrap_or(2)
        ),
        format!("move them to [plugins.\"{}\".registry]", root.registry_plugin()),
    ))
}
