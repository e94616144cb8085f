//! What holds for all commands alike. Comes in: the tree of commands as their options describe it. Goes out:
//! the tree that is parsed, completed and printed.

use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory, value_parser};

use super::Arguments;

/// Commands that use no settings. They take `--config`, as all do, and do not show it.
const WITHOUT_SETTINGS: [&str; 4] = ["token", "providers", "completions", "man"];

/// Values that may begin with a letter's hyphen by mistake, as `-1h` does: their parsers say what is wrong.
const TIMES: [&str; 2] = ["TIME", "DURATION"];

/// All commands.
pub fn command() -> Command {
    Arguments::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        let uses_settings = !WITHOUT_SETTINGS.contains(&name.as_str());
        shaped(command, &name, "", uses_settings)
    })
}

/// A command whose names are `path`, under one with this text behind its help.
fn shaped(command: Command, path: &str, above: &str, uses_settings: bool) -> Command {
    let mut command = command.mut_args(signed);
    if !uses_settings {
        let config = Arg::new("config").long("config").value_name("FILE");
        command = command.arg(config.value_parser(value_parser!(PathBuf)).hide(true));
    }
    let mut behind = command.get_after_help().map(ToString::to_string);
    if behind.is_none() && !above.is_empty() {
        let own = inherited(above, path);
        command = command.after_help(own.clone());
        behind = Some(own);
    }
    let behind = behind.unwrap_or_default();
    command.mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        shaped(below, &path, &behind, uses_settings)
    })
}

/// An argument that takes a number takes one below zero too, and its range says what it must be.
fn signed(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() {
        return arg;
    }
    let names = arg.get_value_names().unwrap_or_default();
    let is_time = names.iter().any(|name| TIMES.contains(&name.as_str()));
    // Where the value may be left out, what follows is a flag.
    if is_time && arg.get_num_args().is_none() {
        arg.allow_hyphen_values(true)
    } else {
        arg.allow_negative_numbers(true)
    }
}

/// Of the text behind a group's help what is of one of its commands: its examples, and the other sections.
fn inherited(above: &str, path: &str) -> String {
    let sections = above.split("\n\n").filter_map(|section| {
        let Some(examples) = section.strip_prefix("EXAMPLES\n") else {
            return Some(section.to_owned());
        };
        // An example ends where the next one begins.
        let own = format!("sluicectl {path}");
        let all = examples.trim_start_matches("  $ ").split("\n  $ ");
        let own: Vec<&str> = all.filter(|example| example.starts_with(&own)).collect();
        (!own.is_empty()).then(|| format!("EXAMPLES\n  $ {}", own.join("\n  $ ")))
    });
    let sections: Vec<String> = sections.collect();
    sections.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &Command, path: &str) {
        let behind = command.get_after_help().map(ToString::to_string);
        let behind = behind.unwrap_or_default();
        for wanted in ["EXAMPLES\n  $ sluicectl", "EXIT STATUS\n  0  ", "\n  2  "] {
            assert!(behind.contains(wanted), "{path}: {wanted}: {behind}");
        }
        for below in command.get_subcommands() {
            check(below, &format!("{path} {}", below.get_name()));
        }
    }

    #[test]
    fn every_command_has_examples_and_says_its_exit_statuses() {
        let mut all = command();
        all.build();
        check(&all, "sluicectl");
    }

    #[test]
    fn a_command_of_a_group_has_its_own_examples() {
        let above =
            "EXAMPLES\n  $ sluicectl a b |\n      jq\n  $ sluicectl a c\n\nEXIT STATUS\n  0   Done";
        assert_eq!(
            inherited(above, "a b"),
            "EXAMPLES\n  $ sluicectl a b |\n      jq\n\nEXIT STATUS\n  0   Done"
        );
        assert_eq!(inherited(above, "a d"), "EXIT STATUS\n  0   Done");
    }

    #[test]
    fn a_number_below_zero_and_a_time_with_a_sign_are_values() {
        for (line, said) in [
            ("send codes --count -1", "not in 1..=10000"),
            ("dead-letters redrive --rate -5", "not in 1..=1000000"),
            ("find x --since -1h", "must be a time with its offset"),
            (
                "rejected list --until -1h",
                "must be a time with its offset",
            ),
            (
                "listen --forward http://h --retry -1s",
                "must be a duration",
            ),
        ] {
            let words = format!("sluicectl {line}");
            let refused = command().try_get_matches_from(words.split(' '));
            let refused = refused.expect_err("no such number").to_string();
            assert!(refused.contains(said), "{line}: {refused}");
        }
        let words = ["sluicectl", "show", "--raw", "-1", "7"];
        assert!(command().try_get_matches_from(words).is_ok());
        let words = ["sluicectl", "send", "codes", "--wait", "--json"];
        assert!(command().try_get_matches_from(words).is_ok());
    }
}
