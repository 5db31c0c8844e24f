//! Test pulls.

use super::{below, line, seconds};
use crate::{
    cli::paint::Paint,
    diagnose::test_pull::{PullPhase, PullResult},
};

/// A phase as a person reads it.
#[must_use]
pub const fn phase(phase: PullPhase) -> &'static str {
    match phase {
        PullPhase::Resolving => "resolving",
        PullPhase::Fetching => "fetching",
        PullPhase::Unpacking => "unpacking",
        PullPhase::Cleaning => "cleaning up",
        PullPhase::Done => "done",
    }
}

/// Bytes for people, in powers of ten as registries count them.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut tenths = bytes / 100;
    for unit in UNITS {
        if bytes < 1_000 {
            return format!("{bytes} B");
        }
        if tenths < 10_000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        tenths /= 1_000;
    }
    format!("{} PB", tenths / 10)
}

/// What came of a pull: crictl's line first.
#[must_use]
pub fn pulled(result: &PullResult, paint: Paint) -> String {
    let mut text = format!("Image is up to date for {}\n", result.image_id);
    text.push_str(&line(paint, "name", &result.reference));
    text.push_str(&line(paint, "digest", &result.repo_digest));
    text.push_str(&line(paint, "size", &size(result.size)));
    text.push_str(&line(paint, "time", &seconds(result.elapsed_ms)));
    if let Some((first, rest)) = result.asked_in_order.split_first() {
        text.push_str(&line(paint, "asked", &format!("{first} (these hosts may have been asked, in this order)")));
        text.extend(rest.iter().map(|host| below(host)));
    }
    if !result.removed_names.is_empty() {
        text.push_str(&line(paint, "removed", &result.removed_names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        let shown = [0, 999, 1_000, 4_261_502, 999_999_999, 2_500_000_000, 5_000_000_000_000].map(size);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "4.2 MB", "999.9 MB", "2.5 GB", "5.0 TB"]);
    }

    #[test]
    fn a_pull_begins_with_the_line_of_crictl() {
        let result = PullResult {
            reference: "docker.io/library/busybox:1".into(),
            image_id: "sha256:aa".into(),
            repo_digest: "docker.io/library/busybox@sha256:bb".into(),
            size: 4_261_502,
            elapsed_ms: 1_500,
            removed_names: Vec::new(),
            asked_in_order: vec!["m:5000".into(), "registry-1.docker.io".into()],
        };
        let shown = "\
Image is up to date for sha256:aa
name        docker.io/library/busybox:1
digest      docker.io/library/busybox@sha256:bb
size        4.2 MB
time        1.5 s
asked       m:5000 (these hosts may have been asked, in this order)
            registry-1.docker.io
";
        assert_eq!(pulled(&result, Paint::new(false)), shown);
    }
}
