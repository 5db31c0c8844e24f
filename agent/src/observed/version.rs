//! containerd's version, read leniently: distributions write `1.6.20~ds1`, `v2.3.4`, `2.1.9+ds1`.

use std::fmt;

/// A containerd release. Ordered by its three numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: (u32, u32, u32),
    text: String,
}

impl Version {
    /// Reads a version; `None` when there are no two numbers at its start.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut numbers = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { numbers: (major, minor, patch), text: text.to_owned() })
    }

    /// Whether this is MAJOR.MINOR.PATCH or later.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32, patch: u32) -> bool {
        self.numbers >= (major, minor, patch)
    }

    /// The version as its owner writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Drop-ins replace whole plugin tables before 2.0 (containerd PR #9982).
    #[must_use]
    pub fn merges_drop_ins_deeply(&self) -> bool {
        self.is_at_least(2, 0, 0)
    }

    /// The host's headers go to its token server too, so that a login in hosts.toml reaches a token mirror (containerd 10b4eb4a9, 2.1.0).
    #[must_use]
    pub fn sends_headers_to_token_server(&self) -> bool {
        self.is_at_least(2, 1, 0)
    }

    /// `dial_timeout` is understood, and does not make http hosts be tried by https first (CONTAINERD.md 3.2: 2.0.x does that).
    #[must_use]
    pub fn has_dial_timeout(&self) -> bool {
        self.is_at_least(2, 1, 0)
    }

    /// `registry.configs.*.tls` was removed in 2.0 (d2b7a1e29).
    #[must_use]
    pub fn has_configs_tls(&self) -> bool {
        !self.is_at_least(2, 0, 0)
    }

    /// The CRI's Status shows the registry settings of the running process (CONTAINERD.md 5: no longer on 2.x).
    #[must_use]
    pub fn shows_registry(&self) -> bool {
        !self.is_at_least(2, 0, 0)
    }

    /// The Transfer service looks into the directory of host directories it is given (2.0; 1.7 has the field and does not read it).
    #[must_use]
    pub fn reads_staged_hosts(&self) -> bool {
        self.is_at_least(2, 0, 0)
    }

    /// Pulls go through the transfer service, unless `mirrors` or `configs` are set: then the older code is used.
    #[must_use]
    pub fn has_transfer_service(&self) -> bool {
        self.is_at_least(2, 1, 0)
    }

    /// `config_path` has a default that a file of version 2 cannot take away, so that `mirrors` cost the CRI (2.2.0 and 2.2.1, mended by
    /// a20dead7c; a file of version 3 can say `config_path = ""`).
    #[must_use]
    pub fn forces_config_path(&self) -> bool {
        self.is_at_least(2, 2, 0) && !self.is_at_least(2, 2, 2)
    }

    /// A list of directories in `config_path` is searched; the transfer service, default since 2.1, looks for one directory of that name.
    #[must_use]
    pub fn searches_config_path_list(&self) -> bool {
        !self.is_at_least(2, 1, 0)
    }

    /// An unset `config_path` means `/etc/containerd/certs.d:/etc/docker/certs.d` (2.2.0).
    #[must_use]
    pub fn has_default_config_path(&self) -> bool {
        self.is_at_least(2, 2, 0)
    }

    /// The newest `version = N` of a config file it reads.
    #[must_use]
    pub fn newest_config_version(&self) -> i64 {
        match self.numbers {
            (major, minor, _) if (major, minor) >= (2, 3) => 4,
            (2.., ..) => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_write_versions_their_own_way() {
        for (text, numbers) in
            [("1.6.20~ds1", (1, 6, 20)), ("v2.3.4", (2, 3, 4)), ("2.1.9+ds1", (2, 1, 9)), ("1.7.24~ds1", (1, 7, 24)), ("2.4", (2, 4, 0))]
        {
            let version = Version::parse(text).unwrap();
            assert_eq!(version.numbers, numbers, "{text}");
            assert_eq!(version.as_str(), text);
        }
        assert_eq!(Version::parse("unknown"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn each_release_reads_its_config_versions() {
        let newest = |text| Version::parse(text).unwrap().newest_config_version();
        assert_eq!(
            [newest("1.6.20"), newest("1.7.34"), newest("2.0.11"), newest("2.2.7"), newest("2.3.0"), newest("3.0.0")],
            [2, 2, 3, 3, 4, 4]
        );
    }
}
