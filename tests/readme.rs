//! README names every path, setting, exit code, verb and folder there is, and its examples can be meant.

use std::{path::Path, process::Command};

use mirrorlet::{
    cli::arguments,
    config::{self, Settings},
    spec::{self, SpecFile},
};

const README: &str = include_str!("../README.md");

/// Name and value of every `pub const NAME: KIND = VALUE;` of a source.
fn constants<'a>(source: &'a str, kind: &str) -> Vec<(&'a str, &'a str)> {
    let kind = format!(": {kind} = ");
    let lines = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix(';')?.split_once(&kind));
    lines.map(|(name, value)| (name, value.trim_matches('"'))).collect()
}

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block).collect()
}

/// The keys that `mirrorlet.toml` may have at this place, from what is said of one that it may not.
fn keys(wrong: &str) -> Vec<String> {
    let message = config::read("mirrorlet.toml", wrong).unwrap_err().to_string();
    let (_, expected) = message.split_once("expected ").unwrap_or_else(|| panic!("no keys in {message}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `TABLE.KEY` of every line of a settings text, commented out or not.
fn written_keys(text: &str) -> Vec<String> {
    let mut table = "";
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.split(']').next().unwrap_or_default();
        } else if let Some((key, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ") {
            keys.push(format!("{table}.{key}"));
        }
    }
    keys
}

#[test]
fn every_path_is_named() {
    let paths = constants(include_str!("../agent/src/config.rs"), "&str");
    assert!(paths.len() > 5, "{paths:?}");
    for (name, path) in paths {
        assert!(README.contains(&format!("`{path}")), "README does not name {name}, {path}");
    }
}

#[test]
fn every_setting_is_there_with_its_default() {
    let text = blocks("toml").concat();
    let settings = config::read("README.md", &text).unwrap();
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()), "README shows other defaults");
    let written = written_keys(&text);
    for table in keys("x = 1") {
        for key in keys(&format!("[{table}]\nx = 1\n")) {
            let key = format!("{table}.{key}");
            assert!(written.contains(&key), "README does not show {key}");
        }
    }
}

#[test]
fn every_spec_can_be_meant() {
    let specs = blocks("yaml");
    assert!(!specs.is_empty());
    for text in specs {
        let read = spec::read(&[SpecFile { name: "README.md", text }], None);
        assert!(read.is_ok(), "{read:?}\n{text}");
    }
}

#[test]
fn every_exit_code_is_explained() {
    for (name, code) in constants(include_str!("../agent/src/exit.rs"), "u8") {
        assert!(README.contains(&format!("\n| {code} | ")), "README does not explain exit code {code}, {name}");
    }
}

#[test]
fn every_verb_is_named_and_explains_itself() {
    for verb in arguments::command().get_subcommands() {
        let name = verb.get_name();
        assert!(README.contains(&format!("mirrorctl {name}")), "README does not name mirrorctl {name}");
        let help = Command::new(env!("CARGO_BIN_EXE_mirrorctl")).args([name, "--help"]).output().unwrap();
        assert!(help.status.success() && help.stdout.starts_with(verb.get_about().unwrap().to_string().as_bytes()), "{name}: {help:?}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_mirrorlet")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    for verb in verbs.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()) {
        assert!(verb == "help" || README.contains(&format!("mirrorlet {verb}")), "README does not name mirrorlet {verb}");
    }
}

/// What the README promises for bad days is held by a test of that name.
#[test]
fn every_promise_has_its_test() {
    let (_, rest) = README.split_once("\n## What can go wrong and what happens then\n").unwrap();
    let (page, _) = rest.split_once("\n## ").unwrap();
    let named: Vec<&str> = page.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, name)| name)).collect();
    assert!(named.len() > 20, "{named:?}");
    let mut sources = String::new();
    for folder in ["tests", "tests/torture"] {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        rust.for_each(|path| sources += &std::fs::read_to_string(path).unwrap());
    }
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

#[test]
fn every_folder_stands_in_the_order_of_the_map() {
    let (_, tree) = README.split_once("\n## The tree\n").unwrap();
    let mut rest = tree;
    for module in include_str!("../agent/src/lib.rs").lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        let folder = ["/", ".rs"].map(|end| format!("    {module}{end}"));
        let found = folder.iter().filter_map(|folder| rest.split_once(folder.as_str())).next();
        rest = found.unwrap_or_else(|| panic!("README's tree does not show {module} in its place")).1;
    }
}
