//! One request under one source, and the question that each guess about it is put to: does the provider's own
//! code find that a signature fits?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sluice_schemas::providers::signature::Key;
use sluice_schemas::providers::{Credentials, Delivery, Verifier};
use sluice_schemas::raw::{Headers, RawRequest};
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Secret, Settings, Source};
use sluice_service::secrets::Snapshot;

/// A request with all that guesses about it need.
pub struct Case<'a> {
    pub settings: &'a Settings,
    pub source: &'a Source,
    /// The secrets of all sources.
    pub all: Snapshot,
    /// Those of this source that were valid when the request was received.
    pub credentials: Arc<Credentials>,
    /// The contents of its secret files by name, without their last line end.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The content of `--secret-file`.
    pub given: Option<Vec<u8>>,
    pub request: RawRequest,
    pub body: Vec<u8>,
    /// The path and query of the capture, its token included.
    pub path: Option<String>,
    /// When the broker appended the record, ms since 1970; `None` for a capture.
    pub appended: Option<i64>,
}

impl<'a> Case<'a> {
    /// A case of a source that the settings have.
    pub fn new(
        settings: &'a Settings,
        source: &'a Source,
        all: Snapshot,
        request: RawRequest,
        body: Vec<u8>,
    ) -> Self {
        let keyring = all.get(&source.name);
        let valid = keyring.map(|keyring| keyring.at(request.received_at).clone());
        let credentials = Arc::new(valid.unwrap_or_default());
        let secrets = contents(&settings.secrets_dir, source);
        Self {
            settings,
            source,
            all,
            credentials,
            secrets,
            given: None,
            request,
            body,
            path: None,
            appended: None,
        }
    }

    /// The verifier of the source.
    pub fn verifier(&self) -> &dyn Verifier {
        self.source.verifier.as_ref()
    }

    /// The request with other headers.
    pub fn with(&self, headers: Headers) -> RawRequest {
        RawRequest {
            headers,
            ..self.request.clone()
        }
    }

    /// The secrets that fit, by name, next to those that do not, in the order of the settings.
    pub fn secrets_tried(&self) -> Vec<(String, bool)> {
        let one = |key: &Key| {
            let only = only(key, &self.credentials);
            let fits = fits(self.verifier(), &only, &self.request, &self.body);
            (key.name.clone(), fits)
        };
        let keys = self.credentials.keys.iter();
        keys.filter(|key| !key.is_never()).map(one).collect()
    }
}

/// What stands in a source's secret files. One that went away meanwhile is left out.
fn contents(dir: &Path, source: &Source) -> BTreeMap<String, Vec<u8>> {
    let read = |secret: &Secret| {
        let content = sluice_service::secrets::read_secret(dir, &secret.file).ok()?;
        Some((secret.file.clone(), content))
    };
    source.secrets.iter().filter_map(read).collect()
}

/// One secret, with the other files of these credentials.
pub fn only(key: &Key, of: &Credentials) -> Credentials {
    Credentials {
        keys: vec![key.clone()],
        outside: 0,
        files: of.files.clone(),
    }
}

/// What a verifier says: `None` where it is authentic.
pub fn verdict(
    verifier: &dyn Verifier,
    credentials: &Credentials,
    request: &RawRequest,
    body: &[u8],
) -> Option<Refusal> {
    verifier
        .verify(Delivery { request, body }, credentials)
        .err()
}

/// Whether a signature of the request fits, whatever else is wrong with it. It does where a secret makes the
/// difference: under a secret of nobody the same request is a mismatch.
pub fn fits(
    verifier: &dyn Verifier,
    credentials: &Credentials,
    request: &RawRequest,
    body: &[u8],
) -> bool {
    let reason = verdict(verifier, credentials, request, body).map(|refusal| refusal.reason);
    let before = [
        Reason::SignatureMismatch,
        Reason::SignatureMissing,
        Reason::SignatureMalformed,
        Reason::TokenMissing,
    ];
    if reason.is_some_and(|reason| before.contains(&reason)) {
        return false;
    }
    is_compared(verifier, credentials, request, body)
}

/// Whether secrets are tried on a request at all: it has a signature that can be read, and what it is over.
pub fn is_compared(
    verifier: &dyn Verifier,
    credentials: &Credentials,
    request: &RawRequest,
    body: &[u8],
) -> bool {
    let nobodys = only(
        &Key::hmac(b"a secret of nobody, to compare with"),
        credentials,
    );
    let compared = verdict(verifier, &nobodys, request, body).map(|refusal| refusal.reason);
    compared == Some(Reason::SignatureMismatch)
}
