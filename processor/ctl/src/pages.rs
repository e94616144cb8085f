//! What a package ships next to the binary: completions for shells, and manual pages.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Writes the completions for a shell to standard output.
pub fn completions(shell: Shell) {
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "sluicectl", &mut io::stdout());
}

/// Writes a manual page for each command into a folder, which must exist.
pub fn man(dir: &Path) -> Result<(), Failure> {
    // Pages have sections of their own, so that the layout of the help is none of theirs.
    clap_mangen::generate_to(Arguments::command(), dir).map_err(|error| {
        let dir = dir.display();
        Failure::Failed(format!("the pages cannot be written to {dir}: {error}"))
    })
}
