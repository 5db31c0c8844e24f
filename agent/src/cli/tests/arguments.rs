//! What can be typed, and what cannot.

use clap::Parser;

use super::super::arguments::{Cli, command};

#[test]
fn the_definition_holds_together() {
    command().debug_assert();
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn what_can_be_meant_is_understood() {
    for line in [
        "mirrorctl status --watch -o json",
        "mirrorctl --address unix:/tmp/s --timeout 5s status",
        "mirrorctl validate a.yaml b.yaml --color never",
        "mirrorctl render m.yaml --out d --containerd 1.6.20~ds1 --auth token",
        "mirrorctl render m.yaml --out d --layout legacy",
        "mirrorctl plan",
        "mirrorctl plan m.yaml --take-over docker.io --take-over gcr.io",
        "mirrorctl apply m.yaml --wait --etag e --request-id r",
        "mirrorctl disable --dry-run",
        "mirrorctl pull busybox --username u --password-stdin --creds-for m:5000 --keep --expect m:5000 --any",
        "mirrorctl completions bash",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "mirrorctl",
        "mirrorctl validate",
        "mirrorctl render m.yaml",
        "mirrorctl pull busybox --username u",
        "mirrorctl pull busybox --password-stdin",
        "mirrorctl pull busybox --password secret",
        "mirrorctl pull busybox --username u --password-stdin --creds-file f",
        "mirrorctl status --timeout 5",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn the_help_names_every_exit_code() {
    let help = command().render_long_help().to_string();
    for code in 0..=11 {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "{code}");
    }
}
