//! Who may import whom. The table is the architecture; this test holds it.

use std::{collections::BTreeMap, fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

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

/// The code of each file of the agent as tokens, without comments and tests.
fn sources() -> BTreeMap<String, TokenStream> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut sources = BTreeMap::new();
    collect(root, root, &mut sources);
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut BTreeMap<String, TokenStream>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if !name.contains("/tests") {
                sources.insert(name, code_of(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
}

fn code_of(text: &str) -> TokenStream {
    let mut file = syn::parse_file(text).unwrap();
    file.items.retain(|item| !is_test(item));
    let has_inline_module = file.items.iter().any(|item| matches!(item, Item::Mod(module) if module.content.is_some()));
    assert!(!has_inline_module, "a module has a file of its own");
    file.into_token_stream()
}

fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| attribute.to_token_stream().to_string() == "# [cfg (test)]")
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The path of a file as a module: `host/files/mod.rs` is `host::files`.
fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    path.pop_if(|last| *last == "mod");
    path
}

/// Every path that begins with `crate` or `super` as `module::item`, `use` trees spread out.
fn imports(file: &str, code: &TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    walk(&module_path(file), code.clone().into_iter().collect(), &mut found);
    found
}

fn walk(module: &[String], tokens: Vec<TokenTree>, found: &mut Vec<String>) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => walk(module, group.stream().into_iter().collect(), found),
            TokenTree::Ident(ident) if ident == "crate" && is_path(&tokens[at + 1..]) => spread(&tokens[at + 3..], &[], found),
            TokenTree::Ident(ident) if ident == "super" && is_path(&tokens[at + 1..]) && !is_path_before(&tokens[..at]) => {
                let (mut module, mut at) = (module.to_vec(), at);
                while matches!(&tokens[at], TokenTree::Ident(ident) if ident == "super") {
                    module.pop();
                    at += 3;
                }
                spread(&tokens[at..], &module, found);
            }
            _ => {}
        }
    }
}

fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(first), TokenTree::Punct(second), ..] if first.as_char() == ':' && second.as_char() == ':')
}

fn is_path_before(tokens: &[TokenTree]) -> bool {
    tokens.len() > 1 && is_path(&tokens[tokens.len() - 2..])
}

fn spread(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<String>) {
    match tokens {
        [TokenTree::Group(group), ..] => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let parts = inner.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','));
            parts.filter(|part| !part.is_empty()).for_each(|part| spread(part, prefix, found));
        }
        [TokenTree::Ident(word), rest @ ..] => {
            let path = [prefix, &[word.to_string()]].concat();
            if is_path(rest) && path.len() < 2 { spread(&rest[2..], &path, found) } else { found.push(path.join("::")) }
        }
        _ => {}
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
    for (file, code) in sources() {
        let module = module_of(&file).to_owned();
        if file.starts_with("bin/") || file == "lib.rs" {
            continue;
        }
        assert!(MAY_IMPORT.iter().any(|(name, _)| *name == module), "{module} is not in the table");
        broken.extend(
            imports(&file, &code)
                .into_iter()
                .filter(|import| !is_allowed(&module, import))
                .map(|import| format!("{file}: crate::{import}")),
        );
    }
    assert!(broken.is_empty(), "not in the table:\n{}", broken.join("\n"));
}

#[test]
fn lib_rs_lists_the_modules_in_the_order_of_the_table() {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
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
    for (file, code) in sources() {
        let code = code.to_string();
        if PURE.contains(&module_of(&file)) {
            for word in ["async fn", "tokio ::", "std :: fs", "std :: net", "std :: process", "& dyn Fn", "SystemTime", "Instant ::"] {
                assert!(!code.contains(word), "{file} is pure, but has {word}");
            }
        }
    }
}

#[test]
fn protobuf_types_stop_at_the_wire() {
    for (file, code) in sources() {
        let sees = SEES_PROTO.contains(&module_of(&file)) || file == "host/cri.rs";
        assert!(sees || !code.to_string().contains("mirrorlet_proto"), "{file} names generated types");
    }
}

#[test]
fn a_planted_import_is_caught() {
    let planted = "use crate::{\n    plan::Plan,\n    host::{files::Files, clock},\n};\n\
        #[cfg(test)]\nmod tests { use crate::cli::Cli; }\n\
        /// Of [`crate::wire`].\nfn later() { format!(\"{}\", crate::apply::Apply::new()); super::super::service::serve(); }\n";
    let found = imports("plan/explain.rs", &code_of(planted));
    assert_eq!(found, ["plan::Plan", "host::files", "host::clock", "apply::Apply", "service::serve"]);
    assert!(!is_allowed("plan", "host::files") && is_allowed("apply", "spec::names") && !is_allowed("apply", "spec::desired"));
}
