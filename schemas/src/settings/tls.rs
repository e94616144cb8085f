//! `ingest.tls`: the files of the certificate.

use std::path::{Path, PathBuf};

use super::values::file;
use crate::settings::reader::Node;

/// `ingest.tls`: the files of the certificate, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate and those between it and the authority.
    pub cert_file: PathBuf,
    /// PEM: the private key of the certificate.
    pub key_file: PathBuf,
}

/// `None` where the section is not there, or has a fault.
pub(super) fn tls(mut node: Node, secrets_dir: &Path) -> Option<TlsFiles> {
    let cert_file = file(&mut node, "cert_file", secrets_dir);
    let key_file = file(&mut node, "key_file", secrets_dir);
    if cert_file.is_some() != key_file.is_some() {
        let missing = if cert_file.is_some() {
            "key_file"
        } else {
            "cert_file"
        };
        node.fault(
            missing,
            "is needed beside the other of cert_file and key_file",
        );
    }
    node.finish();
    Some(TlsFiles {
        cert_file: cert_file?,
        key_file: key_file?,
    })
}
