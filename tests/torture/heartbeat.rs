//! Containers that say something ten times a second, through everything mirrorlet does to containerd: none of them misses a beat.

use std::time::Duration;

use crate::{
    harness::{images::Image, node::NodeOptions, process::eventually, rootfs::Generation},
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, Stand},
};

const CONTAINERS: usize = 20;
/// A number and the time since boot in seconds, on standard output: a container whose output nobody takes would stop too.
const BEAT: &str = "n=0; while :; do n=$((n + 1)); read up rest < /proc/uptime; echo $n $up;";
/// The same outside of containerd: who is late there too was kept waiting by the machine.
const CONTROLS: usize = 5;
/// Seconds between two beats.
const PERIOD: f64 = 0.1;
/// After this many periods without a beat some were missed: a busy machine takes two or three to its processes now and then.
const LATE: f64 = 4.0;

fn spec(endpoint: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [up.lab]\n")
}

fn name(number: usize) -> String {
    format!("beat-{number}")
}

fn start(agent: &Agent, number: usize) {
    let name = name(number);
    let log = format!("file:///beats/{name}");
    let words = format!("{BEAT} /busybox usleep 100000; done");
    let image = "up.lab/lib/sleep:1";
    let run = ["ctr", "-n", "k8s.io", "run", "-d", "--net-host", "--cpu-shares", "0", "--log-uri", &log, image, &name];
    agent.node.run_ok(run.into_iter().chain(["/busybox", "sh", "-c", &words]));
}

/// Number and time of every beat.
fn beats(agent: &Agent, name: &str) -> Vec<(u64, f64)> {
    let log = agent.node.read_text(format!("/beats/{name}"));
    // the last line may be being written
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.split_once(' ').map(|(number, time)| (number.parse().unwrap(), time.parse().unwrap())).unwrap()).collect()
}

/// Begin and end of every pause longer than this many periods.
fn pauses(beats: &[(u64, f64)], periods: f64) -> Vec<(f64, f64)> {
    beats.windows(2).map(|pair| (pair[0].1, pair[1].1)).filter(|(begin, end)| end - begin > periods * PERIOD).collect()
}

/// A process outside was late at the same time, by half as much or more.
fn is_of_the_machine((begin, end): (f64, f64), outside: &[(f64, f64)]) -> bool {
    let is_alike = |other: &&(f64, f64)| begin < other.1 && other.0 < end && (other.1 - other.0) * 2.0 >= end - begin;
    outside.iter().any(|other| is_alike(&other))
}

fn beats_in(pauses: &[(f64, f64)]) -> usize {
    pauses.iter().map(|(begin, end)| ((end - begin) / PERIOD).round() as usize - 1).sum()
}

#[test]
fn a_pause_is_missed_beats_unless_the_machine_paused() {
    let beats = [(1, 0.0), (2, 0.1), (3, 0.7), (4, 0.8)];
    let pause = pauses(&beats, LATE);
    assert_eq!((pause.as_slice(), beats_in(&pause)), (&[(0.1, 0.7)][..], 5));
    assert!(is_of_the_machine(pause[0], &[(0.3, 0.65)]));
    assert!(!is_of_the_machine(pause[0], &[(0.3, 0.5), (0.8, 1.6)]));
}

fn no_container_misses_a_beat(generation: Generation) {
    let stand = Stand::new();
    Image::sleeper("lib/sleep", "1").put(&stand.upstream.storage());
    let agent = stand.boot(NodeOptions::new(generation));
    agent.node.pull("up.lab/lib/sleep:1", None).unwrap_or_else(|error| panic!("{error}"));
    agent.node.run_ok(["mkdir", "/beats"]);
    let control = |number| agent.node.spawn(["sh", "-c", &format!("{BEAT} sleep {PERIOD}; done > /beats/control-{number}")]);
    let _controls: Vec<_> = (0..CONTROLS).map(control).collect();
    (0..CONTAINERS).for_each(|number| start(&agent, number));
    let pids = || (0..CONTAINERS).map(|number| agent.node.container_pid(&name(number))).collect::<Vec<_>>();
    let before = pids();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let starts = agent.starts();

    agent.put_in_effect(&spec(MIRROR));
    agent.put_in_effect(&spec("192.0.2.11:5000"));
    agent.disable();
    assert_eq!(agent.starts(), starts + 2, "there and back");
    let stub = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) exec /usr/bin/containerd.real \"$@\";; esac\ngrep -q certs.d {CONFIG} && exit 7\nexec /usr/bin/containerd.real \"$@\"\n"
    );
    agent.node.write("/usr/bin/containerd.stub", stub);
    let swap = "chmod 755 /usr/bin/containerd.stub && ln /usr/bin/containerd /usr/bin/containerd.real && mv /usr/bin/containerd.stub /usr/bin/containerd";
    agent.node.run_ok(["sh", "-c", swap]);
    agent.write_spec(&spec("192.0.2.12:5000"));
    agent.wait_for("rolled-back");
    assert_eq!(agent.starts(), starts + 4, "one that failed, and the way back");
    agent.node.run_ok(["mv", "/usr/bin/containerd.real", "/usr/bin/containerd"]);
    agent.write_spec(&spec(MIRROR));
    eventually("a restart is under way", Duration::from_secs(20), || agent.starts() == starts + 5);
    agent.node.run_ok(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
    eventually("the daemon is there again", Duration::from_secs(20), || {
        agent.node.run(["mirrorctl", "status"]).code.is_some_and(|code| code < 2)
    });
    agent.wait_for("in-effect");
    agent.node.wait_cri(Duration::from_secs(10));

    assert_eq!(pids(), before, "the same tasks with the same processes");
    let outside: Vec<_> = (0..CONTROLS).flat_map(|number| pauses(&beats(&agent, &format!("control-{number}")), LATE / 2.0)).collect();
    let (mut total, mut late) = (0, 0);
    for number in 0..CONTAINERS {
        let beats = beats(&agent, &name(number));
        assert!(beats.iter().map(|beat| beat.0).eq(1..=beats.len() as u64), "{}: a beat is lost or told twice", name(number));
        let (machine, missed): (Vec<_>, Vec<_>) = pauses(&beats, LATE).into_iter().partition(|pause| is_of_the_machine(*pause, &outside));
        assert!(missed.is_empty(), "{} missed {} beats: {missed:?}", name(number), beats_in(&missed));
        total += beats.len();
        late += beats_in(&machine);
    }
    let restarts = agent.starts() - starts;
    println!("{total} beats of {CONTAINERS} containers through {restarts} restarts, none missed; {late} were late with those outside");
    assert!(total > CONTAINERS * 20, "only {total} beats");
}

on_each_generation!(no_container_misses_a_beat);
