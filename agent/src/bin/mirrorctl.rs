//! The command line.

use std::process::ExitCode;

use mirrorlet::{cli, exit};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_or(exit::FAILED, |runtime| runtime.block_on(cli::run(std::env::args_os()))).into()
}
