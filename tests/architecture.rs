//! Who may import whom. The table is the architecture; this test holds it.

use std::{collections::BTreeMap, fs, path::Path};

/// Each module of the agent, in the order of lib.rs, with what it may see. `config` and `exit` may be seen from anywhere.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("config", &[]),
    ("exit", &[]),
    ("spec", &[]),
    ("observed", &["spec"]),
    ("render", &["spec", "observed"]),
    ("plan", &["spec", "observed", "render"]),
    ("status", &["spec", "plan"]),
    ("host", &["spec", "observed", "render", "plan"]),
    ("apply", &["spec::names", "spec::problem", "observed", "plan", "host"]),
    ("diagnose", &["spec", "observed", "render", "status", "host"]),
    ("reconcile", &["spec", "observed", "plan", "status", "host", "apply"]),
    ("wire", &["spec", "plan", "status", "host", "apply", "diagnose", "reconcile"]),
    ("service", &["spec", "plan", "status", "host", "diagnose", "reconcile", "wire"]),
    ("cli", &["spec", "observed", "render", "plan", "status", "host", "apply", "diagnose", "reconcile", "wire"]),
];
/// Modules that only think: no future, no trait object, no effect.
const PURE: [&str; 7] = ["config", "exit", "spec", "observed", "render", "plan", "status"];
/// Where generated protobuf types may be named.
const SEES_PROTO: [&str; 3] = ["wire", "service", "cli"];

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut sources = BTreeMap::new();
    collect(root, root, &mut sources);
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            sources.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Everything after `crate::` in a text without its comments and tests, `use` trees spread out: `spec::names`, `plan`, …
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        spread(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

fn spread(rest: &str, prefix: &str, found: &mut Vec<String>) {
    if let Some(inner) = rest.strip_prefix('{') {
        let mut depth = 0_i32;
        let mut start = 0;
        for (at, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    spread(inner[start..at].trim(), prefix, found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(inner[start..at].trim(), prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let word: String = rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    if word.is_empty() {
        return;
    }
    let path = if prefix.is_empty() { word.clone() } else { format!("{prefix}::{word}") };
    match rest[word.len()..].strip_prefix("::") {
        Some(further) if prefix.is_empty() => spread(further, &path, found),
        _ => found.push(path),
    }
}

fn is_allowed(module: &str, import: &str) -> bool {
    let target = import.split("::").next().unwrap();
    let listed = MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed).unwrap_or_default();
    target == module || target == "config" || target == "exit" || listed.iter().any(|allowed| *allowed == target || *allowed == import)
}

#[test]
fn imports_follow_the_table() {
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let module = module_of(&file).to_owned();
        let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
        if is_test || file.starts_with("bin/") || file == "lib.rs" {
            continue;
        }
        assert!(MAY_IMPORT.iter().any(|(name, _)| *name == module), "{module} is not in the table");
        broken.extend(
            imports(&text).into_iter().filter(|import| !is_allowed(&module, import)).map(|import| format!("{file}: crate::{import}")),
        );
    }
    assert!(broken.is_empty(), "not in the table:\n{}", broken.join("\n"));
}

#[test]
fn lib_rs_lists_the_modules_in_the_order_of_the_table() {
    let lib = &sources()["lib.rs"];
    let listed: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let table: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, table);
}

#[test]
fn no_module_sees_one_that_comes_after_it() {
    for (index, (name, allowed)) in MAY_IMPORT.iter().enumerate() {
        let earlier: Vec<&str> = MAY_IMPORT[..index].iter().map(|(name, _)| *name).collect();
        for import in *allowed {
            assert!(earlier.contains(&import.split("::").next().unwrap()), "{name} may see {import}, which comes later");
        }
    }
}

#[test]
fn what_only_thinks_has_no_effects() {
    for (file, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        if PURE.contains(&module_of(&file)) {
            for word in ["async fn", "tokio::", "std::fs", "std::net", "std::process", "&dyn Fn", "SystemTime", "Instant"] {
                assert!(!code.contains(word), "{file} is pure, but has {word}");
            }
        }
    }
}

#[test]
fn protobuf_types_stop_at_the_wire() {
    for (file, text) in sources() {
        let sees = SEES_PROTO.contains(&module_of(&file)) || file == "host/cri.rs";
        assert!(sees || !text.contains("mirrorlet_proto"), "{file} names generated types");
    }
}

#[test]
fn a_planted_import_is_caught() {
    let planted = "use crate::{\n    plan::Plan,\n    host::{files::Files, clock},\n};\n";
    assert_eq!(imports(planted), ["plan::Plan", "host::files", "host::clock"]);
    assert!(!is_allowed("plan", "host::files") && is_allowed("apply", "spec::names") && !is_allowed("apply", "spec::desired"));
}
