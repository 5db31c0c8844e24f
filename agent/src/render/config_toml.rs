//! Edits config.toml: only the registry keys, every other byte stays.
//!
//! toml_edit keeps comments and order but normalises line ends; so its result is laid over the original line by line, and lines that did not
//! change keep their bytes. Then the result is parsed again and held against the original without the owned keys: a difference is refused.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use crate::{
    observed::{
        effective::{ConfigText, Registry, canonical, mirrors_of, prune, tls_of},
        record::{Carried, ConfigsTls, LegacyKeys, OwnKeys},
    },
    spec::{inputs::Login, problem::Problem},
};

/// What the owned keys are to be.
#[derive(Debug, Default)]
pub struct Goal<'a> {
    /// `config_path`; `None`: it is not there.
    pub config_path: Option<&'a str>,
    /// `mirrors."NAMESPACE".endpoint`: these and no others.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `configs."HOST".tls`: these and no others; `None`: left alone.
    pub tls: Option<BTreeMap<String, ConfigsTls>>,
    /// Logins that this containerd can only learn here, by host.
    pub logins: BTreeMap<String, &'a Login>,
    /// Hosts whose login was put here by us before.
    pub former_logins: BTreeSet<&'a str>,
}

/// The config text that reaches the goal. An absent file becomes a minimal one.
///
/// # Errors
/// When the text does not parse, or would change anywhere else than in the owned keys.
pub fn edit(path: &str, text: Option<&str>, original: Option<&str>, goal: &Goal<'_>) -> Result<String, Problem> {
    let text = text.unwrap_or("version = 2\n");
    let config = ConfigText::parse(path, Some(text))?;
    let plugin = config.registry_plugin();
    let original = original.map(|original| ConfigText::parse(path, Some(original))).transpose()?;
    let mut document = config.document.clone();
    set_goal(&mut document, plugin, goal, original.as_ref());
    if goal.config_path.is_none() && config.plugin(plugin).and_then(|plugin| plugin.get("registry")).is_none() {
        drop_header(&mut document, plugin);
    }
    let owned = Owned {
        plugin,
        logins: goal.logins.keys().map(String::as_str).chain(goal.former_logins.iter().copied()).map(str::to_owned).collect(),
        tls: goal.tls.is_some(),
    };
    let edited = finish(path, text, &config.document, &document, &owned)?;
    let registry = ConfigText::parse(path, Some(&edited))?.registry();
    if is_reached(&registry, goal) { Ok(edited) } else { Err(foreign_change(path)) }
}

fn is_reached(registry: &Registry, goal: &Goal<'_>) -> bool {
    registry.config_path.as_deref() == goal.config_path
        && registry.mirrors == goal.mirrors
        && goal.tls.as_ref().is_none_or(|tls| registry.tls == *tls)
}

/// The config text with the keys that are ours as they were in `original`, and everything else as it is in `text`. Mirrors that were added
/// since, carried or still there, stay too. So does a `config_path` that `is_theirs`; mirrors and TLS settings that were taken out stay out
/// beside it, because containerd runs without its CRI when both are set (LAB.md 3).
///
/// # Errors
/// When one of the texts does not parse, or the result would change anywhere else.
pub fn give_back(
    path: &str,
    text: &str,
    original: Option<&str>,
    keys: OwnKeys<'_>,
    carried: &Carried,
    is_theirs: impl Fn(&str) -> bool,
) -> Result<String, Problem> {
    let config = ConfigText::parse(path, Some(text))?;
    let plugin = config.registry_plugin();
    let original = ConfigText::parse(path, Some(original.unwrap_or("version = 2\n")))?;
    let mut document = config.document.clone();
    let before = original.plugin(original.registry_plugin()).and_then(|plugin| plugin.get("registry")).and_then(Item::as_table_like);
    let registry = registry_table(&mut document, plugin);
    let is_theirs = registry.get("config_path").and_then(Item::as_str).is_some_and(is_theirs);
    if !is_theirs {
        put_back(registry, "config_path", before.and_then(|before| before.get("config_path")));
    }
    match keys.legacy {
        Some(legacy) => put_own_tables_back(registry, before, legacy),
        None if is_theirs => {}
        None => put_all_tables_back(registry, before, carried),
    }
    for host in keys.logins {
        set_in_config(registry, host, "auth", in_config(before, host, "auth").cloned());
    }
    drop_empty(&mut document, plugin);
    let written = original.plugin(original.registry_plugin()).and_then(|plugin| plugin.get("registry"));
    if written.and_then(Item::as_table).is_none_or(toml_edit::Table::is_implicit) {
        drop_header(&mut document, plugin);
    }
    finish(path, text, &config.document, &document, &Owned { plugin, logins: keys.logins.clone(), tls: true })
}

fn in_config<'a>(registry: Option<&'a dyn TableLike>, host: &str, key: &str) -> Option<&'a Item> {
    registry?.get("configs")?.get(host)?.get(key)
}

/// Of the tables that stayed only what is ours goes: what others changed in them since stays changed.
fn put_own_tables_back(registry: &mut dyn TableLike, before: Option<&dyn TableLike>, legacy: &LegacyKeys) {
    let (now, then) = (mirrors_of(registry), before.map(mirrors_of).unwrap_or_default());
    let others = |namespace: &String| Some((namespace.clone(), legacy.of_others(namespace, now.get(namespace), then.get(namespace))?));
    let others: BTreeMap<String, Vec<String>> = legacy.mirrors.keys().filter_map(others).collect();
    let kept = now.iter().filter(|(namespace, _)| !legacy.mirrors.contains_key(*namespace));
    let wanted = kept.map(|(namespace, endpoints)| (namespace.clone(), endpoints.clone())).chain(others).collect();
    set_mirrors(registry, &wanted, before);
    for host in &legacy.tls {
        set_in_config(registry, host, "tls", in_config(before, host, "tls").cloned());
    }
}

/// The tables were taken out, so they are put back.
fn put_all_tables_back(registry: &mut dyn TableLike, before: Option<&dyn TableLike>, carried: &Carried) {
    put_mirrors_back(registry, before, carried);
    let tls: Vec<_> = before.and_then(|before| before.get("configs")?.as_table_like()).into_iter().flat_map(TableLike::iter).collect();
    for (host, config) in tls {
        if let Some(tls) = config.get("tls") {
            set_in_config(registry, host, "tls", Some(tls.clone()));
        }
    }
    for (host, tls) in &carried.tls {
        if registry.get("configs").and_then(|configs| configs.get(host)?.get("tls")).is_none() {
            set_in_config(registry, host, "tls", Some(Item::Table(tls_table(tls))));
        }
    }
}

/// A header that only we wrote goes, once it has no value of its own any more.
fn drop_header(document: &mut DocumentMut, plugin: &str) {
    let registry = document.get_mut("plugins").and_then(|plugins| plugins.get_mut(plugin)).and_then(|plugin| plugin.get_mut("registry"));
    if let Some(Item::Table(registry)) = registry {
        registry.set_implicit(true);
    }
}

fn put_back(registry: &mut dyn TableLike, key: &str, before: Option<&Item>) {
    match before {
        Some(item) => {
            registry.insert(key, item.clone());
        }
        None => {
            registry.remove(key);
        }
    }
}

fn put_mirrors_back(registry: &mut dyn TableLike, before: Option<&dyn TableLike>, carried: &Carried) {
    let added = registry.remove("mirrors");
    put_back(registry, "mirrors", before.and_then(|before| before.get("mirrors")));
    let added = added.as_ref().and_then(Item::as_table_like).into_iter().flat_map(TableLike::iter);
    let added: Vec<(String, Item)> = added.map(|(namespace, mirror)| (namespace.to_owned(), mirror.clone())).collect();
    let carried = carried.mirrors.iter().map(|(namespace, endpoints)| {
        let mut mirror = Table::new();
        mirror.insert("endpoint", value(endpoints.iter().map(String::as_str).collect::<Array>()));
        (namespace.clone(), Item::Table(mirror))
    });
    for (namespace, mirror) in added.into_iter().chain(carried) {
        let mirrors = subtable(registry, "mirrors", true);
        if !mirrors.contains_key(&namespace) {
            mirrors.insert(&namespace, mirror);
        }
    }
}

fn tls_table(tls: &ConfigsTls) -> Table {
    let mut table = Table::new();
    for (key, text) in [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
        if !text.is_empty() {
            table.insert(key, value(text.clone()));
        }
    }
    if tls.insecure_skip_verify {
        table.insert("insecure_skip_verify", value(true));
    }
    table
}

fn set_goal(document: &mut DocumentMut, plugin: &str, goal: &Goal<'_>, original: Option<&ConfigText>) {
    let registry = registry_table(document, plugin);
    let before = original.and_then(|original| original.plugin(original.registry_plugin())?.get("registry")?.as_table_like());
    let is_new = !registry.contains_key("config_path");
    match goal.config_path {
        Some(path) => set_value(registry, "config_path", path.into()),
        None => drop(registry.remove("config_path")),
    }
    set_mirrors(registry, &goal.mirrors, before);
    if let Some(tls) = &goal.tls {
        set_tls(registry, tls, before);
    }
    for host in goal.former_logins.iter().filter(|host| !goal.logins.contains_key(**host)) {
        set_in_config(registry, host, "auth", in_config(before, host, "auth").cloned());
    }
    for (host, login) in &goal.logins {
        let mut auth = Table::new();
        auth.insert("username", value(login.username.clone()));
        auth.insert("password", value(login.password.expose_secret()));
        set_in_config(registry, host, "auth", Some(Item::Table(auth)));
    }
    let table = document.get_mut("plugins").and_then(|plugins| plugins.get_mut(plugin)?.get_mut("registry")?.as_table_mut());
    if let Some(table) = table.filter(|_| is_new) {
        indent_key(table, "config_path");
    }
}

/// Makes the table hold these mirrors and no others. One that is there as it should be keeps its form; one that was there before gets it back.
fn set_mirrors(registry: &mut dyn TableLike, wanted: &BTreeMap<String, Vec<String>>, before: Option<&dyn TableLike>) {
    if wanted.is_empty() {
        registry.remove("mirrors");
        return;
    }
    let there = mirrors_of(registry);
    let mirrors = subtable(registry, "mirrors", true);
    for namespace in there.keys().filter(|namespace| !wanted.contains_key(*namespace)) {
        mirrors.remove(namespace);
    }
    for (namespace, endpoints) in wanted.iter().filter(|(namespace, endpoints)| there.get(*namespace) != Some(endpoints)) {
        let found = before.and_then(|before| before.get("mirrors")?.get(namespace));
        let is_as_found = before.map(mirrors_of).is_some_and(|before| before.get(namespace) == Some(endpoints));
        match found.filter(|_| is_as_found) {
            Some(found) => drop(mirrors.insert(namespace, found.clone())),
            None => set_endpoints(mirrors, namespace, endpoints),
        }
    }
}

fn set_endpoints(mirrors: &mut dyn TableLike, namespace: &str, endpoints: &[String]) {
    let is_new = !mirrors.contains_key(namespace);
    let mirror = subtable(mirrors, namespace, false);
    set_value(mirror, "endpoint", endpoints.iter().map(String::as_str).collect::<Array>().into());
    if let Some(table) = mirrors.get_mut(namespace).and_then(Item::as_table_mut).filter(|_| is_new) {
        indent_key(table, "endpoint");
    }
}

/// Makes `configs` hold these TLS settings and no others, in the same way.
fn set_tls(registry: &mut dyn TableLike, wanted: &BTreeMap<String, ConfigsTls>, before: Option<&dyn TableLike>) {
    for host in config_hosts(registry) {
        if !wanted.contains_key(&host) {
            set_in_config(registry, &host, "tls", None);
        }
    }
    for (host, tls) in wanted {
        if in_config(Some(registry), host, "tls").is_none_or(|there| tls_of(there) != *tls) {
            let found = in_config(before, host, "tls").filter(|found| tls_of(found) == *tls);
            set_in_config(registry, host, "tls", Some(found.cloned().unwrap_or_else(|| Item::Table(tls_table(tls)))));
        }
    }
}

fn config_hosts(registry: &dyn TableLike) -> Vec<String> {
    let configs = registry.get("configs").and_then(Item::as_table_like);
    configs.into_iter().flat_map(TableLike::iter).map(|(host, _)| host.to_owned()).collect()
}

/// Sets or takes away `configs."HOST".KEY`, and what is empty then.
fn set_in_config(registry: &mut dyn TableLike, host: &str, key: &str, item: Option<Item>) {
    let had_configs = registry.contains_key("configs");
    match item {
        Some(item) => {
            let configs = subtable(registry, "configs", true);
            let config = subtable(configs, host, true);
            if !config.get(key).is_some_and(|there| same(there, &item)) {
                config.insert(key, item);
            }
        }
        None if had_configs => {
            let configs = subtable(registry, "configs", true);
            if let Some(config) = configs.get_mut(host).and_then(Item::as_table_like_mut) {
                config.remove(key);
                if config.is_empty() {
                    configs.remove(host);
                }
            }
            if configs.is_empty() {
                registry.remove("configs");
            }
        }
        None => {}
    }
}

fn same(one: &Item, other: &Item) -> bool {
    match (one.as_table_like(), other.as_table_like()) {
        (Some(one), Some(other)) => canonical(one) == canonical(other),
        _ => false,
    }
}

/// Sets a value and keeps the spaces and the comment of its line.
fn set_value(table: &mut dyn TableLike, key: &str, wanted: toml_edit::Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(there) if there.as_str().is_some() && there.as_str() == wanted.as_str() => {}
        Some(there) => {
            let decor = there.decor().clone();
            *there = wanted;
            *there.decor_mut() = decor;
        }
        None => {
            table.insert(key, value(wanted));
        }
    }
}

/// Gives a key of a table of ours the indentation of that table's header, and a step more where headers are indented at all.
fn indent_key(table: &mut Table, key: &str) {
    let header = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let indent = header.rsplit('\n').next().unwrap_or_default().to_owned();
    if let Some(mut key) = table.key_mut(key).filter(|_| !indent.is_empty()) {
        key.leaf_decor_mut().set_prefix(format!("{indent}  "));
    }
}

fn registry_table<'a>(document: &'a mut DocumentMut, plugin: &str) -> &'a mut dyn TableLike {
    let root: &mut dyn TableLike = document.as_table_mut();
    let plugins = subtable(root, "plugins", true);
    let plugin = subtable(plugins, plugin, true);
    subtable(plugin, "registry", false)
}

/// A table below a table; a missing one is made with a header of its own (or none, when `implicit`), indented like its neighbours.
fn subtable<'a>(parent: &'a mut dyn TableLike, key: &str, implicit: bool) -> &'a mut dyn TableLike {
    if parent.get(key).and_then(Item::as_table_like).is_none() {
        let mut table = Table::new();
        table.set_implicit(implicit);
        if let Some(prefix) = header_prefix(parent) {
            table.decor_mut().set_prefix(prefix);
        }
        parent.insert(key, Item::Table(table));
    }
    // The item was made a table two lines above where it was none.
    match parent.get_mut(key).and_then(Item::as_table_like_mut) {
        Some(table) => table,
        None => unreachable!("a table was just inserted"),
    }
}

/// The indentation of the first table below `parent`.
fn header_prefix(parent: &dyn TableLike) -> Option<String> {
    let neighbour = parent.iter().find_map(|(_, item)| item.as_table().filter(|table| !table.is_implicit() && !table.is_dotted()))?;
    let prefix = neighbour.decor().prefix()?.as_str()?;
    Some(prefix.rsplit('\n').next()?.to_owned())
}

fn drop_empty(document: &mut DocumentMut, plugin: &str) {
    let Some(plugins) = document.get_mut("plugins").and_then(Item::as_table_like_mut) else { return };
    let Some(table) = plugins.get_mut(plugin).and_then(Item::as_table_like_mut) else { return };
    if table.get("registry").and_then(Item::as_table_like).is_some_and(TableLike::is_empty) {
        table.remove("registry");
    }
}

/// The keys that may differ between the original and what we write.
struct Owned {
    plugin: &'static str,
    logins: BTreeSet<String>,
    tls: bool,
}

fn finish(path: &str, text: &str, before: &DocumentMut, after: &DocumentMut, owned: &Owned) -> Result<String, Problem> {
    let edited = after.to_string();
    let result = [true, false]
        .into_iter()
        .map(|keep_comments| lay_over(text, &edited, keep_comments))
        .find(|result| ConfigText::parse(path, Some(result)).is_ok_and(|parsed| meaning(&parsed.document) == meaning(after)))
        .ok_or_else(|| foreign_change(path))?;
    if foreign(before, owned) == foreign(after, owned) { Ok(result) } else { Err(foreign_change(path)) }
}

/// What a document says, without tables that say nothing.
fn meaning(document: &DocumentMut) -> Value {
    let mut all = canonical(document.as_table());
    prune(&mut all);
    all
}

fn foreign_change(path: &str) -> Problem {
    Problem::new(
        "config.foreign-change",
        format!("{path} is written in a way in which the registry keys cannot be changed without changing others"),
        "write its registry settings as tables with headers of their own, e.g. [plugins.\"io.containerd.grpc.v1.cri\".registry]",
    )
}

/// Everything but the owned keys.
fn foreign(document: &DocumentMut, owned: &Owned) -> Value {
    let mut all = canonical(document.as_table());
    if let Some(registry) = all.pointer_mut(&format!("/plugins/{}/registry", owned.plugin)).and_then(Value::as_object_mut) {
        registry.remove("config_path");
        registry.remove("mirrors");
        for (host, config) in registry.get_mut("configs").and_then(Value::as_object_mut).into_iter().flatten() {
            let Some(config) = config.as_object_mut() else { continue };
            if owned.tls {
                config.remove("tls");
            }
            if owned.logins.contains(host) {
                config.remove("auth");
            }
        }
    }
    prune(&mut all);
    all
}

/// The edited text with the bytes of every line that did not change; taken-out lines that are comments stay when `keep_comments`.
fn lay_over(original: &str, edited: &str, keep_comments: bool) -> String {
    let line_end = if original.contains("\r\n") { "\r\n" } else { "\n" };
    let plain: Vec<&str> =
        original.split_inclusive('\n').map(|line| line.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}')).collect();
    let bytes: Vec<&str> = original.split_inclusive('\n').collect();
    let new: Vec<&str> = edited.lines().collect();
    let mut result = String::with_capacity(edited.len() + 64);
    for change in TextDiff::from_slices(&plain, &new).iter_all_changes() {
        match (change.tag(), change.old_index()) {
            (ChangeTag::Equal, Some(index)) => push_line(&mut result, bytes[index], line_end),
            (ChangeTag::Delete, Some(index)) if keep_comments && plain[index].trim_start().starts_with('#') => {
                push_line(&mut result, bytes[index], line_end);
            }
            (ChangeTag::Insert, _) => {
                push_line(&mut result, change.value(), line_end);
                result.push_str(line_end);
            }
            _ => {}
        }
    }
    result
}

fn push_line(result: &mut String, line: &str, line_end: &str) {
    if !result.is_empty() && !result.ends_with('\n') {
        result.push_str(line_end);
    }
    result.push_str(line);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observed::record::Record;

    const STOCK: &str = include_str!("../../../tests/cases/plan/stock-v2/before/containerd/config.toml");

    fn goal() -> Goal<'static> {
        Goal { config_path: Some("/etc/containerd/certs.d"), tls: Some(BTreeMap::new()), ..Goal::default() }
    }

    #[test]
    fn a_second_edit_changes_nothing() {
        let once = edit("config.toml", Some(STOCK), None, &goal()).unwrap();
        assert_eq!(edit("config.toml", Some(&once), None, &goal()).unwrap(), once);
    }

    #[test]
    fn an_absent_file_becomes_a_minimal_one() {
        insta_like(
            &edit("config.toml", None, None, &goal()).unwrap(),
            "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
        );
    }

    fn insta_like(found: &str, expected: &str) {
        assert_eq!(found, expected, "\n--- found ---\n{found}\n--- expected ---\n{expected}");
    }

    #[test]
    fn giving_back_after_a_foreign_edit_keeps_that_edit() {
        let original =
            "version = 2\n# mine\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"gcr.io\"]\n  endpoint = [\"http://m\"]\n";
        let ours = edit("c", Some(original), None, &goal()).unwrap();
        let edited = format!("{ours}\n[debug]\nlevel = \"info\"\n");
        let back = give_back("c", &edited, Some(original), Record::default().own_keys(), &Carried::default(), |_| false).unwrap();
        assert!(back.contains("[debug]\nlevel = \"info\"\n") && back.contains("http://m") && !back.contains("config_path"), "{back}");
    }

    /// containerd runs without its CRI when both are set.
    #[test]
    fn mirrors_are_not_given_back_beside_a_config_path_of_others() {
        let original = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"gcr.io\"]\n  endpoint = [\"http://m\"]\n";
        let theirs = edit("c", Some(original), None, &goal()).unwrap().replace("/etc/containerd/certs.d", "/theirs");
        let back =
            |is_theirs| give_back("c", &theirs, Some(original), Record::default().own_keys(), &Carried::default(), |_| is_theirs).unwrap();
        assert!(back(true).contains("/theirs") && !back(true).contains("http://m"), "{}", back(true));
        assert!(!back(false).contains("/theirs") && back(false).contains("http://m"), "{}", back(false));
    }

    /// Lines a person might have in config.toml, none of them ours.
    fn foreign_line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            Just("   ".to_owned()),
            "# [a-z \\[\\]=]{0,20}".prop_map(|line| line),
            "  # [a-z]{0,9}".prop_map(|line| line),
            "[a-z]{1,8}".prop_map(|key| format!("k{key}_{} = \"x\" # {key}", key.len())),
        ]
    }

    fn config() -> impl Strategy<Value = String> {
        let lines = || prop::collection::vec(foreign_line(), 0..4);
        let tables = prop::sample::subsequence(
            vec![
                "[grpc]\n  address = \"/run/x.sock\"",
                "[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p\"  # pause",
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\tSystemdCgroup = true",
                "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = '' # empty",
                "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  # which\n  endpoint = [ \"https://a\",\n \"https://b\" ]",
                "[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"a\".tls]\n  ca_file = \"/ca\"",
                "[plugins.\"nvidia\"]\nx = {a = 1}",
            ],
            0..=7,
        );
        (lines(), prop::collection::vec(lines(), 7), tables, any::<bool>(), any::<bool>()).prop_map(|(top, between, tables, crlf, ends)| {
            let mut seen = BTreeSet::new();
            let mut text = String::from("version = 2\n");
            let mut add = |text: &mut String, lines: &[String], scope: usize| {
                for line in lines {
                    let key = line.split(' ').next().unwrap_or_default().to_owned();
                    if !line.starts_with('k') || seen.insert((scope, key)) {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
            };
            add(&mut text, &top, 0);
            for (scope, (table, lines)) in tables.iter().zip(&between).enumerate() {
                text.push_str(table);
                text.push('\n');
                if !table.contains("mirrors") && !table.contains(".tls") {
                    add(&mut text, lines, scope + 1);
                }
            }
            if !ends {
                text.truncate(text.trim_end_matches('\n').len());
            }
            if crlf { text.replace('\n', "\r\n") } else { text }
        })
    }

    /// Our endpoint before theirs, one registry of ours alone, and TLS settings of ours.
    fn legacy_goal(found: &Registry) -> (Goal<'static>, LegacyKeys) {
        let ours = || "http://m".to_owned();
        let theirs = found.mirrors.get("docker.io").into_iter().flatten().cloned();
        let keys = LegacyKeys {
            mirrors: [("docker.io".to_owned(), std::iter::once(ours()).chain(theirs).collect()), ("n.io".to_owned(), vec![ours()])].into(),
            tls: ["m".to_owned()].into(),
        };
        let mut goal = Goal { config_path: found.config_path.as_ref().map(|_| ""), mirrors: found.mirrors.clone(), ..Goal::default() };
        goal.mirrors.extend(keys.mirrors.clone());
        let mut tls = found.tls.clone();
        tls.insert("m".into(), ConfigsTls { ca_file: "/ca".into(), ..ConfigsTls::default() });
        goal.tls = Some(tls);
        (goal, keys)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), ..ProptestConfig::default() })]

        #[test]
        fn what_is_ours_comes_and_goes_beside_what_is_theirs(text in config()) {
            let found = ConfigText::parse("c", Some(&text)).unwrap().registry();
            let (goal, keys) = legacy_goal(&found);
            let edited = edit("c", Some(&text), Some(&text), &goal).unwrap();
            prop_assert_eq!(&edit("c", Some(&edited), Some(&text), &goal).unwrap(), &edited);
            let own = OwnKeys { logins: &BTreeSet::new(), legacy: Some(&keys) };
            let back = give_back("c", &edited, Some(&text), own, &Carried::default(), |_| false).unwrap();
            prop_assert_eq!(ConfigText::parse("c", Some(&back)).unwrap().registry(), found, "{}\nbecame\n{}", text, back);
        }

        #[test]
        fn only_owned_keys_change(text in config()) {
            let edited = edit("c", Some(&text), None, &goal()).unwrap();
            let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| line.trim_start().starts_with('#') || line.contains("SystemdCgroup") || line.starts_with('k')).collect();
            let mut lines = edited.split_inclusive('\n');
            for line in kept {
                prop_assert!(lines.any(|there| there.trim_end() == line.trim_end()), "{line:?} is gone or moved from\n{text}\nto\n{edited}");
            }
            prop_assert_eq!(&edit("c", Some(&edited), None, &goal()).unwrap(), &edited);
        }
    }
}
