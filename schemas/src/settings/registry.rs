//! `schema_registry`: where the event schema is registered.

use std::path::{Path, PathBuf};

use crate::settings::reader::Node;

/// `schema_registry`
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaRegistry {
    /// The base of the registry's API, without a slash at the end.
    pub url: String,
    /// Register the schema where it is missing; else only verify that it is there.
    pub register: bool,
    /// For HTTP basic authentication.
    pub username: Option<String>,
    /// The file with the password: a path, or a name under `secrets_dir`.
    pub password_file: Option<PathBuf>,
    /// A PEM file of the authorities to trust instead of the usual ones.
    pub ca_file: Option<PathBuf>,
}

/// Reads `schema_registry`. `None` where there is none, or without a URL.
pub(super) fn schema_registry(mut node: Node, secrets_dir: &Path) -> Option<SchemaRegistry> {
    let url = node.text("url");
    let register = node.flag("register", true);
    let username = node.text("username");
    let password_file = node.text("password_file");
    let ca_file = node.text("ca_file").map(PathBuf::from);
    if let Some(url) = &url {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            node.fault("url", "must begin with http:// or https://");
        }
        if url.contains(['@', '?', '#']) {
            node.fault(
                "url",
                "must be a base alone: no user, password, query or fragment",
            );
        }
    }
    if username.is_some() != password_file.is_some() {
        let missing = if username.is_some() {
            "password_file"
        } else {
            "username"
        };
        node.fault(
            missing,
            "is needed beside the other of username and password_file",
        );
    }
    node.finish();
    Some(SchemaRegistry {
        url: url?.trim_end_matches('/').to_owned(),
        register,
        username,
        // A name alone is a secret like others; with a slash it is a path, taken as it is.
        password_file: password_file.map(|file| {
            if file.contains('/') {
                PathBuf::from(file)
            } else {
                secrets_dir.join(file)
            }
        }),
        ca_file,
    })
}
