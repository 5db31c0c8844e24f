//! `mirrorctl completions`.

use clap_complete::Shell;

use super::{arguments, output::Output};
use crate::exit;

pub fn run(shell: Shell, output: &mut Output) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(), "mirrorctl", &mut script);
    output.print(&String::from_utf8_lossy(&script));
    exit::DONE
}
