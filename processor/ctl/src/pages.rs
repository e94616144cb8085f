//! What a package ships next to the binary: completions for shells, and manual pages.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments;
use crate::failure::Failure;
use crate::output;

/// Writes the completions for a shell to standard output.
pub fn completions(shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(), "sluicectl", &mut text);
    output::bytes(&text);
}

/// Writes a manual page for each command into a folder, which must exist.
pub fn man(dir: &Path) -> Result<(), Failure> {
    let mut command = arguments::command();
    command.build();
    write(&command, dir).map_err(|error| {
        let dir = dir.display();
        Failure::Failed(format!("the pages cannot be written to {dir}: {error}"))
    })
}

/// The page of a command, after those of its commands.
fn write(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        write(below, dir)?;
    }
    let described = command.clone().long_about(description(command));
    let man = Man::new(described);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(environment(command).into_bytes());
    page.extend(behind(command).into_bytes());
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    fs::write(dir.join(man.get_filename()), page)
}

/// What a command does, at length: in its help this stands before the synopsis.
fn description(command: &Command) -> String {
    let help = command.clone().render_help().to_string();
    let text = help.split("\n\nUSAGE\n").next();
    text.unwrap_or_default().to_owned()
}

/// The variables that stand for flags.
fn environment(command: &Command) -> String {
    let mut text = String::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
            let (variable, flag) = (escaped(&variable.to_string_lossy()), escaped(flag));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                ".TP\n{variable}\nStands for \\-\\-{flag} where that is not given."
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(".SH ENVIRONMENT\n{text}")
}

/// The sections behind the help, such as examples and exit statuses, line by line.
fn behind(command: &Command) -> String {
    let after = command.get_after_help().map(ToString::to_string);
    let mut text = String::new();
    for section in after.unwrap_or_default().split("\n\n") {
        if let Some((name, lines)) = section.split_once('\n') {
            let _ = writeln!(text, ".SH \"{name}\"\n.nf");
            for line in lines.lines() {
                let _ = writeln!(text, "{}", escaped(line));
            }
            text.push_str(".fi\n");
        }
    }
    text
}

/// A line that the formatter of pages prints as it is.
fn escaped(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    let escaped = escaped.replace('\'', "\\(aq").replace('`', "\\(ga");
    if escaped.starts_with('.') {
        format!("\\&{escaped}")
    } else {
        escaped
    }
}
