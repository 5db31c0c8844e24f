//! Every kind of mirror, proven by access logs on every generation.

use std::time::Duration;

use crate::{
    harness::{
        access_log::Served,
        cri::Login,
        images::Image,
        lab::Lab,
        node::NodeOptions,
        process::holds_within,
        registry::{Registry, RegistryOptions},
        rootfs::{Generation, containerd_version},
    },
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, Stand, WHOLE_PULL, docker_config, pull_and_see},
};

/// A node whose spec has one entry for `up.lab` with these further lines.
fn agent_with(stand: &Stand, generation: Generation, endpoint: &str, lines: &[&str], files: &[(&str, String)]) -> Agent {
    let options = files.iter().fold(NodeOptions::new(generation), |options, (path, text)| options.file(path, text.as_bytes(), 0o600));
    let agent = stand.boot(options);
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: {endpoint}\n{lines}    hosts: [up.lab]\n"));
    agent
}

/// By the upstream's name and by the mirror's own: the mirror serves all of it.
fn both_names_are_served(stand: &Stand, agent: &Agent, own_reference: &str) {
    stand.mirror_serves(agent);
    assert_eq!(stand.pull(agent, "gcr.io").0, WHOLE_PULL, "gcr.io is mirrored without being listed: {}", stand.mirror.log());
    let (mirror, _) = pull_and_see(agent, own_reference, &stand.mirror, &stand.upstream);
    assert_eq!(mirror, WHOLE_PULL, "by its own name: {}", stand.mirror.log());
}

fn plain_http(generation: Generation) {
    let stand = Stand::new();
    let agent = agent_with(&stand, generation, &format!("http://{MIRROR}"), &[], &[]);
    both_names_are_served(&stand, &agent, &format!("{MIRROR}/lib/app:1"));
}

fn https_with_private_ca(generation: Generation) {
    let ca = crate::harness::ca::Ca::create();
    let stand = Stand::with_mirror(|_, options| options.tls(ca.issue(&["192.0.2.10"])));
    let files = [("/root/ca.crt", ca.certificate().to_owned())];
    let agent = agent_with(&stand, generation, &format!("https://{MIRROR}"), &["caCertPath: /root/ca.crt"], &files);
    both_names_are_served(&stand, &agent, &format!("{MIRROR}/lib/app:1"));
}

fn basic_login(generation: Generation) {
    let stand = Stand::with_mirror(|lab, options| options.tls(lab.ca().issue(&["192.0.2.10"])).basic("me", "pa55"));
    let files = [("/root/.docker/config.json", docker_config(MIRROR, "me", "pa55"))];
    let lines = ["pullCredentialConfigPath: /root/.docker/config.json"];
    let agent = agent_with(&stand, generation, &format!("https://{MIRROR}"), &lines, &files);
    assert_eq!(agent.node.stat("/etc/containerd/certs.d/up.lab/hosts.toml").mode & 0o777, 0o600);
    both_names_are_served(&stand, &agent, &format!("{MIRROR}/lib/app:1"));
    assert!(stand.mirror.requests().iter().filter(|request| request.is_served()).all(|request| request.logged_in));
}

fn sends_login_by_header(generation: Generation) -> bool {
    let version = containerd_version(generation);
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    numbers.get(..2).is_some_and(|numbers| numbers >= &[2, 1][..])
}

fn token_login(generation: Generation) {
    let login = Login::new("me", "pa55 w0rd");
    let lab = Lab::create();
    let tokens = lab.token_server("192.0.2.30:80", vec![login, Login::new("me", "other")]);
    let upstream = lab.upstream(crate::stand::UPSTREAM, "up.lab gcr.io");
    let mirror = lab.registry(RegistryOptions::new(MIRROR).tls(lab.ca().issue(&["192.0.2.10"])).token(tokens.issuer("mirror")));
    let stand = Stand { upstream, mirror, lab };
    let image = crate::stand::app();
    image.put(&stand.upstream.storage());
    image.put(&stand.mirror.storage());
    let files = [("/root/.docker/config.json", docker_config(MIRROR, "me", "pa55 w0rd"))];
    let lines = ["pullCredentialConfigPath: /root/.docker/config.json"];
    let agent = agent_with(&stand, generation, &format!("https://{MIRROR}"), &lines, &files);
    both_names_are_served(&stand, &agent, &format!("{MIRROR}/lib/app:1"));
    assert!(tokens.requests().iter().any(|request| request.user.as_deref() == Some("me")), "{:?}", tokens.requests());

    let in_config = agent.node.read_text(CONFIG).contains("pa55 w0rd");
    assert_eq!(in_config, !sends_login_by_header(generation), "the login is where this release learns it from");
    let notices = agent.status()["notices"].to_string();
    assert_eq!(notices.contains("login.in-config"), in_config, "{notices}");
    if in_config {
        assert_eq!(agent.node.stat(CONFIG).mode & 0o777, 0o600, "a config with a login is its owner's only");
    }
    let starts = agent.starts();
    let before = agent.status()["wanted_spec_digest"].clone();
    agent.node.write_atomic("/root/.docker/config.json", docker_config(MIRROR, "me", "other"));
    agent.wait_until("the new login is taken up", |status| status["condition"] == "in-effect" && status["wanted_spec_digest"] != before);
    assert_eq!(agent.starts() - starts, usize::from(in_config), "only a login in config.toml costs a restart");
    stand.mirror_serves(&agent);
    agent.disable();
    assert!(!agent.node.read_text(CONFIG).contains("other"));
    assert_eq!(agent.node.stat(CONFIG).mode & 0o777, 0o644);
}

/// A node in effect whose containerd, from now on, has no CRI with whatever names our directory; and the next change, which takes a restart.
fn dead_with_ours() -> (Stand, Agent, impl Fn(&Agent)) {
    let lab = Lab::create();
    let tokens = lab.token_server("192.0.2.30:80", vec![Login::new("me", "one"), Login::new("me", "two")]);
    let upstream = lab.upstream(crate::stand::UPSTREAM, "up.lab gcr.io");
    let mirror = lab.registry(RegistryOptions::new(MIRROR).tls(lab.ca().issue(&["192.0.2.10"])).token(tokens.issuer("mirror")));
    let stand = Stand { upstream, mirror, lab };
    let image = crate::stand::app();
    image.put(&stand.upstream.storage());
    image.put(&stand.mirror.storage());
    let login = |password| docker_config(MIRROR, "me", password);
    let files = [("/root/.docker/config.json", login("one"))];
    let lines = ["pullCredentialConfigPath: /root/.docker/config.json"];
    let agent = agent_with(&stand, Generation::V17, &format!("https://{MIRROR}"), &lines, &files);
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) exec /usr/bin/containerd.real \"$@\";; esac\nif grep -q certs.d /etc/containerd/config.toml; then printf 'version = 2\\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\\n' > /run/broken.toml; exec /usr/bin/containerd.real -c /run/broken.toml \"$@\"; fi\nexec /usr/bin/containerd.real \"$@\"\n";
    agent.node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    agent.node.write("/usr/bin/containerd", stub);
    agent.node.run_ok(["chmod", "755", "/usr/bin/containerd"]);
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"100ms\"\nquiet_for = \"0s\"\nready_deadline = \"3s\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    (stand, agent, move |agent: &Agent| agent.node.write_atomic("/root/.docker/config.json", login("two")))
}

/// Neither the change nor the generation before brings the CRI back: the node gets what it had before us, and nothing loops.
#[test]
fn the_original_is_the_last_rung() {
    let (_stand, agent, change) = dead_with_ours();
    let starts = agent.starts();
    change(&agent);
    let status = agent.wait_for("held");
    assert_eq!((status["hold"]["cause"].as_str(), status["effective_generation"].as_u64()), (Some("rescue"), Some(0)), "{status:#}");
    assert!(status["problems"].to_string().contains("restart.cri"), "{status:#}");
    assert!(!agent.node.read_text(CONFIG).contains("certs.d"));
    agent.node.wait_cri(Duration::from_secs(10));
    assert_eq!(agent.starts() - starts, 3, "there, back, and to the original");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.starts() - starts, 3);
    let past = agent.node.run_ok(["mirrorctl", "history"]);
    assert!(past.contains("rescue") && past.contains("to the node as it was found"), "{past}");
}

/// Whoever mends the spec while the node goes down the ladder has written another one: it is not held.
#[test]
fn a_spec_that_is_mended_meanwhile_is_tried_after_the_last_rung() {
    let (_stand, agent, change) = dead_with_ours();
    change(&agent);
    let has_begun = || agent.node.journal("mirrorlet").matches("restarting containerd, because").count() > 1;
    assert!(holds_within(Duration::from_secs(20), has_begun), "{}", agent.node.journal("mirrorlet"));
    agent.write_spec("registryMirrors: []\n");
    let status = agent.wait_for("switched-off");
    assert!(agent.node.run_ok(["mirrorctl", "history"]).contains("rescue"), "{status:#}");
    agent.node.wait_cri(Duration::from_secs(10));
}

fn namespace(generation: Generation) {
    let lab = Lab::create();
    let upstream = lab.upstream(crate::stand::UPSTREAM, "up.lab gcr.io");
    let mirror = lab.registry(RegistryOptions::new(MIRROR));
    let stand = Stand { upstream, mirror, lab };
    let options = NodeOptions::new(generation);
    Image::random("team/two/lib/app", "1", &[1000, 50_000]).put(&stand.mirror.storage());
    let agent = stand.boot(options);
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}/v2/team/two\n    hosts: [up.lab]\n"));
    for reference in ["up.lab/lib/app:1".to_owned(), format!("{MIRROR}/team/two/lib/app:1")] {
        agent.forget_images();
        stand.mirror.forget();
        stand.upstream.forget();
        agent.node.pull(&reference, None).unwrap_or_else(|error| panic!("{reference}: {error}"));
        assert_eq!(stand.mirror.served("team/two/lib/app"), WHOLE_PULL, "{reference}: {}", stand.mirror.log());
        assert!(stand.upstream.requests().is_empty(), "{}", stand.upstream.log());
    }
}

fn two_in_order(generation: Generation) {
    let stand = Stand::new();
    let mut first = stand.another_mirror("192.0.2.11:5000");
    let agent = stand.boot(NodeOptions::new(generation));
    agent.put_in_effect(&format!(
        "registryMirrors:\n  - endpoint: http://192.0.2.11:5000\n    hosts: [up.lab]\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"
    ));
    let served = |first: &Registry| {
        first.forget();
        let (second, upstream) = stand.pull(&agent, "up.lab");
        (first.served("lib/app"), second, upstream)
    };
    assert_eq!(served(&first), (WHOLE_PULL, Served::default(), Served::default()));
    first.stop();
    assert_eq!(served(&first), (Served::default(), WHOLE_PULL, Served::default()), "the second is asked when the first is gone");
}

fn lacking_the_image(generation: Generation) {
    let stand = Stand::new();
    Image::random("lib/rare", "1", &[2000]).put(&stand.upstream.storage());
    let agent = agent_with(&stand, generation, &format!("http://{MIRROR}"), &[], &[]);
    stand.mirror.forget();
    agent.node.pull("up.lab/lib/rare:1", None).unwrap_or_else(|error| panic!("{error}"));
    assert!(stand.mirror.requests().iter().any(|request| request.status == 404), "the mirror is asked first: {}", stand.mirror.log());
    assert_eq!(stand.upstream.served("lib/rare").tags, 1, "then the upstream: {}", stand.upstream.log());
}

fn without_fallback(generation: Generation) {
    let stand = Stand::new();
    Image::random("lib/rare", "1", &[2000]).put(&stand.upstream.storage());
    let agent = agent_with(&stand, generation, &format!("http://{MIRROR}"), &["fallback: none"], &[]);
    stand.mirror_serves(&agent);
    stand.upstream.forget();
    stand.mirror.forget();
    agent.node.pull("up.lab/lib/rare:1", None).expect_err("the mirror lacks it and nobody else may be asked");
    assert!(stand.mirror.requests().iter().any(|request| request.status == 404), "{}", stand.mirror.log());
    assert!(stand.upstream.requests().is_empty(), "{}", stand.upstream.log());
}

on_each_generation!(
    plain_http,
    https_with_private_ca,
    basic_login,
    token_login,
    namespace,
    two_in_order,
    lacking_the_image,
    without_fallback
);
