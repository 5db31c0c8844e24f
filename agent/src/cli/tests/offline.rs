//! Verbs that need no daemon.

use std::path::Path;

use super::{Daemon, run};
use crate::exit;

#[tokio::test]
async fn validate_reads_as_a_compiler_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).display().to_string()
    };
    let good = file("good.yaml", "registryMirrors:\n  - endpoint: https://m.example\n    hosts: [docker.io]\n");
    let bad = file("bad.yaml", "registryMirrors:\n  - endpoint: ftp://x\n");
    let done = run(&format!("validate {good}")).await;
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (exit::DONE, "valid, 1 mirror\n", ""));
    let done = run(&format!("validate {good} {bad}")).await;
    assert_eq!((done.code, done.out.as_str()), (exit::USAGE, ""));
    assert!(done.err.starts_with(&format!("{bad}:2:")) && done.err.contains(": error: "), "{}", done.err);
    let json: serde_json::Value = serde_json::from_str(&run(&format!("validate {bad} -o json")).await.out).unwrap();
    assert_eq!((json[0]["severity"].as_str(), json[0]["line"].as_u64()), (Some("error"), Some(2)));
}

#[tokio::test]
async fn render_writes_what_a_node_would_get() {
    let daemon = Daemon::start();
    let out = daemon.path("out");
    let done = run(&format!("render {} --out {}", daemon.spec(), out.display())).await;
    assert_eq!(done.code, exit::DONE, "{}", done.err);
    let read = |path: &str| std::fs::read_to_string(Path::new(&out).join(path)).unwrap();
    assert!(read("etc/containerd/certs.d/docker.io/hosts.toml").contains("mirror.example:5000"));
    assert!(read("etc/containerd/config.toml").contains("config_path = \"/etc/containerd/certs.d\""));
    assert!(done.out.contains("/etc/containerd/certs.d/docker.io/hosts.toml\n"), "{}", done.out);
    let again = run(&format!("render {} --out {}", daemon.spec(), out.display())).await;
    assert_eq!(again.code, exit::USAGE);
    assert_eq!(run(&format!("render {} --out /etc/x", daemon.spec())).await.code, exit::USAGE);
}

#[tokio::test]
async fn render_writes_the_legacy_layout_too() {
    let daemon = Daemon::start();
    let out = daemon.path("out");
    let done = run(&format!("render {} --out {} --layout legacy --containerd 1.7.24", daemon.spec(), out.display())).await;
    assert_eq!(done.code, exit::DONE, "{}", done.err);
    let config = std::fs::read_to_string(Path::new(&out).join("etc/containerd/config.toml")).unwrap();
    assert!(config.contains(".registry.mirrors.\"docker.io\"]") && !config.contains("config_path"), "{config}");
    assert!(!done.out.contains("hosts.toml"), "{}", done.out);
}

#[tokio::test]
async fn completions_name_the_verbs() {
    let done = run("completions bash").await;
    assert!(done.code == exit::DONE && done.out.contains("validate") && done.out.contains("--creds-file"));
}
