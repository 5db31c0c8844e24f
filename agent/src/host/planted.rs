//! Bugs on purpose. A build for the tests (feature `planted`) has the one that `MIRRORLET_PLANTED` names, so that each guarantee's test can
//! be seen to fail without it; no other build has any.

/// Whether this bug is planted.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test names the bug by a variable")]
pub fn has(bug: &str) -> bool {
    cfg!(feature = "planted") && std::env::var_os("MIRRORLET_PLANTED").is_some_and(|planted| planted == bug)
}
