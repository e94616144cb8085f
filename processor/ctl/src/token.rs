//! `sluicectl token new`: a token for a URL, from the random numbers of the operating system, and its hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use sluice_schemas::identity::sha256;

use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;

/// The bytes of a token: nobody guesses 256 bits.
const BYTES: usize = 32;

const NEW: &str = layout!(
    "256 random bits of the operating system, in letters, digits, - and _ alone, so that a sender escapes
nothing in its URL. The hash is for token_sha256; the token is printed here and kept nowhere.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl token new
  $ sluicectl token new --json | jq -r .token_sha256

EXIT STATUS
  0   A token was made
  1   The operating system gave no random numbers
  2   The command line cannot be carried out";

/// The options of `sluicectl token`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Make a token for a source's URL",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a random token and its hash
    #[command(help_template = NEW, after_help = EXAMPLES)]
    New {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Carries the command out.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let Command::New { json } = options.command;
    let token = Token::random()?;
    output::line(&if json {
        json!({"token": token.text, "token_sha256": token.hash()}).to_string()
    } else {
        format!(
            "token         {}\ntoken_sha256  {}",
            token.text,
            token.hash()
        )
    });
    eprintln!("the token stands behind the URL and nowhere else: the settings have its hash");
    Ok(true)
}

/// The token of a URL.
#[derive(Clone)]
pub struct Token {
    /// As it stands in the URL.
    pub text: String,
}

impl Token {
    /// A new one.
    pub fn random() -> Result<Self, Failure> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| {
            Failure::Failed("the operating system gives no random numbers".to_owned())
        })?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self { text })
    }

    /// What `token_sha256` has of it.
    pub fn hash(&self) -> String {
        hex(&sha256(self.text.as_bytes()))
    }
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_no_escape_and_is_like_no_other() {
        let tokens: Vec<Token> = (0..64)
            .map(|_| Token::random().expect("random numbers"))
            .collect();
        let mut texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        for text in &texts {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            assert!(text.len() == 43 && text.bytes().all(plain), "{text}");
        }
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), tokens.len());
    }

    #[test]
    fn the_hash_is_that_of_the_settings() {
        let text = "t0ken".to_owned();
        let expected = "b46c09677343261f0b439a472422225e3a230c9c094d6ab16762e2036b597053";
        assert_eq!(Token { text }.hash(), expected);
    }
}
