//! How far a pull is: a bar on a terminal, else a line for each phase.

use indicatif::{ProgressBar, ProgressStyle};

use super::{output::Output, show};
use crate::diagnose::test_pull::PullPhase;

/// How far a pull is.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Option<PullPhase>,
}

impl Progress {
    /// A bar where somebody sees it.
    pub fn new(output: &Output) -> Self {
        let bar = output.can_show_progress().then(|| ProgressBar::new(0).with_style(style(false)));
        Self { bar, last: None }
    }

    /// Shows where the pull is; `total` is 0 while it is not known.
    pub fn show(&mut self, phase: PullPhase, fetched: u64, total: u64, output: &mut Output) {
        let is_new = self.last.replace(phase) != Some(phase);
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(total > 0));
                bar.set_message(show::pull_phase(phase));
                bar.set_length(total.max(fetched));
                bar.set_position(fetched);
            }
            None if is_new => output.say(|_| line(phase, fetched)),
            None => {}
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(phase: PullPhase, fetched: u64) -> String {
    let phase = show::pull_phase(phase);
    if fetched == 0 { format!("{phase}\n") } else { format!("{phase}, {} so far\n", show::size(fetched)) }
}

/// A style that cannot be parsed would leave the default one.
fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { "{msg:12} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}" } else { "{msg:12} {decimal_bytes}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
