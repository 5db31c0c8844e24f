//! The status: condition, summary and next step first, then how it is known, then the parts.

use super::{below, finding, line, seconds};
use crate::{
    cli::paint::Paint,
    status::{Condition, ContainerdStatus, EndpointStatus, LastChange, LoginState, MirroredHost, Status, moment},
};

/// The status for people; `now` in seconds of Unix time.
#[must_use]
pub fn status(status: &Status, paint: Paint, now: i64) -> String {
    let mut text = line(paint, "condition", &condition(status.condition, paint));
    add(&mut text, paint, "", &status.summary);
    add(&mut text, paint, "next", if status.next_step.is_empty() { "nothing to do" } else { &status.next_step });
    text.push('\n');
    add(&mut text, paint, "proof", if status.proof.is_empty() { "none" } else { &status.proof });
    text.push_str(&spec(status, paint));
    if let Some(hold) = &status.hold {
        add(&mut text, paint, "held", &format!("by {}, since {}", hold.cause, time(hold.since, now)));
    }
    if let Some(pending) = &status.pending {
        let left = (pending.deadline - now).max(0);
        add(&mut text, paint, "pending", &format!("generation {}, gone back from in {left} s unless confirmed", pending.generation));
    }
    text.push_str(&containerd(&status.containerd, paint));
    text.push_str(&section(paint, "hosts", status.hosts.iter().flat_map(host)));
    text.push_str(&section(paint, "mirrors", mirrors(&status.endpoints)));
    if let Some(change) = &status.last_change {
        text.push_str(&last_change(change, paint, now));
    }
    text.push_str(&findings(status, paint));
    text
}

fn add(text: &mut String, paint: Paint, label: &str, value: &str) {
    if !value.is_empty() {
        text.push_str(&if label.is_empty() { below(value) } else { line(paint, label, value) });
    }
}

fn condition(condition: Condition, paint: Paint) -> String {
    match condition {
        Condition::InEffect | Condition::SwitchedOff => paint.good(condition.word()),
        Condition::NoSpec | Condition::Applying | Condition::Held | Condition::PendingConfirm | Condition::AwaitingRestart => {
            paint.notable(condition.word())
        }
        _ => paint.bad(condition.word()),
    }
}

fn spec(status: &Status, paint: Paint) -> String {
    let digest = status.wanted_spec_digest.strip_prefix("sha256:").unwrap_or_default();
    let digest = digest.get(..12).map_or_else(|| "none wanted".to_owned(), |short| format!("wanted {short}"));
    let generation = match status.effective_generation {
        0 => "the node is as it was found".to_owned(),
        generation => format!("generation {generation} in effect"),
    };
    line(paint, "spec", &format!("{}, {digest}, {generation}", status.spec_path))
}

fn containerd(containerd: &ContainerdStatus, paint: Paint) -> String {
    let version = match (containerd.running_version.as_str(), containerd.installed_version.as_str()) {
        ("", "") => "version unknown".to_owned(),
        ("", installed) => format!("{installed} installed, does not answer"),
        (running, installed) if installed.is_empty() || installed == running => running.to_owned(),
        (running, installed) => format!("{running} running, {installed} installed"),
    };
    let pid = if containerd.pid == 0 { "not running".to_owned() } else { format!("pid {}", containerd.pid) };
    let cri = if containerd.cri_is_ready { paint.good("CRI ready") } else { paint.bad("CRI not ready") };
    let mut text = line(paint, "containerd", &format!("{version}, {pid}, {cri}"));
    let parts = [&containerd.unit, &containerd.config_path].into_iter().filter(|part| !part.is_empty());
    add(&mut text, paint, "", &parts.cloned().collect::<Vec<_>>().join(", "));
    text
}

/// A blank line, a label, and lines beside and below it; nothing when there are no lines.
fn section(paint: Paint, label: &str, lines: impl IntoIterator<Item = String>) -> String {
    let mut lines = lines.into_iter();
    let Some(first) = lines.next() else { return String::new() };
    let rest: String = lines.map(|text| below(&text)).collect();
    format!("\n{}{rest}", line(paint, label, &first))
}

fn host(host: &MirroredHost) -> Vec<String> {
    let mut places = host.endpoints.clone();
    places.extend(host.carried_endpoints.iter().map(|endpoint| format!("{endpoint} (the node's own from before)")));
    places.push(if host.falls_back { format!("{} itself", host.host) } else { "nothing else".into() });
    let mut lines = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let (name, order) = if index == 0 { (host.host.as_str(), "") } else { ("", "then ") };
        lines.push(format!("{name:<24} {order}{place}"));
    }
    lines
}

fn mirrors(endpoints: &[EndpointStatus]) -> Vec<String> {
    let width = endpoints.iter().map(|endpoint| endpoint.endpoint.chars().count()).max().unwrap_or(0);
    endpoints.iter().map(|endpoint| format!("{:<width$}  {}", endpoint.endpoint, mirror(endpoint))).collect()
}

fn mirror(endpoint: &EndpointStatus) -> String {
    if !endpoint.error.is_empty() {
        return format!("no answer: {}", endpoint.error);
    }
    let login = match endpoint.login {
        LoginState::None => "no login given",
        LoginState::Unproven => "login not proven",
        LoginState::Accepted => "login accepted",
        LoginState::Refused => "login REFUSED",
    };
    format!("answers, {login}, asks for {}", endpoint.asks_for)
}

fn last_change(change: &LastChange, paint: Paint, now: i64) -> String {
    let kind = &change.outcome.kind;
    let mut lines = vec![format!("generation {}, {kind}, by {}", change.generation, change.who), time(change.time, now)];
    if change.outcome.restarts > 0 {
        let gap = seconds(change.outcome.cri_gap_ms);
        lines.push(format!("containerd restarts: {}, without it for {gap}", change.outcome.restarts));
    }
    let problems = change.outcome.problems.iter().map(ToString::to_string);
    section(paint, "last change", lines.into_iter().chain(problems))
}

fn findings(status: &Status, paint: Paint) -> String {
    let problems = status.problems.iter().map(|problem| finding(problem, &paint.bad("problem")));
    let notices = status.notices.iter().map(|notice| finding(notice, &paint.notable("notice")));
    let all: String = problems.chain(notices).collect();
    if all.is_empty() { all } else { format!("\n{all}") }
}

/// A point in time, and how long ago it was.
fn time(at: i64, now: i64) -> String {
    format!("{} ({})", moment(at), age(now - at))
}

fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "in the future".into(),
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    const SHOWN: &str = "\
condition   in-effect
            containerd asks the mirrors of the spec first
next        nothing to do

proof       containerd's live settings name /etc/containerd/certs.d
spec        /etc/mirrorlet/mirrors.yaml, wanted abababababab, generation 3 in effect
pending     generation 3, gone back from in 470 s unless confirmed
containerd  2.1.4, pid 812, CRI ready
            containerd.service, /etc/containerd/config.toml

hosts       docker.io                https://mirror.example:5000/v2/hub
                                     then http://old.example (the node's own from before)
                                     then docker.io itself
            gcr.io                   https://mirror.example:5000
                                     then nothing else

mirrors     https://mirror.example:5000  answers, login accepted, asks for basic
            http://old.example           no answer: connection refused

last change generation 3, changed, by uid 0 (mirrorctl apply)
            2027-01-15T08:00:00Z (2 min ago)
            containerd restarts: 1, without it for 1.2 s

/etc/mirrorlet/mirrors.yaml:4:5: notice: registryMirrors[0].skipVerify: the certificate of mirror.example:5000 is not checked [spec.skip-verify]
    name its CA instead
";

    #[test]
    fn a_status_reads_from_the_top() {
        assert_eq!(status(&sample::status(), Paint::new(false), 1_800_000_130), SHOWN);
    }

    #[test]
    fn an_empty_status_is_short() {
        let text = status(&Status::default(), Paint::new(false), 0);
        assert!(text.starts_with("condition   no-spec\n") && text.lines().count() < 8, "{text}");
    }

    #[test]
    fn colours_only_when_asked() {
        assert!(!status(&sample::status(), Paint::new(false), 0).contains('\u{1b}'));
        assert!(status(&sample::status(), Paint::new(true), 0).contains("\u{1b}[32min-effect"));
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!([5, 300, 10_000, 400_000].map(age), ["5 s ago", "5 min ago", "2 h ago", "4 days ago"]);
    }
}
