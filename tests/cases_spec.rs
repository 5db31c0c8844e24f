//! The spec cases: each folder under `tests/cases/spec` is a text and what must be said about it.
//!
//! `UPDATE_CASES=1` writes what is said now into the folders; read the difference before it is committed.
//!
//! | in the folder | is read as |
//! |---|---|
//! | `spec.yaml`, or `spec/*.yaml` in name order, and `cluster.txt` | a spec |
//! | `ca.crt` | a CA bundle, on the day in `now.txt` (seconds since 1970) |
//! | `client.crt` and `client.key` | a client certificate and its key |
//! | `config.json` | a docker config.json, asked for the host in `host.txt` |
//! | `key.json` | a service-account key |
//!
//! `padded-to.txt` beside any of them: the text is filled up with `#` to that many bytes, so that no large file need be kept.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "the runner reads and writes the case folders, and a broken one ends it"
)]

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use mirrorlet::spec::{
    self, Fallback, InputName, Located, Mirror, Read, SpecFile, codes,
    inputs::{CaBundle, ClientPair, DockerConfig, Login, ServiceAccountKey},
    names::RegistryHost,
    problem::Problem,
};

/// The files in which an answer is expected: one of them in each folder.
const GOOD: &str = "spec.txt";
const BAD: &str = "problems.txt";

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/spec")
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(cases()).expect("case folder").map(|entry| entry.expect("entry").path()).collect();
    folders.sort();
    folders
}

#[test]
fn every_case_says_what_it_should() {
    let wrong: Vec<String> = folders().iter().filter_map(|folder| difference(folder)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_a_case() {
    if is_updating() {
        return; // the expected files are being written
    }
    let expected: String =
        folders().iter().flat_map(|folder| [GOOD, BAD].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default())).collect();
    let missing: Vec<&str> = codes::ALL.iter().copied().filter(|code| !expected.contains(&format!("[{code}]"))).collect();
    assert!(missing.is_empty(), "no case in tests/cases/spec ends in {missing:?}");
}

#[test]
fn every_code_of_the_cases_is_declared() {
    let known: BTreeSet<&str> = codes::ALL.iter().copied().collect();
    for folder in folders() {
        let expected = [GOOD, BAD].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default()).concat();
        for line in expected.lines().filter(|line| line.ends_with(']')) {
            let code = line.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
            assert!(known.contains(code) || !code.contains('.'), "{}: {code}", folder.display());
        }
    }
}

#[test]
fn no_case_lets_a_password_out() {
    for folder in folders() {
        let expected = [GOOD, BAD].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default()).concat();
        assert!(!expected.contains("hunter2"), "{}", folder.display());
    }
}

#[test]
fn ten_thousand_hosts_are_fine() {
    let hosts: String = (0..10_000).map(|number| format!("      - host{number}.example\n")).collect();
    let text = format!("registryMirrors:\n  - endpoint: https://192.0.2.20:5000\n    hosts:\n{hosts}");
    let read = spec::read(&[SpecFile { name: "spec.yaml", text: &text }], None).expect("a good spec");
    assert_eq!(read.spec.mirrors[0].hosts.len(), 10_001);
}

/// What is expected and what was said, when they differ.
fn difference(folder: &Path) -> Option<String> {
    let (name, said) = match answer(folder) {
        Ok(said) => (GOOD, said),
        Err(problems) => (BAD, lines(&problems, "")),
    };
    if is_updating() {
        let other = if name == GOOD { BAD } else { GOOD };
        let _ = fs::remove_file(folder.join(other));
        fs::write(folder.join(name), &said).expect("expected file");
        return None;
    }
    let expected = fs::read_to_string(folder.join(name)).unwrap_or_else(|_| format!("(there is no {name})\n"));
    (expected != said).then(|| format!("{}\n--- expected\n{expected}--- said\n{said}", folder.display()))
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_CASES").is_some()
}

fn answer(folder: &Path) -> Result<String, Vec<Problem>> {
    let has = |name: &str| folder.join(name).exists();
    let one = |problem| vec![problem];
    if has("ca.crt") {
        let now = fs::read_to_string(folder.join("now.txt")).expect("now.txt").trim().parse().expect("seconds");
        return CaBundle::parse(&bytes(folder, "ca.crt"), now).map(|(bundle, notices)| shown_bundle(&bundle, &notices)).map_err(one);
    }
    if has("client.crt") {
        return ClientPair::parse(&bytes(folder, "client.crt"), &bytes(folder, "client.key"))
            .map(|_| "certificate and key\n".to_owned())
            .map_err(one);
    }
    if has("key.json") {
        return ServiceAccountKey::parse(&bytes(folder, "key.json")).map(|key| shown_login(Some(&key.into_login()))).map_err(one);
    }
    if has("config.json") {
        let host = RegistryHost::parse(text(folder, "host.txt").trim()).expect("host");
        let config = DockerConfig::parse(&bytes(folder, "config.json")).map_err(one)?;
        return config.login_for(&host).map(|login| shown_login(login.as_ref())).map_err(one);
    }
    read_spec(folder).map(|read| shown_spec(&read))
}

fn read_spec(folder: &Path) -> Result<Read, Vec<Problem>> {
    let texts = spec_texts(folder);
    let files: Vec<SpecFile<'_>> = texts.iter().map(|(name, text)| SpecFile { name, text }).collect();
    let cluster = fs::read_to_string(folder.join("cluster.txt")).ok();
    spec::read(&files, cluster.as_deref().map(str::trim))
}

fn spec_texts(folder: &Path) -> Vec<(String, String)> {
    let directory = folder.join("spec");
    if !directory.exists() {
        return vec![("spec.yaml".to_owned(), text(folder, "spec.yaml"))];
    }
    let mut names: Vec<String> =
        fs::read_dir(&directory).expect("spec/").map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.retain(|name| name.ends_with(".yaml"));
    names.sort();
    names.into_iter().map(|name| (name.clone(), text(&directory, &name))).collect()
}

fn text(folder: &Path, name: &str) -> String {
    String::from_utf8(bytes(folder, name)).unwrap_or_else(|error| panic!("{}: {name}: {error}", folder.display()))
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    let mut bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{}: {name}: {error}", folder.display()));
    if let Ok(size) = fs::read_to_string(folder.join("padded-to.txt")) {
        bytes.resize(size.trim().parse().expect("a size"), b'#');
    }
    bytes
}

fn lines(problems: &[Problem], before: &str) -> String {
    problems.iter().map(|problem| format!("{before}{problem}\n")).collect()
}

fn shown_spec(read: &Read) -> String {
    let mut shown = String::new();
    if read.spec.is_switched_off() {
        shown.push_str("switched off\n");
    }
    read.spec.mirrors.iter().for_each(|mirror| show_mirror(mirror, &mut shown));
    if let Some(key) = &read.spec.upstream_key {
        show_input("upstream key", key, &mut shown);
    }
    let inputs: Vec<String> = read.spec.input_names().into_iter().map(InputName::to_string).collect();
    if !inputs.is_empty() {
        writeln!(shown, "inputs: {}", inputs.join(", ")).expect("a String");
    }
    shown + &lines(&read.notices, "notice: ")
}

fn show_mirror(mirror: &Mirror, shown: &mut String) {
    let hosts: Vec<&str> = mirror.hosts.iter().map(RegistryHost::as_str).collect();
    let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
    let capabilities: Vec<&str> = mirror.capabilities.iter().map(|capability| capability.as_str()).collect();
    writeln!(shown, "mirror {} ({})\n  hosts: {}\n  capabilities: {}", mirror.endpoint, mirror.at, hosts, capabilities.join(", "))
        .expect("a String");
    let client = mirror.client.as_ref();
    let inputs = [
        ("ca", mirror.ca.as_ref()),
        ("login", mirror.login.as_ref()),
        ("client certificate", client.map(|pair| &pair.0)),
        ("client key", client.map(|pair| &pair.1)),
    ];
    for (name, input) in inputs {
        input.iter().for_each(|input| show_input(&format!("  {name}"), input, shown));
    }
    if mirror.skip_verify {
        shown.push_str("  skip verify\n");
    }
    if let Some(timeout) = mirror.dial_timeout {
        writeln!(shown, "  dial timeout: {timeout:?}").expect("a String");
    }
    match mirror.fallback {
        Some(Fallback::Upstream) => shown.push_str("  fallback: upstream\n"),
        Some(Fallback::None) => shown.push_str("  fallback: none\n"),
        None => {}
    }
}

fn show_input(name: &str, input: &Located<InputName>, shown: &mut String) {
    writeln!(shown, "{name}: {} ({}: {})", input.value, input.at, input.field).expect("a String");
}

fn shown_bundle(bundle: &CaBundle, notices: &[Problem]) -> String {
    let certificates = bundle.certificates().iter();
    let shown: String = certificates
        .map(|certificate| format!("certificate {} from {} until {}\n", certificate.subject, certificate.not_before, certificate.not_after))
        .collect();
    shown + &lines(notices, "notice: ")
}

/// The password is not shown, because no case may hold one where it is said; unit tests compare it.
fn shown_login(login: Option<&Login>) -> String {
    login.map_or_else(|| "no login\n".to_owned(), |login| format!("login of {}\n", login.username))
}
