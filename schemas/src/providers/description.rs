//! What an operator is to know of a provider before there is a source of it, in words. Nothing is judged by
//! it.

/// A provider in words, for the operator's command line.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name as it writes it itself.
    pub title: &'static str,
    /// What it sends.
    pub about: &'static str,
    /// How it signs.
    pub signing: &'static str,
    /// What a secret's file holds.
    pub secret: &'static str,
    /// When it sends a delivery again.
    pub retries: &'static str,
    /// What makes two deliveries the same.
    pub identity: &'static str,
    /// Its options, in the order of its README.
    pub options: &'static [OptionOf],
    /// Where the URL of ours is under its signature: the options that hold it.
    pub signed_url: Option<SignedUrl>,
}

/// One of a provider's options.
#[derive(Debug, Clone, Copy)]
pub struct OptionOf {
    /// Its key under `options`.
    pub name: &'static str,
    /// What holds where it is not set.
    pub default: &'static str,
    /// What it may be, and what that means.
    pub values: &'static str,
}

/// The options that hold the URL as it was typed at the provider.
#[derive(Debug, Clone, Copy)]
pub struct SignedUrl {
    /// A list of URLs.
    pub plain: &'static str,
    /// A list of names of files with such URLs, for those that carry a token.
    pub files: &'static str,
}
