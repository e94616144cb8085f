//! TLS: the certificate, read again when it changes, and the authorities of clients' certificates.

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use ring::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use sluice_schemas::settings::{Settings, TlsFiles};

use crate::auth::{AuthorityId, authority_id};
use crate::metrics::Metrics;

/// What is spoken above TLS, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The largest file of certificates or keys, in bytes: some hundred certificates.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The certificate, its key and all authorities, as they were last good.
pub struct Tls {
    current: RwLock<Arc<Current>>,
    watched: Mutex<Watched>,
}

/// Which files, and what they held when they were looked at last.
#[derive(Debug)]
struct Watched {
    files: Files,
    good: [u8; 32],
    bad: Option<[u8; 32]>,
    reported: bool,
}

#[derive(Debug, PartialEq)]
struct Files {
    own: TlsFiles,
    /// A source and its file.
    authorities: Vec<(String, PathBuf)>,
}

/// What connections that begin now are served with.
pub struct Current {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    authorities: Vec<(AuthorityId, Arc<dyn ClientCertVerifier>)>,
}

impl Debug for Tls {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.current())
    }
}

impl Debug for Current {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Current({} authorities)", self.authorities.len())
    }
}

impl Tls {
    /// Reads all files; `None` where the settings ask for no TLS. All faults are reported at once, and
    /// none shows what a file holds.
    pub fn load(settings: &Settings) -> Result<Option<Arc<Self>>, Vec<String>> {
        let Some(files) = Files::new(settings) else {
            return Ok(None);
        };
        let (current, watched) = Watched::begin(files)?;
        Ok(Some(Arc::new(Self {
            current: RwLock::new(Arc::new(current)),
            watched: Mutex::new(watched),
        })))
    }

    /// Goes over to the files that changed settings name. With a fault, or where they ask for no TLS,
    /// all stays as it is. The same files as before are not read: that is what [`Tls::reload`] does, and
    /// a pair that is being replaced now must not keep good settings from being in force.
    pub fn change(&self, settings: &Settings) -> Result<(), Vec<String>> {
        let files = Files::new(settings)
            .ok_or_else(|| vec!["ingest.tls: is turned off by a restart alone".to_owned()])?;
        let mut watched = self.watched.lock();
        if files == watched.files {
            return Ok(());
        }
        let (current, begun) = Watched::begin(files)?;
        *watched = begun;
        self.show(current);
        Ok(())
    }

    fn show(&self, current: Current) {
        *self.current.write() = Arc::new(current);
    }

    /// What a connection that begins now is served with; it goes on with that whatever comes later.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files again. A pair that does not fit may be one that is being replaced, file by
    /// file, so it is reported and counted only when it is found a second time.
    pub fn reload(&self, metrics: &Metrics) {
        let mut watched = self.watched.lock();
        let read = watched.files.read();
        let found = read.as_ref().map_or([0; 32], |contents| hash(contents));
        if found == watched.good {
            if watched.reported {
                tracing::info!("the certificate's files are again those in use");
            }
            (watched.bad, watched.reported) = (None, false);
            return;
        }
        match read.and_then(|contents| current(&watched.files, &contents)) {
            Ok(current) => {
                self.show(current);
                (watched.good, watched.bad, watched.reported) = (found, None, false);
                tracing::info!("a changed certificate is in use");
            }
            Err(_) if watched.bad != Some(found) && !watched.reported => watched.bad = Some(found),
            Err(faults) => {
                metrics.tls_not_reloaded();
                if !watched.reported {
                    tracing::error!(
                        error = faults.join("; "),
                        "the certificate cannot be read and the last good one stays in use: repair its files"
                    );
                    watched.reported = true;
                }
            }
        }
    }
}

impl Watched {
    fn begin(files: Files) -> Result<(Current, Self), Vec<String>> {
        let contents = files.read()?;
        let current = current(&files, &contents)?;
        let watched = Self {
            files,
            good: hash(&contents),
            bad: None,
            reported: false,
        };
        Ok((current, watched))
    }
}

impl Files {
    /// `None` where the settings ask for no TLS.
    fn new(settings: &Settings) -> Option<Self> {
        let own = settings.ingest.tls.clone()?;
        let mut authorities: Vec<(String, PathBuf)> = Vec::new();
        for source in settings.sources.values() {
            // Several sources may trust the same file, which is then looked at once.
            if let Some(file) = &source.client_ca_file
                && !authorities.iter().any(|(_, known)| known == file)
            {
                authorities.push((source.name.clone(), file.clone()));
            }
        }
        Some(Self { own, authorities })
    }

    /// The content of the certificate's file, of the key's and of each authority's.
    fn read(&self) -> Result<Vec<Vec<u8>>, Vec<String>> {
        let own = [
            ("ingest.tls.cert_file".to_owned(), &self.own.cert_file),
            ("ingest.tls.key_file".to_owned(), &self.own.key_file),
        ];
        let others = self
            .authorities
            .iter()
            .map(|(source, file)| (format!("sources.{source}.client_ca_file"), file));
        let mut faults = Vec::new();
        let contents = own
            .into_iter()
            .chain(others)
            .filter_map(|(path, file)| {
                read(file)
                    .map_err(|fault| faults.push(format!("{path}: {fault}")))
                    .ok()
            })
            .collect();
        if faults.is_empty() {
            Ok(contents)
        } else {
            Err(faults)
        }
    }
}

impl Current {
    /// The authorities that stand for the certificate with which a client came. Looked at once a
    /// connection, so that a request is let in or not by the same work.
    pub fn certified(&self, chain: Option<&[CertificateDer<'_>]>) -> Arc<[AuthorityId]> {
        let Some((client, between)) = chain.and_then(<[_]>::split_first) else {
            return Arc::default();
        };
        let now = UnixTime::now();
        self.authorities
            .iter()
            .filter(|(_, trust)| trust.verify_client_cert(client, between, now).is_ok())
            .map(|(id, _)| *id)
            .collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if content.len() as u64 > MAX_PEM_BYTES {
        return Err(format!("{} is over {MAX_PEM_BYTES} bytes", path.display()));
    }
    Ok(content)
}

fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut all = Vec::new();
    for content in contents {
        all.extend_from_slice(digest(&SHA256, content).as_ref());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &all).as_ref());
    hash
}

/// Makes of the files' content, in the order of [`Files::read`], what connections are served with.
fn current(files: &Files, contents: &[Vec<u8>]) -> Result<Current, Vec<String>> {
    let [cert, key, others @ ..] = contents else {
        return Err(vec!["ingest.tls: is not whole".to_owned()]);
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut faults = Vec::new();
    let mut trusted = Vec::new();
    for ((source, file), pem) in files.authorities.iter().zip(others) {
        match trust(pem, &provider) {
            Ok(verifier) => trusted.push((authority_id(file), verifier)),
            Err(fault) => faults.push(format!("sources.{source}.client_ca_file: {fault}")),
        }
    }
    let asks = (!files.authorities.is_empty()).then(|| AnyClient {
        hints: trusted
            .iter()
            .flat_map(|(_, trust)| trust.root_hint_subjects().to_vec())
            .collect(),
        algorithms: provider.signature_verification_algorithms,
    });
    match server_config(cert, key, asks, provider) {
        Ok(config) if faults.is_empty() => Ok(Current {
            config: Arc::new(config),
            authorities: trusted,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(format!(
                "ingest.tls: {fault} ({}, {})",
                files.own.cert_file.display(),
                files.own.key_file.display()
            ));
            Err(faults)
        }
    }
}

fn server_config(
    cert: &[u8],
    key: &[u8],
    asks: Option<AnyClient>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let chain = certificates(cert)?;
    // The parser's error is not reported: it may show some of the key.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "the key is not a private key in PEM".to_owned())?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match asks {
        Some(asks) => builder.with_client_cert_verifier(Arc::new(asks)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    // A sender that closes behind its request has not read a ticket, and then its system resets the
    // connection and throws away what it has not sent yet. So TLS 1.3 has no resumption, and each of its
    // connections makes a full handshake, of which the signature costs most with an RSA key and little
    // with an ECDSA key. TLS 1.2 still resumes by session id, which the handshake itself carries.
    config.send_tls13_tickets = 0;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if found.is_empty() {
        return Err("there is no certificate in the file".to_owned());
    }
    Ok(found)
}

fn trust(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

/// Asks for a client's certificate and takes any whose key the client has, or none: whom it proves
/// is decided for each source ([`Current::certified`]). A handshake that refused a stranger's
/// certificate would close the door of every other source to a sender that shows its own everywhere.
#[derive(Debug)]
struct AnyClient {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _client: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
