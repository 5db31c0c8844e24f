//! Where the log goes: to journald with its fields under systemd, to standard error elsewhere.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging.
#[expect(clippy::disallowed_methods, reason = "systemd says by a variable where standard error goes")]
pub fn start() {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let journald = under_systemd.then(tracing_journald::layer).and_then(Result::ok);
    let stderr = journald
        .is_none()
        .then(|| tracing_subscriber::fmt::layer().with_target(false).log_internal_errors(false).with_writer(std::io::stderr));
    // Only our own words: libraries speak of frames and sockets.
    let ours = tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("mirrorlet"));
    let _ = tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(journald.with_filter(ours.clone()))
        .with(stderr.with_filter(ours))
        .try_init();
}
