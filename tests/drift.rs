//! Every way in which somebody else can change what is ours: it is noticed, mended or told, and their version is kept.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    harness::{
        ca::Ca,
        node::NodeOptions,
        process::{eventually, holds_within},
        rootfs::Generation,
    },
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand},
    torture::is_whole,
};

const HOST: &str = "/etc/containerd/certs.d/up.lab";
/// So long it may take on a busy machine; by event it takes a tenth of a second.
const SOON: Duration = Duration::from_secs(20);

/// What is promised: a second by event, with the time in which further changes are waited for; a minute where there are no events.
const BY_EVENT: Duration = Duration::from_millis(1_080);
const WITHOUT_EVENTS: Duration = Duration::from_secs(60);
/// Of so many times the shortest counts: what else the machine does at that moment only adds to them.
const ROUNDS: usize = 5;

/// What somebody does, in a shell in [`HOST`].
const REPAIRED: [(&str, &str); 12] = [
    ("content", "echo '# theirs' >> hosts.toml"),
    ("emptied", ": > hosts.toml"),
    ("mode", "chmod 0666 hosts.toml"),
    ("owner", "chown 12:12 hosts.toml"),
    ("deleted", "rm hosts.toml"),
    ("CA changed", "for file in ca-*.pem; do echo x >> $file; done"),
    ("CA deleted", "rm ca-*.pem"),
    ("a link in place of the file", "mv hosts.toml /root/moved && ln -s /root/moved hosts.toml"),
    ("directory deleted", "cd / && rm -rf /etc/containerd/certs.d/up.lab"),
    ("directory swapped", "cd .. && mv up.lab /root/up.lab.$$ && mkdir up.lab && echo 'server = \"https://x\"' > up.lab/hosts.toml"),
    ("a link in place of the directory", "cd .. && mv up.lab /root/up.lab.$$ && ln -s /root/up.lab.$$ up.lab"),
    ("config_path moved", "sed -i 's|/etc/containerd/certs.d|/nowhere|' /etc/containerd/config.toml"),
];

fn in_effect() -> (Stand, Agent) {
    let ca = Ca::create();
    let stand = Stand::with_mirror(|_, options| options.tls(ca.issue(&["192.0.2.10"])));
    let agent = stand.boot(NodeOptions::new(Generation::V17).file("/root/ca.crt", ca.certificate(), 0o644));
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: https://{MIRROR}\n    caCertPath: /root/ca.crt\n    hosts: [up.lab]\n"));
    (stand, agent)
}

fn newest(agent: &Agent) -> Value {
    let past: Vec<Value> = serde_json::from_str(&agent.node.run_ok(["mirrorctl", "-o", "json", "history"])).unwrap();
    past[0].clone()
}

#[test]
fn what_somebody_changes_is_mended() {
    let (stand, agent) = in_effect();
    let (tree, starts) = (agent.containerd_tree(), agent.starts());
    let times = if is_whole() { 3 } else { 1 };
    for (kind, action) in REPAIRED.iter().cycle().take(times * REPAIRED.len()) {
        let before = newest(&agent)["generation"].clone();
        agent.node.run_ok(["sh".to_owned(), "-c".into(), format!("cd {HOST} && {action}")]);
        eventually(kind, SOON, || newest(&agent)["generation"] != before);
        agent.wait_for("in-effect");
        assert_eq!(agent.containerd_tree(), tree, "{kind}");
        assert_eq!(newest(&agent)["who"], "drift", "{kind}");
        // A fight is ended after eight repairs in ten minutes; this is none.
        agent.node.run_ok(["systemctl", "reset-failed", "mirrorlet"]);
        agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
        agent.wait_for("in-effect");
    }
    assert_eq!(agent.starts(), starts);
    stand.mirror_serves(&agent);
}

#[test]
fn their_version_is_kept_and_named() {
    let (_stand, agent) = in_effect();
    let tree = agent.containerd_tree();
    agent.node.write_atomic(format!("{HOST}/hosts.toml"), "server = \"https://theirs.lab\"\n");
    eventually("repaired", SOON, || newest(&agent)["who"] == "drift");
    agent.wait_for("in-effect");
    assert_eq!(agent.containerd_tree(), tree);
    let replaced = newest(&agent)["replaced"][0].clone();
    assert_eq!(replaced["path"], format!("{HOST}/hosts.toml"));
    assert_eq!(agent.node.read_text(replaced["kept_at"].as_str().unwrap()), "server = \"https://theirs.lab\"\n");
    let shown = agent.node.run_ok(["mirrorctl", "show", &newest(&agent)["generation"].to_string()]);
    assert!(shown.contains("-server = \"https://theirs.lab\"") && shown.contains("is kept as"), "{shown}");
}

#[test]
fn what_is_changed_while_the_daemon_is_off_is_mended_at_its_start() {
    let (_stand, agent) = in_effect();
    let tree = agent.containerd_tree();
    agent.node.run_ok(["systemctl", "stop", "mirrorlet"]);
    agent.node.run_ok(["rm", "-r", HOST]);
    agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
    agent.wait_for("in-effect");
    assert_eq!(agent.containerd_tree(), tree);
}

/// Who may listen to the kernel is told who wrote; by default nobody may, and the time is told.
#[test]
fn who_changed_a_file_is_told_where_the_kernel_says_it() {
    let (_stand, agent) = in_effect();
    let blamed = |action: &str| {
        let before = newest(&agent)["generation"].clone();
        agent.node.run_ok(["sh", "-c", &format!("cd {HOST} && {action}")]);
        eventually(action, SOON, || newest(&agent)["generation"] != before);
        agent.wait_for("in-effect");
        let replaced = newest(&agent)["replaced"][0].clone();
        assert!(replaced["changed_at"].as_i64() > Some(1_700_000_000), "{replaced}");
        replaced["changed_by"].as_str().unwrap().to_owned()
    };
    // Whoever is still there when the kernel tells of it is named.
    let write = "echo '# theirs' >> hosts.toml; sleep 2";
    let rename = "while read -r line; do echo \"$line\"; done < hosts.toml > new; echo '# theirs' >> new; mv new hosts.toml; sleep 2";
    assert_eq!(blamed(write), "");
    let unit = "[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\nSystemCallFilter=fanotify_init fanotify_mark\n";
    agent.node.write("/etc/systemd/system/mirrorlet.service.d/blame.conf", unit);
    agent.node.run_ok(["systemctl", "daemon-reload"]);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    let (by_rename, by_write) = (blamed(rename), blamed(write));
    assert!(by_rename.starts_with("sh (pid ") && by_write.starts_with("sh (pid "), "{by_rename}, {by_write}");
    assert!(by_write.contains(", uid 0"), "{by_write}");
}

/// Two files, two owners: one is mended, the other is left and told, with the time it was changed.
#[test]
fn what_is_done_about_drift_goes_by_file() {
    let (_stand, agent) = in_effect();
    let before = agent.node.read_text(CONFIG);
    let settings = agent.node.read_text("/etc/mirrorlet/mirrorlet.toml");
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", format!("{settings}[policy.drift_at]\n\"{CONFIG}\" = \"report\"\n"));
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    agent.node.run_ok(["sed", "-i", "s|/etc/containerd/certs.d|/nowhere|", CONFIG]);
    agent.wait_for("drifted");
    agent.node.run_ok(["rm", "-r", HOST]);
    eventually("the other one is mended", SOON, || agent.node.exists(format!("{HOST}/hosts.toml")));
    let status = agent.wait_for("drifted");
    assert!(agent.node.read_text(CONFIG).contains("/nowhere"));
    let told = status["problems"][0]["message"].to_string();
    assert!(told.contains(&format!("{CONFIG} was changed by somebody else, 2")), "{status:#}");

    // Theirs stays on the way back, and that is said; resume mends what is left.
    let plan = agent.node.run(["mirrorctl", "disable", "--dry-run"]).stdout;
    assert!(plan.contains("/nowhere") && plan.contains("restore.conflict"), "{plan}");
    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
    assert_eq!(agent.node.read_text(CONFIG), before);
}

/// A spec that is broken, gone or refused keeps nothing from being mended, and is told as before.
#[test]
fn what_is_in_effect_is_mended_whatever_the_spec_says_by_now() {
    let (_stand, agent) = in_effect();
    let (good, tree) = (agent.node.read_text(SPEC), agent.containerd_tree());
    let mended = |what: &str, condition: &str| {
        agent.wait_for(condition);
        agent.node.run_ok(["rm", "-r", HOST]);
        eventually(what, SOON, || agent.containerd_tree() == tree);
        agent.wait_for(condition);
        assert_eq!(newest(&agent)["who"], "drift", "{what}");
    };
    agent.write_spec("registryMirrors: 7\n");
    mended("a broken spec", "spec-invalid");
    agent.node.remove(SPEC);
    mended("no spec", "spec-invalid");
    // The plan is refused; then what containerd makes of the new files.
    agent.node.run_ok(["mkdir", "/etc/containerd/certs.d/other.lab"]);
    let tree = agent.containerd_tree();
    agent.write_spec(&good.replace("[up.lab]", "[up.lab, other.lab]"));
    agent.wait_for("refused");
    agent.node.run_ok(["rm", "-r", HOST]);
    eventually("mended behind a refused spec", SOON, || agent.containerd_tree() == tree);
    assert_eq!(agent.wait_for("refused")["problems"][0]["code"], "conflict.foreign-host");
    agent.node.run_ok(["rmdir", "/etc/containerd/certs.d/other.lab"]);
    agent.write_spec(&good);
    agent.wait_for("in-effect");
    agent.put_in_effect(&good.replace("    hosts:", "    fallback: none\n    hosts:"));
    agent.node.run_ok(["mirrorctl", "revert"]);
    agent.wait_for("held");
    agent.node.remove(SPEC);
    let status = agent.wait_until("missed", |status| status["summary"].to_string().contains("gone"));
    assert_eq!(status["condition"], "spec-invalid", "what is in effect is not the node as it was found: {status:#}");
}

/// On the way back what we wrote goes, what somebody else made of it is kept or stays, and both are said.
#[test]
fn conflicts_on_the_way_back_are_shown() {
    let (_stand, agent) = in_effect();
    agent.node.run_ok(["systemctl", "stop", "mirrorlet"]);
    agent.node.run_ok(["sed", "-i", "s|/etc/containerd/certs.d|/nowhere|", CONFIG]);
    agent.node.write(format!("{HOST}/hosts.toml"), "server = \"https://theirs.lab\"\n");
    agent.node.run_ok(["sh", "-c", &format!("for file in {HOST}/ca-*.pem; do echo renewed > $file; done")]);
    agent.node.run_ok(["mirrorlet", "disable"]);
    assert!(agent.node.read_text(CONFIG).contains("config_path = \"/nowhere\"") && !agent.node.exists(HOST));
    agent.node.wait_cri(SOON);
    agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
    agent.wait_for("held");
    let replaced = newest(&agent)["replaced"].as_array().unwrap().clone();
    let theirs = replaced.iter().find(|file| file["path"] == format!("{HOST}/hosts.toml")).expect("their hosts.toml is named");
    assert_eq!(agent.node.read_text(theirs["kept_at"].as_str().unwrap()), "server = \"https://theirs.lab\"\n");
    let shown = agent.node.run_ok(["mirrorctl", "show", &newest(&agent)["generation"].to_string()]);
    assert_eq!(shown.matches("[restore.conflict]").count(), 3, "{shown}");
    let ca = replaced.iter().find(|file| file["path"].to_string().contains("/ca-")).expect("their CA is named");
    assert_eq!(agent.node.read_text(ca["kept_at"].as_str().unwrap()), "renewed\n");
}

/// How long it took until somebody's change was mended.
fn mended_after(agent: &Agent, hosts_toml: &str) -> Duration {
    let begun = Instant::now();
    let is_mended = || agent.node.read_text(format!("{HOST}/hosts.toml")) == hosts_toml;
    assert!(holds_within(WITHOUT_EVENTS, is_mended), "never seen\n{}", agent.node.journal("mirrorlet"));
    begun.elapsed()
}

fn shortest(times: &[Duration]) -> Duration {
    println!("mended after {times:?}");
    *times.iter().min().unwrap()
}

fn somebody_edits(agent: &Agent) {
    agent.node.write_atomic(format!("{HOST}/hosts.toml"), "server = \"https://theirs.lab\"\n");
}

#[test]
fn a_change_is_seen_at_once() {
    let (_stand, agent) = in_effect();
    let hosts_toml = agent.node.read_text(format!("{HOST}/hosts.toml"));
    let times = (0..ROUNDS).map(|_| {
        somebody_edits(&agent);
        let time = mended_after(&agent, &hosts_toml);
        agent.wait_for("in-effect");
        time
    });
    assert!(shortest(&times.collect::<Vec<_>>()) <= BY_EVENT);
}

/// The kernel keeps so many events for a daemon that has no time to take them, and drops what comes then. What is of no interest fills the
/// room; what was changed next is seen all the same, and so is what is changed in directories that were replaced meanwhile.
#[test]
fn events_that_the_kernel_has_no_room_for_are_made_up_for() {
    let (_stand, agent) = in_effect();
    let hosts_toml = agent.node.read_text(format!("{HOST}/hosts.toml"));
    let room: usize = agent.node.read_text("/proc/sys/fs/inotify/max_queued_events").trim().parse().unwrap();
    // Each line is an event at the least; the same one twice in a row would count once.
    let flood = format!("i=0; while [ $i -lt {room} ]; do : > /etc/containerd/noise-a; : > /etc/containerd/noise-b; i=$((i + 2)); done");
    let while_it_sleeps = |what: &str| {
        // What it had begun to look at would be seen without any event.
        std::thread::sleep(Duration::from_secs(2));
        agent.node.run_ok(["systemctl", "kill", "--signal=STOP", "mirrorlet"]);
        agent.node.run_ok(["sh", "-c", &format!("{flood}; {what}")]);
        agent.node.run_ok(["systemctl", "kill", "--signal=CONT", "mirrorlet"]);
    };
    while_it_sleeps(&format!("echo theirs > {HOST}/hosts.toml"));
    println!("mended after {:?}", mended_after(&agent, &hosts_toml));
    agent.wait_for("in-effect");
    while_it_sleeps(&format!("cp -a {HOST} /root/kept && rm -r {HOST} && cp -a /root/kept {HOST}"));
    agent.wait_for("in-effect");
    // A look that finds nothing to do leaves no trace to wait for.
    std::thread::sleep(Duration::from_secs(3));
    somebody_edits(&agent);
    let time = mended_after(&agent, &hosts_toml);
    println!("then after {time:?}");
    assert!(time < SOON, "its directory is not watched any more");
}

#[test]
fn without_inotify_it_is_looked_from_time_to_time() {
    let (_stand, agent) = in_effect();
    let hosts_toml = agent.node.read_text(format!("{HOST}/hosts.toml"));
    let used_up = "[Service]\nSystemCallFilter=~inotify_init1\nSystemCallErrorNumber=EMFILE\n";
    agent.node.write("/etc/systemd/system/mirrorlet.service.d/inotify.conf", used_up);
    agent.node.run_ok(["systemctl", "daemon-reload"]);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    assert!(agent.node.journal("mirrorlet").contains("no inotify, looking from time to time instead"));
    somebody_edits(&agent);
    println!("mended after {:?}", mended_after(&agent, &hosts_toml));
}

/// What is not ours is nobody's drift: it stays, nothing is written, and no alarm is raised.
#[test]
fn other_peoples_files_are_left_alone() {
    let (stand, agent) = in_effect();
    let looked_at = || agent.status()["observed_at"].as_i64().unwrap();
    let before = looked_at();
    eventually("the clock went on", SOON, || agent.node.run_ok(["date", "+%s"]).trim().parse::<i64>().unwrap() > before);
    agent.node.run_ok(["sh", "-c", &format!("echo theirs > {HOST}/notes.txt; mkdir /etc/containerd/certs.d/other.lab")]);
    agent.node.write("/etc/containerd/certs.d/other.lab/hosts.toml", "server = \"https://other.lab\"\n");
    let (tree, generation) = (agent.containerd_tree(), newest(&agent)["generation"].clone());
    eventually("it is seen", SOON, || looked_at() > before);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((agent.containerd_tree(), newest(&agent)["generation"].clone()), (tree, generation));
    assert_eq!(agent.status()["condition"], "in-effect");
    stand.mirror_serves(&agent);
    agent.disable();
    assert_eq!(agent.node.read_text(format!("{HOST}/notes.txt")), "theirs\n");
    assert!(!agent.node.exists(format!("{HOST}/hosts.toml")) && agent.node.exists("/etc/containerd/certs.d/other.lab/hosts.toml"));
}

/// A drop-in that overrides ours, or on 1.x would take the rest of the CRI's settings away, is told with its name.
#[test]
fn a_drop_in_that_overrides_us_is_named() {
    let (_stand, agent) = in_effect();
    let drop_in = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/theirs\"\n";
    agent.node.write("/etc/containerd/conf.d/theirs.toml", drop_in);
    let starts = agent.starts();
    let config = agent.node.read_text(CONFIG);
    agent.node.write_atomic(CONFIG, format!("imports = [\"/etc/containerd/conf.d/*.toml\"]\n{config}"));
    let status = agent.wait_for("refused");
    assert!(status["problems"].to_string().contains("/etc/containerd/conf.d/theirs.toml"), "{status:#}");
    assert_eq!(agent.starts(), starts);
    agent.node.remove("/etc/containerd/conf.d/theirs.toml");
    agent.wait_for("in-effect");
}

/// The unit sees /etc/containerd through a mount of its own: when it is replaced, the daemon starts anew to see the new one.
#[test]
fn a_replaced_directory_does_not_strand_the_daemon() {
    let (stand, agent) = in_effect();
    let tree = agent.containerd_tree();
    agent.node.run_ok([
        "sh",
        "-c",
        "cp -a /etc/containerd /etc/containerd.new && mv /etc/containerd /etc/containerd.old && mv /etc/containerd.new /etc/containerd",
    ]);
    agent.node.run_ok(["sh", "-c", &format!("rm -r {HOST}")]);
    eventually("repaired in the new directory", Duration::from_secs(60), || agent.containerd_tree() == tree);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
}

/// What cannot be written at that moment is no fault of the spec: it is tried again, and not parked.
#[test]
fn a_directory_that_is_gone_for_a_moment_parks_nothing() {
    let (stand, agent) = in_effect();
    let tree = agent.containerd_tree();
    agent.node.run_ok(["mv", "/etc/containerd", "/etc/gone"]);
    let failed = || agent.node.run(["mirrorctl", "status"]).stdout.contains("tried again by itself");
    eventually("the repair failed", SOON, failed);
    agent.node.run_ok(["mv", "/etc/gone", "/etc/containerd"]);
    agent.node.run_ok(["rm", "-r", HOST]);
    eventually("repaired", Duration::from_secs(60), || agent.containerd_tree() == tree);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
}
