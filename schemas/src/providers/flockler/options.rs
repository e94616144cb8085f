//! The options of one source.

use super::lowercase::Lowercase;
use super::spec::ENVIRONMENTS;
use crate::settings::reader::Node;

/// How the MAC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Any; their lengths differ.
    Auto,
    /// 64 hex digits, as documented.
    Hex,
    /// 44 characters of base64, as the provider's own plugin has it.
    Base64,
    /// 88 characters of base64 over the hex digits, as "base64 hex" may be read.
    Base64Hex,
}

/// The setting `encoding`.
pub const ENCODINGS: [(&str, Encoding); 4] = [
    ("auto", Encoding::Auto),
    ("hex", Encoding::Hex),
    ("base64", Encoding::Base64),
    ("base64_hex", Encoding::Base64Hex),
];

/// One source, with its options.
#[derive(Debug)]
pub struct Source {
    /// The webhook's URL exactly as it was typed in Flockler; all are tried.
    pub webhook_urls: Vec<String>,
    /// Names of files under `secrets_dir` that hold such URLs.
    pub webhook_url_files: Vec<String>,
    /// The environments whose deliveries become events.
    pub environments: Vec<&'static str>,
    pub encoding: Encoding,
    /// What is tried, in this order.
    pub lowercases: &'static [Lowercase],
}

impl Source {
    /// Reads the options.
    pub fn read(options: &mut Node) -> Self {
        let webhook_urls = options.texts("webhook_urls");
        let webhook_url_files = options.texts("webhook_url_files");
        if webhook_urls.is_empty() && webhook_url_files.is_empty() {
            options.fault(
                "webhook_urls",
                "must name the webhook's URL as it was typed in Flockler, here or in webhook_url_files",
            );
        }
        if webhook_urls.iter().any(String::is_empty) {
            options.fault("webhook_urls", "must not hold an empty text");
        }
        if webhook_urls.iter().any(|url| carries_token(url)) {
            options.fault(
                "webhook_urls",
                "must not show a URL with a token: put it into a file and name that in webhook_url_files",
            );
        }
        Self {
            webhook_urls,
            webhook_url_files,
            environments: environments(options),
            encoding: options.choice("encoding", &ENCODINGS, Encoding::Auto),
            lowercases: options.choice("lowercase", &super::lowercase::CHOICES, &Lowercase::ALL),
        }
    }
}

/// Whether it is an verifier of ours, whose URL has the token as its last part.
fn carries_token(url: &str) -> bool {
    let path = url.split_once("/v1/hooks/").map(|(_, path)| path);
    let token = path.and_then(|path| path.split(['?', '#']).next()?.split('/').nth(1));
    token.is_some_and(|token| !token.trim().is_empty())
}

fn environments(options: &mut Node) -> Vec<&'static str> {
    const KEY: &str = "environments";
    if !options.has(KEY) {
        return vec!["production"];
    }
    let named = options.texts(KEY);
    let known = |name: &String| ENVIRONMENTS.into_iter().find(|known| known == name);
    let accepted: Option<Vec<_>> = named.iter().map(known).collect();
    match accepted {
        Some(accepted) if !accepted.is_empty() => accepted,
        _ => {
            let all = ENVIRONMENTS.join(", ");
            options.fault(KEY, format!("must be a list of some of {all}"));
            vec!["production"]
        }
    }
}
