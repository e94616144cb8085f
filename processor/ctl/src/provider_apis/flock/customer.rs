//! What is said of a customer: a file or standard input in, its members out. Arguments are visible to all
//! users of a host, so that names and addresses are never among them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The largest file, in bytes.
const LARGEST: u64 = 64 * 1024;

/// The members of a file, each where it stands there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Said {
    pub external_user_id: Option<String>,
    pub customer_id: Option<String>,
    pub referee_id: Option<String>,
    pub referral_code: Option<String>,
    pub email: Option<String>,
    pub name: Option<String>,
    pub custom_properties: Option<Map<String, Value>>,
}

/// Where it stands.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct From {
    /// JSON with what is said of the customer, instead of the flags for it; -: standard input
    #[arg(long, value_name = "FILE")]
    customer_file: Option<PathBuf>,
}

impl From {
    /// Reads the file; without one, nothing is said.
    pub fn read(&self) -> Result<Said, Failure> {
        self.customer_file
            .as_deref()
            .map_or_else(|| Ok(Said::default()), read)
    }
}

/// Reads a file, or standard input.
pub fn read(file: &Path) -> Result<Said, Failure> {
    let (named, content) = if file == Path::new("-") {
        ("standard input".to_owned(), bounded(io::stdin().lock()))
    } else {
        let content = File::open(file).and_then(bounded);
        (file.display().to_string(), content)
    };
    let content =
        content.map_err(|error| Failure::Usage(format!("{named} cannot be read: {error}")))?;
    // The error of the parser may quote what is there.
    let parsed: Result<Said, _> = serde_json::from_slice(&content);
    parsed.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::Usage(format!(
            "{named} is not as it must be at line {line}, column {column}: a JSON object of externalUserId, email, \
             name, customProperties, customerId, refereeId, referralCode and no others"
        ))
    })
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is over {LARGEST} bytes")));
    }
    Ok(content)
}

/// What the flag says or the file does, not both.
pub fn one(flag: Option<&String>, member: Option<&String>, names: &str) -> Result<String, Failure> {
    match (flag, member) {
        (Some(text), None) | (None, Some(text)) if !text.is_empty() => Ok(text.clone()),
        (Some(_), Some(_)) => Err(Failure::Usage(format!("{names}: give one of them"))),
        _ => Err(Failure::Usage(format!("{names}: one is needed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_flags_or_the_files() {
        let (a, empty) = ("a".to_owned(), String::new());
        assert!(one(Some(&a), None, "x").is_ok_and(|text| text == "a"));
        assert!(one(None, Some(&a), "x").is_ok_and(|text| text == "a"));
        for (flag, member) in [(None, None), (Some(&a), Some(&a)), (Some(&empty), None)] {
            assert!(matches!(one(flag, member, "x"), Err(Failure::Usage(_))));
        }
    }
}
