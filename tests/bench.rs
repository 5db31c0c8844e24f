//! The budgets, as ratios measured side by side in one run. Each test prints and asserts no time; `make bench` runs them one at a time,
//! against the release build.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use mirrorlet::{
    config::Settings,
    host::{files::Files, observe::Host},
    plan::{self, Allowed},
    reconcile::{
        policy,
        wish::{self, Wanted},
    },
};

use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    stand::{Agent, MIRROR, Stand},
};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn spec(endpoint: &str, hosts: usize) -> String {
    let hosts: Vec<String> = (0..hosts).map(|host| format!("h{host}.example")).collect();
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [{}]\n", hosts.join(", "))
}

/// A root whose containerd is a script that says its version, with this spec in effect.
fn offline_root(endpoint: &str, hosts: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for directory in ["etc/containerd", "etc/mirrorlet", "usr/bin"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("etc/containerd/config.toml"), "version = 2\n").unwrap();
    fs::write(root.path().join("usr/bin/containerd"), "#!/bin/sh\necho containerd c 2.1.9 x\n").unwrap();
    fs::set_permissions(root.path().join("usr/bin/containerd"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(root.path().join("etc/mirrorlet/mirrors.yaml"), spec(endpoint, hosts)).unwrap();
    once(root.path());
    root
}

fn once(root: &Path) -> Duration {
    let begun = Instant::now();
    Command::new(env!("CARGO_BIN_EXE_mirrorlet")).arg("--root").arg(root).arg("once").output().unwrap();
    begun.elapsed()
}

fn proc_status(agent: &Agent, key: &str) -> u64 {
    let pid = agent.node.main_pid("mirrorlet").unwrap();
    let text = agent.node.run_ok(["sh".into(), "-c".into(), format!("cat /proc/{pid}/task/*/status")]);
    let values =
        text.lines().filter_map(|line| line.strip_prefix(key)).filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if key.starts_with("Vm") { values.max().unwrap_or(0) } else { values.sum() }
}

fn quiet_agent(stand: &Stand) -> Agent {
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    agent
}

#[test]
#[ignore = "a benchmark"]
fn idle() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    std::thread::sleep(Duration::from_secs(1));
    println!("resident, fresh:           {:.1} MiB", proc_status(&agent, "VmRSS:") as f64 / 1024.0);
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    (0..20).for_each(|_| drop(agent.status()));
    std::thread::sleep(Duration::from_secs(5));
    println!("resident, after work:      {:.1} MiB", proc_status(&agent, "VmRSS:") as f64 / 1024.0);
    let before = proc_status(&agent, "voluntary_ctxt_switches:");
    std::thread::sleep(Duration::from_secs(60));
    println!("wake-ups in 60 s of quiet: {}", proc_status(&agent, "voluntary_ctxt_switches:") - before);
}

#[test]
#[ignore = "a benchmark"]
fn start_to_serving() {
    let stand = Stand::new();
    let agent = quiet_agent(&stand);
    let mut times = Vec::new();
    for _ in 0..10 {
        agent.node.run_ok(["systemctl", "reset-failed", "mirrorlet"]);
        agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
        let micros = |name: &str| agent.node.property("mirrorlet", name).trim().parse::<f64>().unwrap();
        times.push((micros("ActiveEnterTimestampMonotonic") - micros("ExecMainStartTimestampMonotonic")) / 1e3);
    }
    println!("exec to serving under systemd: median {:.1} ms of {}", median(times.clone()), times.len());
}

#[test]
#[ignore = "a benchmark"]
fn evaluation_without_a_change() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for hosts in [10, 1_000, 10_000] {
        let root = offline_root("192.0.2.10:5000", hosts);
        let host = Host::new(Files::open(root.path()).unwrap(), Settings::default(), true);
        let mut times = Vec::new();
        for _ in 0..7 {
            let begun = Instant::now();
            let record = host.state().record().unwrap();
            let Wanted::Spec(wish) = wish::of_node(&host, &record) else { panic!("the spec is valid") };
            let observed = runtime.block_on(host.observe(record)).unwrap();
            let plan = plan::plan(&observed, &wish.desired, &policy(&host.settings, &Allowed::default(), false, false));
            times.push(millis(begun.elapsed()));
            assert!(plan.is_empty(), "nothing has changed");
        }
        println!("evaluation of {hosts:>6} hosts: median {:.2} ms", median(times));
    }
}

/// Writes, syncs and renames the same bytes into the same number of files.
fn bare_writer(root: &Path, files: usize, bytes: &[u8]) -> Duration {
    for file in 0..files {
        fs::create_dir_all(root.join(format!("bare/{file}"))).unwrap();
    }
    let begun = Instant::now();
    for file in 0..files {
        let directory = root.join(format!("bare/{file}"));
        let mut new = fs::File::create(directory.join(".new")).unwrap();
        new.write_all(bytes).unwrap();
        new.sync_all().unwrap();
        fs::rename(directory.join(".new"), directory.join("hosts.toml")).unwrap();
        fs::File::open(&directory).unwrap().sync_all().unwrap();
    }
    begun.elapsed()
}

#[test]
#[ignore = "a benchmark"]
fn change_in_place() {
    let root = offline_root("192.0.2.10:5000", 99);
    let bytes = fs::read(root.path().join("etc/containerd/certs.d/h1.example/hosts.toml")).unwrap();
    let idle = median((0..5).map(|_| millis(once(root.path()))).collect());
    let mut ratios = Vec::new();
    for round in 0..7 {
        let endpoint = if round % 2 == 0 { "192.0.2.11:5000" } else { "192.0.2.10:5000" };
        fs::write(root.path().join("etc/mirrorlet/mirrors.yaml"), spec(endpoint, 99)).unwrap();
        let ours = millis(once(root.path())) - idle;
        let bare = millis(bare_writer(root.path(), 100, &bytes));
        ratios.push(ours / bare);
    }
    println!("change of 100 hosts against a bare writer (a start without a change taken off): median ratio {:.2}", median(ratios));

    let root = offline_root("192.0.2.10:5000", 0);
    fs::write(root.path().join("etc/mirrorlet/mirrors.yaml"), spec("192.0.2.11:5000", 0)).unwrap();
    let trace = root.path().join("trace");
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_mirrorlet"))
        .arg("--root")
        .arg(root.path())
        .arg("once");
    traced.output().unwrap();
    let syncs = fs::read_to_string(&trace).unwrap();
    assert!(syncs.contains("fsync"), "nothing was changed: {syncs}");
    println!("syncs for a change of the mirror of one host and its own name:\n{syncs}");
}

#[test]
#[ignore = "a benchmark"]
fn cri_gap_of_a_restart() {
    let stand = Stand::new();
    let agent = quiet_agent(&stand);
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        agent.node.run_ok(["systemctl", "reset-failed", "containerd"]);
        agent.node.run_ok(["systemctl", "restart", "containerd"]);
        agent.node.wait_cri(Duration::from_secs(30));
        let plain = millis(begun.elapsed());
        agent.wait_for("in-effect");
        agent.disable();
        let gap = agent.status()["last_change"]["outcome"]["cri_gap_ms"].as_f64().unwrap();
        ratios.push(gap / plain);
        agent.node.run_ok(["mirrorctl", "resume"]);
        agent.wait_for("in-effect");
    }
    println!("CRI gap of our restart against a plain systemctl restart and waiting: median ratio {:.2}", median(ratios));
}

#[test]
#[ignore = "a benchmark"]
fn test_pull_against_the_bare_call() {
    let stand = Stand::new();
    let agent = quiet_agent(&stand);
    let image = crate::harness::images::Image::random("lib/large", "1", &[20_000_000, 20_000_000]);
    image.put(&stand.mirror.storage());
    let mut ratios = Vec::new();
    for _ in 0..7 {
        agent.forget_images();
        let begun = Instant::now();
        agent.node.pull("up.lab/lib/large:1", None).unwrap();
        let bare = millis(begun.elapsed());
        agent.forget_images();
        let output = agent.node.run_ok(["mirrorctl", "-o", "json", "pull", "up.lab/lib/large:1"]);
        let ours: f64 = output
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|value| value["elapsed_ms"].as_f64())
            .unwrap_or_else(|| serde_json::from_str::<serde_json::Value>(&output).unwrap()["elapsed_ms"].as_f64().unwrap());
        ratios.push(ours / bare);
    }
    println!("test pull of 40 MB against the bare CRI call: median ratio {:.2}", median(ratios));
}
