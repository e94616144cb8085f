//! The layout of the help: what a command does at length, its synopsis, flags, examples, exit statuses.

/// The layout of the help of a command: what it does at length, and its arguments where it has any.
macro_rules! layout {
    ($text:literal, $($arguments:literal)?) => {
        concat!(
            "{about}\n\n",
            $text,
            "\n\nUSAGE\n  {usage}\n\n",
            $($arguments, "\n{positionals}\n\n",)?
            "FLAGS\n{options}{after-help}\n"
        )
    };
}
pub(crate) use layout;

/// The layout of the help of a command that has commands.
pub const GROUP: &str = "\
{about}

USAGE
  {usage}

COMMANDS
{subcommands}

FLAGS
{options}{after-help}
";
